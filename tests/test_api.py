"""The functions on frames: ids that are numbers, keywords, texts, and errors that help."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

import trivium
from api_tables import (
    Tables,
    check_examples,
    in_numbers,
    in_polars,
    labels_of,
    numbered,
    same_library,
)
from conftest import MODEL
from trivium.foundation.errors import ConfigError, InputError, WorkspaceError

SHARES = {"seed": 0.4, "train": 0.3, "validation": 0.1, "test": 0.2}
LEXICAL = {"channels": ["dictionary", "bm25"], "depth": 20}
LIBRARIES = pytest.mark.parametrize("library", ["polars", "pandas"])


@pytest.fixture(scope="module")
def market() -> Tables:
    made = trivium.simulate(items=250, queries=120)
    return Tables(made.items, made.queries, made.judgments.drop("rater"))


@LIBRARIES
def test_numbers_as_ids_through_split_mine_and_examples(market: Tables, library: str) -> None:
    tables = numbered(market, library)
    queries = trivium.split(tables.queries, tables.judgments, **SHARES)
    candidates = trivium.mine(tables.items, queries, **LEXICAL)
    labels = labels_of(in_polars(candidates))
    examples = trivium.build_examples(
        candidates,
        labels if library == "polars" else labels.to_pandas(),
        tables.items,
        in_numbers(queries, library),
        tables.judgments,
    )
    assert all(same_library(frame, library) for frame in (queries, candidates, examples))
    assert in_polars(candidates).height > 500
    wanted = {"seed_positive", "easy_positive", "hard_negative", "random_negative"}
    check_examples(in_polars(examples), tables, wanted)


def test_numbers_as_ids_mine_what_strings_mine(market: Tables) -> None:
    numbers = numbered(market, "polars")
    queries = numbers.queries.head(20)
    strings = queries.with_columns(pl.col("query_id").cast(pl.String))
    items = numbers.items.with_columns(pl.col("item_id").cast(pl.String))
    found = trivium.mine(numbers.items, queries, **LEXICAL)
    assert found.height > 100
    assert found.equals(trivium.mine(items, strings, **LEXICAL))


@LIBRARIES
@pytest.mark.parametrize("dealt", [False, True])
def test_numbers_as_ids_in_evaluate(market: Tables, library: str, dealt: bool) -> None:
    tables = numbered(market, library)
    judgments = in_polars(tables.judgments)
    best = judgments.sort(
        ["query_id", "grade", "item_id"], descending=[False, True, False]
    ).with_columns(pl.int_range(1, pl.len() + 1).over("query_id").alias("rank"))
    worst = best.with_columns(pl.col("rank").reverse().over("query_id"))
    runs = {"worst": worst.drop("grade"), "best": best.drop("grade")}
    if library == "pandas":
        runs = {name: run.to_pandas() for name, run in runs.items()}
    queries = (
        in_numbers(trivium.split(tables.queries, tables.judgments), library)
        if dealt
        else tables.queries
    )
    metrics = trivium.evaluate(
        {**runs, "words": "channel:bm25"}, tables.items, queries, tables.judgments, resamples=20
    )
    assert same_library(metrics, library)
    everywhere = in_polars(metrics).filter(pl.col("segment") == "all", measure="nDCG@10")
    values = dict(everywhere.select("system", "value").iter_rows())
    assert values["best"] == pytest.approx(1.0)
    assert values["worst"] < values["best"]
    assert 0.0 < values["words"] < 1.0
    n_judged = judgments["query_id"].n_unique()
    assert everywhere["queries"].n_unique() == 1
    assert (everywhere["queries"][0] < 0.5 * n_judged) == dealt


@pytest.mark.slow
@LIBRARIES
def test_numbers_as_ids_with_a_real_judge(market: Tables, model: str, library: str) -> None:
    tables = numbered(market, library)
    few = in_polars(tables.judgments).filter(pl.col("query_id") < 50)
    judgments = few if library == "polars" else few.to_pandas()
    queries = trivium.split(tables.queries, judgments, **SHARES)
    training = in_polars(queries).filter(pl.col("part") == "train")["query_id"].head(10)
    kept = in_polars(queries).filter(
        (pl.col("part") != "train") | pl.col("query_id").is_in(training.implode())
    )
    queries = in_numbers(kept, library)
    candidates = trivium.mine(tables.items, queries, model=model, depth=20)
    labels = trivium.annotate(
        candidates,
        tables.items,
        queries,
        judgments,
        judges=[{"kind": "cross_encoder", "model": model, "epochs": 1}],
        model=model,
        pairs_per_query=8,
        background=0.0,
    )
    examples = trivium.build_examples(candidates, labels, tables.items, queries, judgments)
    assert all(same_library(frame, library) for frame in (candidates, labels, examples))
    assert set(in_polars(labels)["query_id"]) == set(training)
    assert in_polars(labels).height == 8 * len(training)
    check_examples(in_polars(examples), tables, {"seed_positive", "random_negative"})


def test_simulate_twice_in_one_process() -> None:
    first, second, other = (
        trivium.simulate(items=250, queries=120, seed=seed) for seed in (1, 1, 2)
    )
    assert first.items.equals(second.items)
    assert first.judgments.equals(second.judgments)
    assert not first.items.equals(other.items)


def test_split_takes_the_share_called_seed(market: Tables) -> None:
    def parts(**keywords: Any) -> pl.DataFrame:
        return trivium.split(market.queries, market.judgments, **keywords)

    taught = ["seed", "calibration", "tuning", "agreement"]
    dealt = parts(**SHARES)
    judged = market.judgments["query_id"].n_unique()
    assert abs(dealt["part"].is_in(taught).sum() - SHARES["seed"] * judged) < 0.05 * judged
    more = {"seed": 0.8, "train": 0.0, "validation": 0.1, "test": 0.1}
    assert parts(**more)["part"].is_in(taught).sum() > 1.5 * dealt["part"].is_in(taught).sum()
    assert parts(**SHARES, random_state=0).equals(dealt)
    assert not parts(**SHARES, random_state=1).equals(dealt)
    with pytest.raises(ConfigError, match="must be 1"):
        parts(seed=0.9)


def test_split_takes_the_shares_of_the_segments(market: Tables) -> None:
    unknown = market.queries.drop("segment")
    everything = trivium.split(unknown, market.judgments, head_share=1.0, torso_share=1.0)
    assert set(everything["segment"]) == {"head"}
    assert set(trivium.split(unknown, market.judgments)["segment"]) == {"head", "torso", "tail"}


@pytest.fixture(scope="module")
def mined(market: Tables) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Queries with parts, and candidates."""
    queries = trivium.split(market.queries, market.judgments)
    return queries, trivium.mine(market.items, queries, **LEXICAL)


def test_unknown_ids_are_named(
    market: Tables, mined: tuple[pl.DataFrame, pl.DataFrame], tmp_path: Path
) -> None:
    queries, candidates = mined
    strange = candidates.with_columns(
        pl.when(pl.int_range(pl.len()) == 0)
        .then(pl.lit("nobody"))
        .otherwise("query_id")
        .alias("query_id"),
        pl.when(pl.int_range(pl.len()) == 1)
        .then(pl.lit("nothing"))
        .otherwise("item_id")
        .alias("item_id"),
    )
    with pytest.raises(InputError) as annotating:
        trivium.annotate(strange, market.items, queries, market.judgments, model=MODEL)
    labels = labels_of(candidates)
    with pytest.raises(InputError) as building:
        trivium.build_examples(strange, labels, market.items, queries, market.judgments)
    examples = trivium.build_examples(candidates, labels, market.items, queries, market.judgments)
    examples = examples.with_columns(item_id=pl.lit("nothing")).unique(["query_id"])
    with pytest.raises(InputError) as training:
        trivium.train(
            examples, market.items, queries, market.judgments, output=tmp_path / "t", model=MODEL
        )
    for error in (annotating.value, building.value):
        assert [fault.where for fault in error.faults] == [
            "candidates: column 'query_id'",
            "candidates: column 'item_id'",
        ]
        assert [fault.got for fault in error.faults] == [
            "1 row(s) with unknown ids such as 'nobody'",
            "1 row(s) with unknown ids such as 'nothing'",
        ]
    (fault,) = training.value.faults
    assert fault.where == "examples: column 'item_id'"
    assert not (tmp_path / "t").exists()


def test_a_column_of_the_users_called_text(market: Tables) -> None:
    lines = pl.format("zyxw{}", pl.int_range(pl.len())).alias("text")
    items = market.items.with_columns(lines)
    queries = pl.DataFrame({"query_id": ["q1", "q2"], "query": ["zyxw3", "zyxw8"]})
    wanted = items["item_id"].gather([3, 8]).to_list()
    read = {"item_text": ["{text}"]}
    found = trivium.mine(items, queries, channels=["bm25"], depth=5, **read)
    found = found.filter(pl.col("rank_bm25") == 1).sort("query_id")
    assert found["item_id"].to_list() == wanted
    assert trivium.mine(items, queries, channels=["bm25"], depth=5).is_empty()
    grades = pl.DataFrame({"query_id": ["q1", "q2"], "item_id": wanted, "grade": [4, 4]})
    metrics = trivium.evaluate(
        {"words": "channel:bm25"}, items, queries, grades, resamples=20, **read
    )
    (value,) = metrics.filter(pl.col("segment") == "all", measure="nDCG@10")["value"]
    assert value == 1.0


def test_evaluate_reads_texts_to_the_models_own_limit() -> None:
    things = ["garden hose", "wedding dress", "laptop charger", "coffee beans", "bicycle helmet"]
    items = pl.DataFrame(
        {"item_id": [f"i{i}" for i in range(5)], "title": ["new " * 80 + t for t in things]}
    )
    queries = pl.DataFrame({"query_id": [f"q{i}" for i in range(5)], "query": things})
    grades = pl.DataFrame(
        {"query_id": queries["query_id"], "item_id": items["item_id"], "grade": [4] * 5}
    )

    def ndcg(**keywords: Any) -> float:
        metrics = trivium.evaluate(
            {"tower": MODEL}, items, queries, grades, cutoff=1, resamples=20, **keywords
        )
        (value,) = metrics.filter(pl.col("segment") == "all", measure="nDCG@1")["value"]
        return float(value)

    assert ndcg() == 1.0
    assert ndcg(max_length=64) == pytest.approx(0.2)  # all texts alike: the first by id
    with pytest.raises(ConfigError, match="max_length"):
        ndcg(max_length=0)


def test_keywords_that_a_function_does_not_take(market: Tables) -> None:
    with pytest.raises(ConfigError) as wrong:
        trivium.mine(market.items, market.queries, depht=3, risk=0.2, workers=4)
    misspelt, elsewhere, nowhere = wrong.value.faults
    assert misspelt.where == "trivium.mine: depht"
    assert misspelt.fix == "did you mean 'depth'?"
    assert elsewhere.got == "a setting of trivium.annotate"
    assert elsewhere.fix == "pass it to trivium.annotate"
    assert nowhere.got == "unknown keyword 'workers'"
    assert "tfidf_low" in nowhere.expected
    assert "queries" not in nowhere.expected.split(", ")


def test_annotate_refuses_what_needs_the_candidates_of_judged_queries(
    market: Tables, mined: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    queries, candidates = mined
    with pytest.raises(ConfigError, match="deep"):
        trivium.annotate(candidates, market.items, queries, market.judgments, deep=0.5)


def test_settings_of_the_other_sections_that_a_function_reads(
    market: Tables, mined: tuple[pl.DataFrame, pl.DataFrame]
) -> None:
    queries, candidates = mined
    low = trivium.mine(market.items, queries, **LEXICAL, tfidf_low=0.01, tfidf_high=0.15)
    similar = low.filter(pl.col("channels") == 0)["tfidf"]
    assert len(similar) > 0
    assert similar.is_between(0.01, 0.15).all()
    assert candidates.filter(pl.col("channels") == 0, pl.col("tfidf") < 0.15).is_empty()
    levels = {
        name: trivium.build_examples(
            candidates,
            labels_of(candidates),
            market.items,
            queries,
            market.judgments,
            lexical=["dictionary"] if name == "swapped" else ["dictionary", "bm25"],
            dense=["bm25"] if name == "swapped" else ["dense"],
        )["level"].value_counts(sort=True)
        for name in ("swapped", "default")
    }
    assert not levels["swapped"].equals(levels["default"])


def test_mine_keeps_to_the_queries_that_the_catalog_knows(
    market: Tables, capfd: pytest.CaptureFixture[str]
) -> None:
    queries = pl.DataFrame(
        {"query_id": [1, 2], "query": [market.items["title"][0], "qqqq wwww xxxx"]}
    )
    found = trivium.mine(market.items, queries, **LEXICAL, min_coverage=0.9)
    assert set(found["query_id"]) == {"1"}
    assert (
        "queries set aside, no item has 90% of their words: 1, such as 'qqqq"
        in capfd.readouterr().err
    )


@pytest.mark.parametrize(
    "items",
    [
        "items.csv",
        pd.Series([1, 2]),
        pd.DataFrame({"item_id": [1, "a"], "title": ["x", "y"]}),
        pd.DataFrame({"item_id": [1.5, None], "title": ["x", "y"]}),
    ],
)
def test_what_is_no_table_is_explained(market: Tables, items: Any) -> None:
    with pytest.raises(InputError, match="fix:"):
        trivium.mine(items, market.queries, **LEXICAL)


def test_budgets_and_a_pilot_of_annotation(
    market: Tables, mined: tuple[pl.DataFrame, pl.DataFrame], capfd: pytest.CaptureFixture[str]
) -> None:
    queries, candidates = mined
    tables = market.items, queries, market.judgments
    several = candidates["query_id"].unique().sort().head(20)
    few = candidates.filter(pl.col("query_id").is_in(several.implode()))
    judges = [{"kind": "features", "model": "", "rounds": 5}]
    settings = {"judges": judges, "model": MODEL, "pairs_per_query": 6, "background": 0.0}
    budgets = {"hard_negative": 0, "none": 1}
    with pytest.raises(ConfigError, match="'dens'"):
        trivium.annotate(few, *tables, budgets={"dens": 1}, **settings)
    with pytest.raises(ConfigError, match="'dense'"):  # these candidates have no such channel
        trivium.annotate(few, *tables, budgets={"dense": 1}, **settings)
    for pilot in (0.0, 0.3):
        labels = trivium.annotate(few, *tables, budgets=budgets, pilot=pilot, **settings)
        assert ("of levels in turn" in capfd.readouterr().err) == (pilot > 0)
        assert set(labels["query_id"]) == set(several)
        assert labels.group_by("query_id").len()["len"].max() <= 6
        found = few.join(labels, on=["query_id", "item_id"]).filter(channels=0)
        assert found.height == 0 or found.group_by("query_id").len()["len"].max() == 1
        assert labels.select("query_id", "item_id").is_duplicated().sum() == 0


@pytest.mark.slow
def test_a_kept_judge_is_given_back_and_never_mixed_up(
    market: Tables,
    mined: tuple[pl.DataFrame, pl.DataFrame],
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queries, candidates = mined
    few = candidates.filter(pl.col("query_id") == candidates["query_id"][0])

    def annotate(**changed: Any) -> pl.DataFrame:
        judge = {"kind": "cross_encoder", "model": model, "epochs": 0.3, "max_length": 24}
        judged: pl.DataFrame = trivium.annotate(
            few,
            market.items,
            queries,
            market.judgments,
            folder=tmp_path / "judge",
            model=model,
            judges=[judge | changed],
            pairs_per_query=8,
        )
        return judged

    labels = annotate()
    fit = "trivium.adapters.judges.cross_encoder.CrossEncoderJudge.fit"
    with monkeypatch.context() as patched:
        patched.setattr(fit, None)  # it must not fit again
        assert annotate().equals(labels)
        with pytest.raises(TypeError):
            annotate(epochs=0.6)
    assert not annotate(epochs=0.6).equals(labels)
    assert annotate().equals(labels)


def test_train_refuses_the_folder_of_another_training(
    market: Tables,
    mined: tuple[pl.DataFrame, pl.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*_arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trivium.stages.train.train", killed)
    queries, candidates = mined
    examples = trivium.build_examples(
        candidates, labels_of(candidates), market.items, queries, market.judgments
    )

    def train(asked: pl.DataFrame = queries, **keywords: Any) -> None:
        trivium.train(
            examples,
            market.items,
            asked,
            market.judgments,
            output=tmp_path / "tower",
            model=MODEL,
            **keywords,
        )

    with pytest.raises(KeyboardInterrupt):
        train()
    with pytest.raises(KeyboardInterrupt):
        train()  # the same one carries on
    with pytest.raises(WorkspaceError, match="cutoff: 10 -> 5"):
        train(cutoff=5)
    with pytest.raises(WorkspaceError, match="input queries changed"):
        train(queries.with_columns(pl.col("query") + " new"))


def test_the_version_is_that_of_the_installed_package() -> None:
    assert trivium.__version__ == importlib.metadata.version("trivium")
    assert "__version__" not in vars(trivium)
