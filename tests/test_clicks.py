"""Simulated clicks follow their model, and clicks make the examples that they should."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from trivium.domain.clicks import (
    SEARCHES_PER_QUERY,
    ClickModel,
    ClickRule,
    click_positives,
    click_sizes,
    draw_clicks,
    draw_grades,
    simulate_traffic,
)
from trivium.foundation.errors import InputError
from trivium.foundation.tables import CLICKS, EXAMPLES, validate
from trivium.stages.clicks import GradeSources, read_clicks, simulate_clicks, true_grades

PAIR = ["query_id", "item_id"]
QUERIES = [f"q{n:03}" for n in range(60)]
GRADE_SCHEMA = {"query_id": pl.String, "item_id": pl.String, "grade": pl.Int8}


@pytest.fixture(scope="module")
def shown() -> pl.DataFrame:
    """Twelve items for each of sixty queries, of every grade at every rank."""
    ranks = pl.DataFrame({"rank": np.arange(1, 13, dtype=np.int32)})
    rng = np.random.default_rng(0)
    pairs = pl.DataFrame({"query_id": QUERIES}).join(ranks, how="cross")
    return pairs.with_columns(
        pl.format("i{}", "rank").alias("item_id"),
        pl.Series("grade", rng.integers(0, 5, pairs.height), dtype=pl.Int8),
    )


def traffic(searches: int) -> pl.DataFrame:
    return pl.DataFrame({"query_id": QUERIES, "searches": [searches] * len(QUERIES)})


def asked(*frequencies: int | None) -> pl.DataFrame:
    ids = [f"q{n:03}" for n in range(len(frequencies))]
    return pl.DataFrame({"query_id": ids, "frequency": pl.Series(frequencies, dtype=pl.Int64)})


# --- The model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 1.0, 1.7])
@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
def test_the_probability_is_the_formula_of_its_sources(eta: float, noise: float) -> None:
    model = ClickModel(eta=eta, noise=noise)
    for rank in (1, 2, 10, 100):
        for grade, gain in enumerate((0, 1 / 15, 3 / 15, 7 / 15, 1)):
            expected = (1 / rank) ** eta * (noise + (1 - noise) * gain)
            made = model.probability(np.array([rank]), np.array([grade], dtype=np.int8))
            assert made[0] == pytest.approx(expected)


def test_click_rates_are_those_of_the_model(shown: pl.DataFrame) -> None:
    model, searches = ClickModel(shown=10), 4000
    made = draw_clicks(shown, traffic(searches), model, seed=3)
    assert validate(made, CLICKS).height == 10 * len(QUERIES)
    assert made["rank"].max() == 10
    joined = made.join(shown.drop("rank"), on=PAIR)
    rates = model.probability(joined["rank"].to_numpy(), joined["grade"].to_numpy())
    spread = np.sqrt(searches * rates * (1 - rates)).clip(1)
    off = (joined["clicks"].to_numpy() - searches * rates) / spread
    assert np.abs(off).max() < 4.5
    assert np.sqrt(np.mean(off**2)) == pytest.approx(1, abs=0.12)


def test_clicks_of_a_query_depend_on_nothing_but_it(shown: pl.DataFrame) -> None:
    whole = draw_clicks(shown, traffic(20), ClickModel(), seed=1)
    some = shown.filter(pl.col("query_id").is_in(QUERIES[10:20])).sample(fraction=1, shuffle=True)
    part = draw_clicks(some, traffic(20).reverse(), ClickModel(), seed=1)
    assert_frame_equal(whole.filter(pl.col("query_id").is_in(QUERIES[10:20])), part)
    assert not draw_clicks(shown, traffic(20), ClickModel(), seed=2).equals(whole)


# --- The traffic ---------------------------------------------------------------------------------


def test_known_frequencies_are_the_searches() -> None:
    made = simulate_traffic(asked(500, 300, None, 100, 0), ClickModel(), seed=0)
    assert made["searches"].to_list() == [500, 300, 1, 100, 0]
    assert made["segment"].to_list() == ["head", "torso", "tail", "torso", "tail"]


def test_a_known_segment_stays() -> None:
    given = asked(5, 4).with_columns(segment=pl.Series(["tail", None], dtype=pl.String))
    assert simulate_traffic(given, ClickModel(), seed=0)["segment"].to_list() == ["tail", "torso"]


def test_a_stated_total_is_spread_as_the_frequencies_are() -> None:
    frequencies = [6000, 3000, *[1] * 1000]
    made = simulate_traffic(asked(*frequencies), ClickModel(searches=1000), seed=5)["searches"]
    assert made[0] == pytest.approx(600, abs=100)
    assert made[1] == pytest.approx(300, abs=70)
    assert made[2:].sum() == pytest.approx(100, abs=40)
    assert (made[2:] == 0).mean() > 0.85  # the tail that no log has seen


def test_unknown_frequencies_follow_zipf() -> None:
    count = 5000
    queries = pl.DataFrame({"query_id": [f"q{n}" for n in range(count)]})
    made = simulate_traffic(queries, ClickModel(), seed=0)
    assert made["searches"].sum() == pytest.approx(SEARCHES_PER_QUERY * count, rel=0.02)
    ordered = np.sort(made["searches"].to_numpy())[::-1]
    slope = np.polyfit(np.log(np.arange(1, 301)), np.log(ordered[:300]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.05)
    steeper = simulate_traffic(queries, ClickModel(zipf=1.5), seed=0)
    assert steeper["searches"].max() > 2 * made["searches"].max()
    assert made.filter(segment="tail").height > 10 * made.filter(segment="head").height
    assert (made.filter(segment="tail")["searches"] == 0).any()
    other = simulate_traffic(queries, ClickModel(), seed=1)
    assert other["searches"].arg_max() != made["searches"].arg_max()


# --- The grades ----------------------------------------------------------------------------------


def test_grades_are_drawn_from_the_distribution_once() -> None:
    p = [0.1, 0.0, 0.2, 0.3, 0.4]
    ids = [f"i{n}" for n in range(4000)]
    table = pl.DataFrame({"query_id": ["q"] * 4000, "item_id": ids, "p": [p] * 4000})
    drawn = draw_grades(table, seed=0)
    shares = [(drawn["grade"] == grade).mean() for grade in range(5)]
    assert shares == pytest.approx(p, abs=0.03)
    assert shares[1] == 0
    again = draw_grades(table.reverse().head(100), seed=0)
    assert_frame_equal(again, drawn.join(again, on=PAIR, how="semi"), check_row_order=False)
    assert not draw_grades(table, seed=1).equals(drawn)
    sure = table.with_columns(p=pl.Series([[0.0, 0.0, 0.0, 1.0, 0.0]] * 4000))
    assert set(draw_grades(sure, seed=0)["grade"]) == {3}


def grades(*rows: tuple[str, str, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=GRADE_SCHEMA, orient="row")


def test_the_first_source_that_has_a_pair_gives_its_grade() -> None:
    pairs = pl.DataFrame({"query_id": list("aabbc"), "item_id": list("xyxyx")})
    distributions = pairs.with_columns(p=pl.Series([[0.0, 1.0, 0.0, 0.0, 0.0]] * 5))
    truth, human = grades(("a", "x", 4)), grades(("a", "y", 3), ("b", "x", 2))
    made = true_grades(pairs, GradeSources(truth, human, distributions.head(4), unknown=3), 0)
    assert made.rows() == [
        ("a", "x", 4, "truth"),
        ("a", "y", 0, "truth"),
        ("b", "x", 2, "judgments"),
        ("b", "y", 1, "drawn"),
        ("c", "x", 3, "unknown"),
    ]


def test_pairs_without_a_grade_are_refused() -> None:
    pairs = pl.DataFrame({"query_id": ["a", "b"], "item_id": ["x", "x"]})
    with pytest.raises(InputError, match="1 of 2 pairs, such as 'b', 'x'"):
        true_grades(pairs, GradeSources(truth=grades(("a", "x", 4))), 0)


def test_a_simulation_counts_what_it_made(shown: pl.DataFrame) -> None:
    queries = pl.DataFrame({"query_id": [*QUERIES, "unseen"], "frequency": [*range(60), 9]})
    sources = GradeSources(judgments=shown.select(*PAIR, "grade"))
    made = simulate_clicks(queries, shown.drop("grade"), sources, ClickModel(shown=5), seed=0)
    assert made.sources == {"judgments": 5 * len(QUERIES)}
    assert made.clicks["rank"].max() == 5
    assert set(made.clicks["query_id"]) == {*QUERIES} - {"q000"}
    assert made.sizes["queries"].sum() == made.traffic.height == 61
    assert made.sizes["searches"].sum() == sum(range(60)) + 9
    assert made.sizes["clicks"].sum() == made.clicks["clicks"].sum()
    on_good = made.clicks.join(shown.filter(pl.col("grade") >= 3), on=PAIR)["clicks"].sum()
    assert (made.sizes["relevant"] * made.sizes["clicks"]).sum() == pytest.approx(on_good)
    with pytest.raises(InputError, match="no item for any of the queries"):
        simulate_clicks(queries.tail(1), shown, sources, ClickModel(), seed=0)


def test_a_segment_without_clicks_has_no_share() -> None:
    none = pl.DataFrame(schema=dict(CLICKS.columns))
    quiet = pl.DataFrame({"query_id": ["a"], "searches": [3], "segment": ["tail"]})
    assert click_sizes(none, quiet, grades()).rows() == [("tail", 1, 3, 0, 0, None)]


# --- Examples ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", [ClickRule(), ClickRule(1, 0.0), ClickRule(3, 1.0), ClickRule(1, 1.5)]
)
def test_click_positives_equal_a_plain_reference(shown: pl.DataFrame, rule: ClickRule) -> None:
    clicks = draw_clicks(shown, traffic(9), ClickModel(), seed=0)
    by_rank, impressions = Counter(), Counter()
    for row in clicks.to_dicts():
        by_rank[row["rank"]] += row["clicks"]
        impressions[row["rank"]] += row["impressions"]
    expected = set()
    for row in clicks.to_dicts():
        usual = row["impressions"] * by_rank[row["rank"]] / impressions[row["rank"]]
        over = row["clicks"] >= rule.min_over_expected * usual
        if row["clicks"] and row["clicks"] >= rule.min_clicks and over:
            expected.add((row["query_id"], row["item_id"]))
    made, left_out = click_positives(clicks, rule)
    assert set(made.select(PAIR).rows()) == expected
    assert 0 < made.height == len(expected) < clicks.height
    assert sum(left_out.values()) == (clicks["clicks"] > 0).sum() - made.height
    assert validate(made, EXAMPLES).equals(made)
    assert set(made.select("level", "grade", "source").rows()) == {("click_positive", 3, "clicks")}


def test_clicks_without_impressions_or_rank_need_the_floor_alone() -> None:
    bare = pl.DataFrame({"query_id": list("aab"), "item_id": list("xyx"), "clicks": [5, 1, 2]})
    made, left_out = click_positives(bare)
    assert made.select(PAIR).rows() == [("a", "x"), ("b", "x")]
    assert left_out == {"fewer than 2 clicks": 1}
    assert made["reason"][0] == "5 clicks in ? impressions at rank ?"
    partly = bare.with_columns(impressions=pl.Series([10, None, 9]), rank=pl.Series([1, 1, None]))
    assert click_positives(partly)[0].height == 2


# --- Tables of one's own -------------------------------------------------------------------------


def test_days_of_a_real_log_are_added_up(tmp_path: Path) -> None:
    rows = ("query_id,item_id,clicks,impressions,rank", "a,x,1,10,1", "a,x,2,20,3", "b,x,0,5,1")
    (tmp_path / "log.csv").write_text("\n".join(rows))
    made = read_clicks([tmp_path / "log.csv"])
    assert made.rows() == [("a", "x", 3, 30, 2), ("b", "x", 0, 5, 1)]
    (tmp_path / "bare.csv").write_text("query_id,item_id,clicks\na,x,2\n")
    assert read_clicks([tmp_path / "bare.csv"]).rows() == [("a", "x", 2)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("query_id,item_id\na,x\n", "column 'clicks'"),
        ("query_id,item_id,clicks\na,x,-1\n", "numbers below 0"),
        ("query_id,item_id,clicks\na,x,many\n", "'many'"),
        ("query_id,item_id,clicks\na,x,0\n", "not one click"),
    ],
)
def test_faulty_logs_are_explained(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_clicks([tmp_path / "log.csv"])


# --- The command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mined(market, cli, tmp_path_factory) -> Path:
    """A run of two lexical channels, mined in several shards."""
    run = tmp_path_factory.mktemp("clicks") / "run"
    options = ("--set", 'mine.channels=["dictionary", "bm25"]', "--set", "run.shard=9")
    done = cli("mine", run, "-c", market / "trivium.toml", *options)
    assert done.code == 0, done.err
    return run


def test_clicks_on_a_run_are_written_and_said_to_be_simulated(cli, mined, market, tmp_path):
    out, seen = tmp_path / "clicks.parquet", tmp_path / "traffic.parquet"
    options = ("--truth", market / "truth.parquet", "--shown", 20, "--seed", 4)
    done = cli("clicks", mined, *options, "-o", out, "--traffic", seen)
    assert done.code == 0, done.err
    made = pl.read_parquet(out)
    candidates = pl.read_parquet(mined / "mine" / "candidates" / "part-*.parquet")
    ranked = candidates.filter(pl.col("rank_bm25") <= 20)
    assert_frame_equal(
        made.select(*PAIR, "rank"),
        ranked.select(*PAIR, rank="rank_bm25"),
        check_row_order=False,
    )
    asked_for = pl.read_parquet(mined / "mine" / "queries.parquet")
    frequencies = asked_for.select("query_id", "frequency")
    joined = made.join(frequencies, on="query_id")
    assert joined.filter(pl.col("impressions") != pl.col("frequency")).is_empty()
    assert set(pl.read_parquet(seen)["segment"]) == {"head", "torso", "tail"}
    facts = json.loads(pl.read_parquet_metadata(out)["trivium"])
    assert facts["simulated"] is True
    assert (facts["channel"], facts["shown"], facts["seed"]) == ("bm25", 20, 4)
    for words in ("no shopper is real", f"truth {made.height:,}", "clicks or more"):
        assert words in done.err
    assert "tail" in done.out
    assert read_clicks([out])["clicks"].sum() == made["clicks"].sum()


def test_fewer_searches_leave_the_tail_without_clicks(cli, mined, market, tmp_path):
    out, seen = tmp_path / "clicks.parquet", tmp_path / "traffic.parquet"
    options = ("--truth", market / "truth.parquet", "--searches", 60, "--channel", "dictionary")
    done = cli("clicks", mined, *options, "-o", out, "--traffic", seen, "--quiet")
    assert done.code == 0, done.err
    assert done.err == done.out == ""
    table = pl.read_parquet(seen)
    assert (table.filter(segment="tail")["searches"] == 0).any()
    assert set(pl.read_parquet(out)["query_id"]) <= set(
        table.filter(pl.col("searches") > 0)["query_id"]
    )


def test_what_is_missing_is_explained(cli, mined, market, tmp_path):
    truth, out = ("--truth", market / "truth.parquet"), tmp_path / "clicks.parquet"
    to = ("-o", out)
    cli("clicks", mined, *to).explains(3, ["--truth", "--probabilities"])
    cli("clicks", mined, *truth, *to, "--channel", "prod").explains(3, ["prod", "bm25"])
    cli("clicks", tmp_path / "none", *truth, *to).explains(5, ["no such run folder"])
    cli("clicks", mined, *truth, "-o", tmp_path / "c.csv").explains(5, [".parquet"])
    rated = ("--judgments", market / "judgments.parquet")
    cli("clicks", mined, *rated, *to).explains(3, ["of a judge", "--unknown"])
    out.write_bytes(b"mine")
    cli("clicks", mined, *truth, *to).explains(5, ["--overwrite"])
    assert out.read_bytes() == b"mine"
    assert cli("clicks", mined, *rated, "--unknown", 0, *to, "--overwrite").code == 0


def test_a_judge_can_give_the_grades(cli, mined, tmp_path):
    pairs = pl.read_parquet(mined / "mine" / "candidates" / "part-*.parquet").select(PAIR)
    place, out = tmp_path / "judge.parquet", tmp_path / "clicks.parquet"
    asked_of = pairs.with_columns(p=pl.Series([[0.2] * 5] * pairs.height))
    asked_of.write_parquet(place)
    done = cli("clicks", mined, "--probabilities", place, "-o", out)
    assert done.code == 0, done.err
    assert "drawn" in done.err
    short = asked_of.with_columns(p=pl.Series([[0.2, 0.2, 0.2, 0.2, 0.9]] * pairs.height))
    short.write_parquet(place)
    again = cli("clicks", mined, "--probabilities", place, "-o", out, "--overwrite")
    again.explains(3, ["column 'p'", "that make 1"])
    pairs.write_parquet(place)
    again = cli("clicks", mined, "--probabilities", place, "-o", out, "--overwrite")
    again.explains(3, ["column 'p'", "judge.parquet"])
