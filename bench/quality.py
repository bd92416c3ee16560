"""Is the gain real? The recipes against what a user would pick instead, on real and simulated data.

Prints tables on stderr and, last on stdout, one JSON object. Every training is kept under --work: a
rerun carries on. Choices are made on validation queries; test queries are looked at here alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from quality_judging import Shoppers, StatedJudge, click_log
from quality_sets import QualitySet, crowdflower, homedepot, homedepot_traffic, marketplace
from trivium.domain.baselines import baseline_stages
from trivium.domain.curriculum import RECIPES, stages_of
from trivium.foundation.config import EvaluateConfig
from trivium.foundation.train_config import StageConfig
from trivium.pipeline.baselines import baseline
from trivium.pipeline.rivals import Arena, Rival, mean_over_seeds
from trivium.stages import evaluate as measuring

SYSTEMS = (
    *("start", "bm25", "click", "offshelf", "seed"),
    *("mixed", "published", "published_mixed", "default"),
)
OF_THE_JUDGE = ("default", "published", "mixed", "published_mixed")
SEEDED = ("click", "offshelf", "default")
IN_TRAFFIC = ON_THE_CURVE = ("start", "bm25", "click", "default")
PAPERS = 0.89
AGREEMENTS = (PAPERS, 1.0, 0.68, 0.8)
EVALUATE = EvaluateConfig()
MEASURES = {
    "ndcg10": "nDCG@10",
    "condensed10": "condensed nDCG@10",
    "filled10": "filled nDCG@10",
    "recall100": "R@100",
    "grade0_10": "embarrassing@10",
    "bad10": "bad@10",
    "unjudged10": "unjudged@10",
}
_PAIR = ["query_id", "item_id"]


def recipe(arena: Arena, name: str) -> list[StageConfig]:
    """The stages of a named recipe, scaled as the run's training is."""
    return stages_of(arena.job.config.train.model_copy(update={"recipe": name, "stages": []}))


def rivals(arena: Arena, clicks: Path, examples: Any) -> dict[str, Rival]:
    """Every trained system of a run on some examples, the run's own or those of a stated judge."""
    default = recipe(arena, "default")
    made = {name: Rival(name, recipe(arena, name), examples) for name in RECIPES}
    made["mixed"] = Rival("mixed", baseline_stages("mixed", default), examples)
    stages = baseline_stages("mixed", recipe(arena, "published"))
    made["published_mixed"] = Rival("published_mixed", stages, examples)
    for name in ("start", "click", "offshelf", "seed"):
        made[name] = baseline(arena, name, clicks)
    return made


def measured(
    quality: QualitySet, made: Mapping[str, Rival], names: Sequence[str], seeds: int
) -> pl.DataFrame:
    """Per-query values of some systems: the mean over the seeds, of those that have several."""
    arena, found = quality.arena, []
    for name in names:
        if name == "bm25":
            found.append(bm25(arena))
            continue
        many = range(seeds if name in SEEDED else 1)
        found.append(mean_over_seeds([arena.per_query(made[name], seed) for seed in many]))
        value = found[-1].filter(pl.col("measure") == "nDCG@10")["value"].mean()
        print(f"{quality.name}: {name} {value:.4f}", file=sys.stderr, flush=True)
    return pl.concat(found)


def bm25(arena: Arena) -> pl.DataFrame:
    """BM25, for reference."""
    config, table = arena.job.config, arena.job.table
    queries = arena.queries
    place = arena.place / "bm25" / "run.parquet"
    if not place.exists():
        run = measuring.retrieve(
            "channel:bm25", table("inputs", "items"), queries, mine=config.mine, data=config.data
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        run.write_parquet(place)
    return measuring.score_run(
        pl.read_parquet(place),
        table("inputs", "qrels"),
        queries,
        EVALUATE,
        complete=config.data.complete,
        system="bm25",
    )


def filled(quality: QualitySet, shoppers: Shoppers, names: Sequence[str]) -> pl.DataFrame:
    """NDCG with every ungraded item of any system's first ten graded by the held-out judge."""
    arena = quality.arena
    queries = arena.queries
    qrels = arena.job.table("inputs", "qrels").join(queries, on="query_id", how="semi")
    runs: dict[str, list[pl.DataFrame]] = {}
    for folder in sorted(arena.place.iterdir()):
        name = folder.name.rsplit("-", 1)[0]
        if name in names and (folder / "run.parquet").exists():
            runs.setdefault(name, []).append(pl.read_parquet(folder / "run.parquet"))
    tops = [
        run.filter(pl.col("rank") <= 10).select(_PAIR) for many in runs.values() for run in many
    ]
    pool = pl.concat(tops).unique(maintain_order=True).join(qrels, on=_PAIR, how="anti")
    every = pl.concat([qrels.select(*_PAIR, pl.col("grade").cast(pl.Int8)), shoppers.grades(pool)])
    scored = [
        mean_over_seeds(
            measuring.score_run(run, every, queries, EVALUATE, system=name) for run in many
        )
        for name, many in runs.items()
    ]
    plain = pl.concat(scored).filter(pl.col("measure") == "nDCG@10")
    return plain.with_columns(measure=pl.lit("filled nDCG@10"))


def compared(per_query: pl.DataFrame, baseline_: str, system: str) -> dict[str, Any]:
    """Gains of one system over another, by measure and segment."""
    two = per_query.filter(pl.col("system").is_in([baseline_, system]))
    found = measuring.gains(two, baseline_, EVALUATE)
    return {(row["measure"], row["segment"]): row for row in found.to_dicts()}


def figures(name: str, per_query: pl.DataFrame, seeds: int) -> dict[str, Any]:
    """The flat figures of a data set, and its tables on stderr."""
    metrics = measuring.summarise(per_query, "start", EVALUATE)
    show(name, metrics)
    out: dict[str, Any] = {}
    overall = metrics.filter(pl.col("segment") == "all")
    for row in overall.to_dicts():
        for short, measure in MEASURES.items():
            if row["measure"] == measure:
                out[f"{name}_{row['system']}_{short}"] = round(row["value"], 4)
    for rival in ("click", "offshelf", "start", "mixed", "seed", "bm25"):
        out |= differences(name, per_query, rival, "default")
    published = differences(name, per_query, "published_mixed", "published")
    out |= {key.replace("gain", "published_gain"): value for key, value in published.items()}
    out[f"{name}_test_queries"] = per_query["query_id"].n_unique()
    out[f"{name}_seeds"] = seeds
    return out


def differences(name: str, per_query: pl.DataFrame, rival: str, system: str) -> dict[str, Any]:
    """What a system gains over a rival: every measure on stderr, the main figures returned."""
    if not {rival, system} <= set(per_query["system"].unique()):
        return {}
    rows = compared(per_query, rival, system)
    for row in rows.values():
        show_gain(name, rival, row, system)
    first = rows["nDCG@10", "all"]
    out = {
        f"{name}_gain_over_{rival}": round(first["relative"], 4),
        f"{name}_{rival}_p": round(first["p_value"], 5),
    }
    if rival == "click" and ("nDCG@10", "tail") in rows:
        out[f"{name}_tail_gain"] = round(rows["nDCG@10", "tail"]["relative"], 4)
    return out


def show(name: str, metrics: pl.DataFrame) -> None:
    """Every system by every measure, all queries and by segment, as Markdown."""
    for segment in metrics["segment"].unique(maintain_order=True):
        part = metrics.filter(pl.col("segment") == segment)
        measures = [m for m in MEASURES.values() if m in part["measure"]]
        print(f"\n{name}, {segment}\n| system | {' | '.join(measures)} |", file=sys.stderr)
        print(f"|---|{'---:|' * len(measures)}", file=sys.stderr)
        for system in part["system"].unique(maintain_order=True):
            cells = []
            for measure in measures:
                row = part.filter((pl.col("system") == system) & (pl.col("measure") == measure))
                cells += [f"{r['value']:.4f}" for r in row.to_dicts()] or [""]
            print(f"| {system} | {' | '.join(cells)} |", file=sys.stderr, flush=True)


def show_gain(name: str, rival: str, row: Mapping[str, Any], system: str) -> None:
    """One difference with its interval and p-value."""
    if row["difference"] is None:
        return
    low, high = (f"{row[k]:+.4f}" if row[k] is not None else "-" for k in ("ci_low", "ci_high"))
    share = f" ({row['relative']:+.1%})" if row["relative"] is not None else ""
    print(
        f"{name}: {system} against {rival}, {row['segment']}, {row['measure']}: "
        f"{row['difference']:+.4f} [{low}, {high}]{share}, p = {row['p_value']:.4f}",
        file=sys.stderr,
    )


def real(sets: Sequence[QualitySet], label: str, seeds: int, names: Sequence[str]) -> Iterator[Any]:
    """The figures of a real data set, whose folds are pooled; and its arenas, for zero-shot."""
    parts = []
    for quality in sets:
        arena = quality.arena
        run = arena.job.workspace.root
        items, queries = arena.job.table("inputs", "items"), arena.job.table("inputs", "queries")
        shoppers = Shoppers.fit(run, items, queries)
        made = rivals(arena, click_log(run, shoppers, None, 3), arena.examples)
        parts.append(measured(quality, made, names, seeds))
        parts.append(filled(quality, shoppers, names))
    per_query = pl.concat([part.select(parts[0].columns) for part in parts])
    yield figures(label, per_query, seeds)


def simulated(
    quality: QualitySet, seeds: int, agreements: Sequence[float], names: Sequence[str]
) -> Iterator[Any]:
    """The marketplace, with judges of stated agreement; the curve of the gain over clicks.

    Points of the curve have one seed.
    """
    arena = quality.arena
    clicks = click_log(arena.job.workspace.root, None, quality.truth, 3)
    for agreement in agreements:
        work = StatedJudge(
            arena.job.workspace, arena.job.config, truth=quality.truth, agreement=agreement
        )
        shards = len(arena.job.workspace.stage("examples").shards("examples"))
        made = rivals(arena, clicks, partial(made_by, work, shards))
        for name in OF_THE_JUDGE:
            own = {"name": f"{name}{agreement:.2f}", "made_of": {"agreement": agreement}}
            made[name] = replace(made[name], **own)
        of_it, many = names, seeds
        if agreement != PAPERS:  # a point of the curve
            of_it, many = [name for name in names if name in ON_THE_CURVE], 1
        per_query = measured(quality, made, of_it, many)
        plain = {made[name].name: name for name in OF_THE_JUDGE}
        per_query = per_query.with_columns(pl.col("system").replace(plain))
        label = "sim" if agreement == PAPERS else f"sim{round(100 * agreement)}"
        yield figures(label, per_query, many)


def made_by(work: StatedJudge, shards: int) -> Iterator[pl.DataFrame]:
    """A stated judge's examples, shard by shard."""
    make = work()
    for number in range(shards):
        yield make(number)[0]


def zero_shot(data: Path, quality: QualitySet, names: Sequence[str]) -> Iterator[Any]:
    """Home Depot's towers on another shop, without any training there."""
    folder = data / "chorus_icecat"
    items = pl.read_parquet(folder / "items.parquet").select("item_id", text="title")
    qrels = pl.read_parquet(folder / "judgments.parquet").select(
        *_PAIR, pl.col("grade").cast(pl.Int8)
    )
    queries = pl.read_parquet(folder / "queries.parquet").with_columns(text=pl.col("query"))
    queries = queries.join(qrels.select("query_id").unique(), on="query_id", how="semi")
    items = items.with_columns(pl.col("item_id").cast(pl.String), pl.col("text").fill_null(""))
    found, seeds = [], 1
    for name in names:
        many = sorted(quality.arena.place.glob(f"{name}-*/model")) or [quality.arena.start]
        seeds = max(seeds, len(many))
        if name == "bm25":
            many = ["channel:bm25"]
        runs = [measuring.retrieve(str(m), items, queries, max_length=48) for m in many]
        scored = [measuring.score_run(run, qrels, queries, EVALUATE, system=name) for run in runs]
        found.append(mean_over_seeds(scored))
    yield figures("chorus", pl.concat(found), seeds)


def scaled(quality: QualitySet, args: argparse.Namespace) -> QualitySet:
    """The same set with every system's steps scaled; a quick run validates on fewer items."""
    job = quality.arena.job
    fewer = {"validation_items": 500} if args.quick else {}
    train = job.config.train.model_copy(update={"scale": args.scale, **fewer})
    config = job.config.model_copy(update={"train": train})
    return replace(quality, arena=replace(quality.arena, job=replace(job, config=config)))


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRIVIUM_DATA"))
    parser.add_argument("--work", type=Path, default=Path("quality"))
    parser.add_argument("--only", default="sim,homedepot,chorus,traffic,crowdflower")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--agreements", default=",".join(map(str, AGREEMENTS)))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the steps of every system")
    parser.add_argument(
        "--quick", action="store_true", help="one seed, 3%% of the steps, small catalogs, one fold"
    )
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.scale, args.agreements = 1, 0.03, str(PAPERS)
        args.work = args.work / "quick"
    return args


def on_marketplace(args: argparse.Namespace) -> Iterator[Any]:
    """The simulated marketplace."""
    quality = scaled(marketplace(args.work, quick=args.quick), args)
    agreements = [float(agreement) for agreement in args.agreements.split(",")]
    yield from simulated(quality, args.seeds, agreements, args.systems.split(","))


def on_homedepot(args: argparse.Namespace, names: Sequence[str]) -> Iterator[Any]:
    """Home Depot, and its towers on Chorus."""
    quality = scaled(homedepot(args.data, args.work, quick=args.quick), args)
    yield from real([quality], "homedepot", args.seeds, names)
    if "chorus" in args.only.split(","):
        yield from zero_shot(args.data, quality, names)


def in_traffic(args: argparse.Namespace, names: Sequence[str]) -> Iterator[Any]:
    """Home Depot with the measured queries in the traffic, one seed."""
    quality = scaled(homedepot_traffic(args.data, args.work, quick=args.quick), args)
    few = [name for name in names if name in IN_TRAFFIC]
    for found in real([quality], "homedepot_traffic", 1, few):
        yield found | {"homedepot_tail_gain": found.get("homedepot_traffic_tail_gain")}


def on_crowdflower(args: argparse.Namespace, names: Sequence[str]) -> Iterator[Any]:
    """CrowdFlower, both folds together."""
    sets = [
        scaled(crowdflower(args.data, args.work, fold, quick=args.quick), args)
        for fold in ((0,) if args.quick else (0, 1))
    ]
    yield from real(sets, "crowdflower", args.seeds, names)


def asked_for(args: argparse.Namespace) -> Iterator[Any]:
    """The figures of each data set that is asked for."""
    only = args.only.split(",")
    names = [name for name in args.systems.split(",") if name != "published_mixed"]
    if "sim" in only:
        yield from on_marketplace(args)
    if "homedepot" in only or "chorus" in only:
        yield from on_homedepot(args, names)
    if "traffic" in only:
        yield from in_traffic(args, names)
    if "crowdflower" in only:
        yield from on_crowdflower(args, names)


def main() -> None:
    """Run the data sets that are asked for, and print."""
    args = arguments()
    out: dict[str, Any] = {"scale": args.scale}
    for found in asked_for(args):
        out |= found
    print(json.dumps(out))


if __name__ == "__main__":
    main()
