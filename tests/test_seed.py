"""`trivium seed`: pick pairs of a small run, have them rated, read the ratings."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from conftest import MODEL
from trivium.adapters.rating_files import SHEET, read_sheet, write_sheet
from trivium.domain.worth import RANDOM, describe
from trivium.foundation import tables
from trivium.foundation.config import parse_config
from trivium.foundation.errors import ConfigError
from trivium.foundation.workspace import Workspace, write_json, write_table
from trivium.simulation.marketplace import Marketplace, simulate
from trivium.stages.inputs import RawTables, prepare, read_inputs
from trivium.stages.mine import mine
from trivium.stages.seed import pick, pick_from_run, summary

KEY = ["query_id", "item_id"]
CONFIG = parse_config({"mine": {"model": MODEL, "depth": 40}, "run": {"seed": 5}})


@pytest.fixture(scope="module")
def shop_market() -> Marketplace:
    return simulate(items=600, queries=120, judged=120, seed=4)


@pytest.fixture(scope="module")
def mined(shop_market: Marketplace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run in which `mine` is done and six queries are judged; tests only read it."""
    workspace = Workspace(tmp_path_factory.mktemp("seed") / "run")
    some = shop_market.judgments["query_id"].unique().sort().head(6)
    judged = shop_market.judgments.filter(pl.col("query_id").is_in(some.implode()))
    made = prepare(RawTables(shop_market.items, shop_market.queries, judged, judged), CONFIG)
    queries = made.queries.with_columns(part=pl.lit("train"))
    found = mine(made.items.drop("judge_text"), queries, CONFIG.mine, CONFIG.data)
    inputs, stage = workspace.stage("inputs"), workspace.stage("mine")
    for name in ("items", "judgments"):
        write_table(inputs.table_path(name), getattr(made, name))
    write_table(inputs.table_path("queries"), queries)
    half = found["query_id"].unique().sort()[60]
    for number, part in enumerate((pl.col("query_id") < half, pl.col("query_id") >= half)):
        write_table(stage.shard_path("candidates", number), found.filter(part))
    for folder in (inputs, stage):
        write_json(folder.manifest_path, {"configuration": CONFIG.model_dump(mode="json")})
    return workspace


@pytest.fixture(scope="module")
def picked(mined: Workspace) -> pl.DataFrame:
    return pick_from_run(mined, pairs=400, queries_wanted=40, seed=0)


def true_grades(pairs: pl.DataFrame, market: Marketplace) -> pl.Series:
    known = pairs.select(KEY).join(market.truth, on=KEY, how="left", maintain_order="left")
    return known["grade"].fill_null(0)


def evenness(column: pl.Series) -> float:
    """Entropy of the shares, 1 where all five grades are alike."""
    p = column.value_counts(normalize=True)["proportion"].to_numpy()
    return float(-(p * np.log(p)).sum() / np.log(5))


def baseline(mined: Workspace, picked: pl.DataFrame, top: bool) -> pl.DataFrame:
    """Ten pairs of each picked query: BM25's first, or any of the candidates."""
    pool = mined.stage("mine").read("candidates").join(picked, on="query_id", how="semi")
    if top:
        return pool.filter(pl.col("rank_bm25") <= 10)
    return pool.sample(fraction=1, shuffle=True, seed=1).filter(
        pl.int_range(pl.len()).over("query_id") < 10
    )


# pick


def test_whole_queries_are_picked_with_as_many_pairs_each(picked: pl.DataFrame) -> None:
    sizes = picked.group_by("query_id").len()["len"]
    assert (picked.height, len(sizes), sizes.min(), sizes.max()) == (400, 40, 10, 10)
    assert not picked.select(KEY).is_duplicated().any()
    assert set(picked["segment"]) == {"head", "torso", "tail"}
    assert picked["query_id"].is_sorted()


def test_a_tenth_is_random_and_no_candidate(mined: Workspace, picked: pl.DataFrame) -> None:
    drawn = picked.filter(pl.col("stratum") == RANDOM)
    assert drawn.height == 40
    assert drawn.join(mined.stage("mine").read("candidates"), on=KEY, how="semi").is_empty()
    assert set(drawn["why"]) == {"drawn at random from the whole catalog"}


def test_judged_pairs_are_left_out(mined: Workspace) -> None:
    judged = mined.stage("inputs").read("judgments")
    everything = pick_from_run(mined, pairs=100_000, queries_wanted=120)
    assert set(judged["query_id"]) <= set(everything["query_id"])
    assert everything.join(judged, on=KEY, how="semi").is_empty()
    pool = mined.stage("mine").read("candidates").join(judged, on=KEY, how="anti")
    assert pool.join(everything, on=KEY, how="anti").is_empty()


def test_the_choice_is_the_same_every_time_and_for_the_frames(
    mined: Workspace, picked: pl.DataFrame
) -> None:
    assert picked.equals(pick_from_run(mined, pairs=400, queries_wanted=40, seed=0))
    inputs = mined.stage("inputs")
    frames = pick(
        mined.stage("mine").read("candidates").sample(fraction=1, shuffle=True, seed=3),
        inputs.read("queries").reverse(),
        inputs.read("items").reverse(),
        inputs.read("judgments"),
        pairs=400,
        queries_wanted=40,
        seed=0,
    )
    assert picked.equals(frames)
    other = pick_from_run(mined, pairs=400, queries_wanted=40, seed=1)
    assert other.join(picked, on=KEY, how="semi").height < 300


def test_strata_are_covered_more_evenly_than_by_chance(
    mined: Workspace, picked: pl.DataFrame
) -> None:
    pool = describe(mined.stage("mine").read("candidates"))
    ours = pool.join(picked, on=KEY, how="semi")
    chance = pool.join(baseline(mined, picked, top=False), on=KEY, how="semi")
    counts = ours["stratum"].value_counts()
    assert set(counts["stratum"]) == set(pool["stratum"])
    assert counts["count"].min() >= 0.04 * ours.height
    smallest = chance["stratum"].value_counts()["count"].min()
    assert counts["count"].min() > smallest * ours.height / chance.height
    for name in ("band", "expected"):
        assert evenness(ours[name]) > evenness(chance[name])


def test_true_grades_are_spread(
    mined: Workspace, picked: pl.DataFrame, shop_market: Marketplace
) -> None:
    grades = true_grades(picked, shop_market)
    top = true_grades(baseline(mined, picked, top=True), shop_market)
    assert set(grades) == set(tables.GRADES)
    assert evenness(grades) > evenness(top)
    irrelevant = (grades <= tables.IRRELEVANT).mean(), (top <= tables.IRRELEVANT).mean()
    assert irrelevant[0] > irrelevant[1] + 0.1, irrelevant

    def distinct(pairs: pl.DataFrame) -> float:
        graded = pairs.with_columns(true_grades(pairs, shop_market).alias("grade"))
        return graded.group_by("query_id").agg(pl.col("grade").n_unique())["grade"].mean()

    assert distinct(picked) > distinct(baseline(mined, picked, top=False)) + 0.2


def test_the_labels_of_the_run_decide_what_is_expected(
    mined: Workspace, shop_market: Marketplace, tmp_path: Path
) -> None:
    run = Workspace(Path(shutil.copytree(mined.root, tmp_path / "run")))
    pool = mined.stage("mine").read("candidates").select(KEY)
    grades = true_grades(pool, shop_market)
    one_hot = np.eye(5, dtype=np.float32)[grades.to_numpy()]
    labels = pool.with_columns(
        pl.Series("p_judge", one_hot, dtype=tables.PROBABILITIES), confidence=pl.lit(0.9)
    )
    write_table(run.stage("annotate").shard_path("labels", 0), labels)
    write_json(run.stage("annotate").path / "plan.json", {})
    unfinished = pick_from_run(run, pairs=400, queries_wanted=40)
    assert unfinished.equals(pick_from_run(mined, pairs=400, queries_wanted=40))
    write_json(run.stage("annotate").manifest_path, {})
    with_labels = pick_from_run(run, pairs=400, queries_wanted=40)
    assert with_labels["why"].str.contains("judges expect grade").sum() == 360
    spread = evenness(true_grades(with_labels, shop_market))
    assert spread > evenness(true_grades(unfinished, shop_market))


def test_a_run_without_mine_is_refused(mined: Workspace, tmp_path: Path, cli) -> None:
    shutil.copytree(mined.root / "inputs", tmp_path / "inputs")
    refused = cli("seed", "pick", tmp_path, "-o", tmp_path / "sheet.csv")
    refused.explains(5, ["--until mine"])
    assert not (tmp_path / "sheet.csv").exists()


def test_too_few_pairs_a_query_are_refused(mined: Workspace) -> None:
    with pytest.raises(ConfigError, match="50 pairs of 40 queries"):
        pick_from_run(mined, pairs=50, queries_wanted=40)


def test_what_is_missing_is_said(mined: Workspace) -> None:
    few = pick_from_run(mined, pairs=2000, queries_wanted=2)
    assert few.height < 2000
    assert summary(few, 2000)[-1] == f"no more than {few.height} of the 2,000 were found"


# the commands


def fill(path: Path, grades: list[str], rater: str = "") -> None:
    """Write grades into a sheet as a person with an editor would."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(grades)
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, SHEET)
        writer.writeheader()
        for row, grade in zip(rows, grades, strict=True):
            writer.writerow(row | {"grade": grade, "rater": rater})


def test_a_sheet_is_not_overwritten_unless_asked(mined: Workspace, tmp_path: Path, cli) -> None:
    words = ("seed", "pick", mined.root, "--pairs", 20, "--queries", 2, "-o", tmp_path / "s.csv")
    assert cli(*words).code == 0
    before = (tmp_path / "s.csv").read_bytes()
    cli(*words, "--seed", 1).explains(5, ["--overwrite"])
    assert (tmp_path / "s.csv").read_bytes() == before
    assert cli(*words, "--seed", 1, "--overwrite").code == 0
    assert (tmp_path / "s.csv").read_bytes() != before
    cli(*words[:-1], tmp_path / "s.xlsx").explains(5, ["'.xlsx'", ".csv"])


# pick, rate, read, check


def test_from_a_run_to_judgments_that_a_run_takes(
    mined: Workspace, shop_market: Marketplace, tmp_path: Path, cli
) -> None:
    sheet, output = tmp_path / "to_rate.csv", tmp_path / "judgments.csv"
    done = cli("seed", "pick", mined.root, "--pairs", 500, "--queries", 50, "-o", sheet)
    assert (done.code, done.out) == (0, "")
    assert "500 pairs of 50 queries" in done.err
    assert "50 random" in done.err
    assert "$250.00" in done.err
    pairs = read_sheet(sheet)
    grades = true_grades(pairs, shop_market)
    names = [str(g) if at % 2 else tables.GRADE_NAMES[g].upper() for at, g in enumerate(grades)]
    fill(sheet, ["", " ", *names[2:]], rater="anna")
    done = cli("seed", "read", sheet, "-o", output, "--run", mined.root)
    assert (done.code, done.out) == (0, "")
    assert "498 grades read, 2 rows not filled in" in done.err
    assert "too little" not in done.err
    assert f'judgments = "{output}"' in done.err
    read = pl.read_csv(output)
    assert read.columns == [*KEY, "grade", "rater"]
    assert set(read["rater"]) == {"anna"}
    assert read["grade"].equals(true_grades(read, shop_market).cast(pl.Int64))

    shop_market.items.write_parquet(tmp_path / "items.parquet")
    shop_market.queries.write_parquet(tmp_path / "queries.parquet")
    files = {name: tmp_path / f"{name}.parquet" for name in ("items", "queries")}
    made = read_inputs(parse_config({"data": files | {"judgments": output}, "run": {"seed": 5}}))
    dealt = made.queries.join(read, on="query_id", how="semi").group_by("part").len()
    parts = dict(dealt.iter_rows())
    said = re.search(
        r"queries so: (\d+) seed, (\d+) calibration, (\d+) tuning, (\d+) agreement", done.err
    )
    assert said is not None
    assert [int(n) for n in said.groups()] == [parts[part] for part in tables.TAUGHT]


def test_too_little_is_said_and_how_much_more_would_do(tmp_path: Path, cli) -> None:
    sheet = tmp_path / "few.csv"
    few = pl.DataFrame({"query_id": [f"q{at}" for at in range(10)], "item_id": "i"})
    write_sheet(sheet, few.with_columns(pl.lit("x").alias(n) for n in ("query", "title", "why")))
    fill(sheet, list("0123401234"))
    done = cli("seed", "read", sheet, "-o", tmp_path / "j.csv")
    assert done.code == 0
    # Half of the queries are seed, 0.15 of those tuning: 3 of them take 40 queries.
    assert "too little: " in done.err
    assert "rate about 30 more queries" in done.err


def test_ids_that_the_run_does_not_have(mined: Workspace, tmp_path: Path, cli) -> None:
    known = mined.stage("inputs").read("queries")["query_id"][0]
    path = tmp_path / "rated.csv"
    rows = (f"{known},nothing,3", "strange,nothing,2", "strange,thing,")
    path.write_text("\n".join(["query_id,item_id,grade", *rows]), encoding="utf-8")
    refused = cli("seed", "read", path, "-o", tmp_path / "j.csv", "--run", mined.root)
    refused.explains(
        3, ["row 3", "'strange'", "2 row(s) whose item_id is unknown, such as 'nothing'"]
    )


# a shop without any judgments


def test_a_run_without_judgments_can_be_mined_and_picked_from(
    shop_market: Marketplace, tmp_path: Path, cli
) -> None:
    shop_market.items.head(100).write_parquet(tmp_path / "items.parquet")
    shop_market.queries.head(20).write_parquet(tmp_path / "queries.parquet")
    (tmp_path / "trivium.toml").write_text(
        f"""
[data]
items = "items.parquet"
queries = "queries.parquet"
[mine]
model = "{MODEL}"
depth = 20
[[annotate.judges]]
kind = "cross_encoder"
model = "{MODEL}"
""",
        encoding="utf-8",
    )
    run = tmp_path / "run"
    mined = cli("run", run, "-c", tmp_path / "trivium.toml", "--until", "mine")
    assert mined.code == 0, mined.err
    words = ("--pairs", 60, "--queries", 6, "-o", tmp_path / "sheet.csv")
    done = cli("seed", "pick", run, *words)
    assert done.code == 0, done.err
    assert read_sheet(tmp_path / "sheet.csv").height == 60
