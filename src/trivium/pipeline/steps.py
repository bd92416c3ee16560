"""Each stage in a workspace: its tables in, its function, its tables out, and what to say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from trivium.domain.disagreement import FOUND_BY, OVERLAP_SUMS, pool_found_by, pool_overlaps
from trivium.domain.level_precision import precision_lines
from trivium.domain.rank_overlap import ALL
from trivium.foundation.console import say
from trivium.foundation.tables import LEVELS
from trivium.foundation.workspace import StageFolder, write_atomically, write_table
from trivium.pipeline.job import Job, Outcome
from trivium.pipeline.judging import annotate, judges
from trivium.pipeline.prospects import measured_levels, will_it_pay
from trivium.pipeline.queries_to_mine import QueriesToMine, queries_to_mine
from trivium.pipeline.shards import run_shards, total
from trivium.pipeline.work import ExampleShards, MineShards, seed_alone

if TYPE_CHECKING:
    from trivium.adapters.validation import Validation


def inputs(job: Job, folder: StageFolder) -> Outcome:
    """Write the user's tables, read, checked and dealt."""
    made = job.inputs
    assert made is not None
    for name, table in made.tables.items():
        write_table(folder.table_path(name), table)
    parts = made.queries.group_by("part").len().sort("part")
    summary = ["queries: " + ", ".join(f"{n:,} {part}" for part, n in parts.iter_rows())]
    rows = {name: table.height for name, table in made.tables.items() if table.height}
    return rows, summary + _aside(made.set_aside)


def mine(job: Job, folder: StageFolder) -> Outcome:
    """Search the channels for the training queries."""
    chosen = _queries_to_mine(job)
    queries = chosen.queries
    write_table(folder.table_path("queries"), queries)
    write_table(folder.table_path("folded"), chosen.folded)
    held = _check_run_files(job, queries)
    shards = job.shards(queries)
    work = MineShards(job.workspace, job.config)
    counts = run_shards(job.executor, work, folder, "candidates", shards)
    overlaps = pool_overlaps([pl.DataFrame(n["overlap"], schema=OVERLAP_SUMS) for n in counts])
    sets = pool_found_by([pl.DataFrame(n["found_by"], schema=FOUND_BY) for n in counts])
    write_table(folder.table_path("overlap"), overlaps)
    write_table(folder.table_path("found_by"), sets)
    rows = sum(shard["rows"] for shard in counts)
    deepest = overlaps.filter(pl.col("depth") == pl.col("depth").max(), segment=ALL).drop_nulls()
    shared = [f"{r['a']} and {r['b']} share {r['overlap']:.0%}" for r in deepest.to_dicts()]
    summary = [f"of their top results, {', '.join(shared)}"] if shared else []
    summary += held + [
        f"channel '{name}' has nothing for {n:,} of {queries.height:,} queries"
        for name, n in total(counts, "nothing").items()
        if n
    ]
    return {"queries": queries.height, "candidates": rows}, summary + chosen.summary


def examples(job: Job, folder: StageFolder) -> Outcome:
    """Make examples of the five levels and of the seed's human grades."""
    mined = job.table("mine", "queries")
    seed = seed_alone(job.table("inputs", "queries"), mined)
    shards = job.shards(mined) + job.shards(seed)
    measured = measured_levels(job.workspace, job.config)
    write_table(folder.table_path("level_precision"), measured)
    work = ExampleShards(job.workspace, job.config)
    counts = run_shards(job.executor, work, folder, "examples", shards)
    levels = total(counts, "levels")
    summary = [
        ", ".join(f"{levels[level]:,} {level}" for level in LEVELS if levels[level]),
        *(f"left out, {reason}: {n:,}" for reason, n in sorted(total(counts, "left_out").items())),
        *precision_lines(measured),
        will_it_pay(job.workspace, job.config).sentence,
    ]
    return {"examples": sum(shard["rows"] for shard in counts)}, summary


def train(job: Job, folder: StageFolder) -> Outcome:
    """Train the towers on the examples."""
    from trivium.adapters.example_store import shards_of
    from trivium.adapters.model_card import write_card
    from trivium.adapters.models import resolve_model
    from trivium.pipeline.card_facts import card_facts
    from trivium.stages import train as stage

    config = job.config
    say(f"  {will_it_pay(job.workspace, config).sentence}")
    items, queries = job.table("inputs", "items"), job.table("inputs", "queries")
    start = resolve_model(config.train.model or config.mine.model)

    def validation() -> Validation:
        return stage.validation_set(
            queries,
            items,
            job.table("inputs", "qrels"),
            config.train,
            config.evaluate,
            complete=config.data.complete,
            seed=config.run.seed,
            start=start,
            cache=job.workspace.cache,
        )

    tower = stage.train(
        shards_of(job.workspace.stage("examples").shards("examples")),
        items,
        queries,
        validation,
        config.train,
        start,
        folder.path,
        config.run.seed,
    )
    write_table(folder.table_path("curves"), tower.curves)
    write_table(folder.table_path("chosen"), tower.chosen)
    facts = card_facts(job.workspace, config, tower.model)
    write_card(tower.model, replace(facts, skipped=tower.skipped))
    before = tower.curves["ndcg"].drop_nulls()[0]
    asked = (queries["part"] == "validation").sum()
    end = tower.chosen["ndcg"][-1]
    summary = [
        f"validation NDCG {before:.4f} -> {end:.4f} on {asked} queries",
        *(f"stage {name} skipped: {why}" for name, why in tower.skipped.items()),
    ]
    return {"stages": tower.chosen.height}, summary


def evaluate(job: Job, folder: StageFolder) -> Outcome:
    """Search the whole catalog with every system for the test queries."""
    from trivium.stages import evaluate as stage

    config = job.config
    queries = job.table("inputs", "queries").filter(pl.col("part") == "test")
    qrels = job.table("inputs", "qrels").join(queries, on="query_id", how="semi")
    items = job.table("inputs", "items")
    systems = {
        "start": config.train.model or config.mine.model,
        "trained": str(job.workspace.stage("train").path / "model"),
        "bm25": "channel:bm25",
    }
    scored = [
        _scored_once(job, folder, name, system, items, queries, qrels)
        for name, system in systems.items()
    ]
    per_query = pl.concat(scored)
    seed = config.run.seed
    metrics = stage.summarise(per_query, "start", config.evaluate, seed)
    gains = stage.gains(per_query, "start", config.evaluate, seed)
    for name, table in {"per_query": per_query, "metrics": metrics, "gains": gains}.items():
        write_table(folder.table_path(name), table)
    return {"test queries": queries.height, "metrics": metrics.height}, [_headline(gains)]


def report(job: Job, folder: StageFolder) -> Outcome:
    """Lay everything out as one HTML page, print the results, and put them on the model's card."""
    from trivium.adapters.model_card import write_card
    from trivium.foundation.console import console_for_tables
    from trivium.pipeline.card_facts import card_facts
    from trivium.pipeline.report_data import collect
    from trivium.stages import report as stage

    data = collect(job.workspace, job.config)
    page = stage.render(data)
    place, table = folder.path / "report.html", stage.results_markdown(data.metrics)
    write_atomically(place, lambda path: path.write_text(page, encoding="utf-8"))
    write_atomically(folder.path / "results.md", lambda path: path.write_text(table, "utf-8"))
    console_for_tables().print(stage.results_table(data.metrics, data.gains))
    model = job.workspace.stage("train").path / "model"
    write_card(model, card_facts(job.workspace, job.config, model))
    return {"page": 1}, [f"open {place}"]


def _scored_once(
    job: Job,
    folder: StageFolder,
    name: str,
    system: str,
    items: pl.DataFrame,
    queries: pl.DataFrame,
    qrels: pl.DataFrame,
) -> pl.DataFrame:
    """Score a system, or read the score that an earlier, killed run already has."""
    from trivium.stages.evaluate import retrieve, score_run

    config, place = job.config, folder.path / "systems" / f"{name}.parquet"
    if not place.exists():
        run = retrieve(
            system,
            items,
            queries,
            depth=config.evaluate.depth,
            max_length=None if system.startswith("channel:") else config.train.max_length,
            mine=config.mine,
            data=config.data,
            cache=job.workspace.cache if name == "start" else None,
        )
        write_table(folder.path / "runs" / f"{name}.parquet", run)
        scored = score_run(
            run, qrels, queries, config.evaluate, complete=config.data.complete, system=name
        )
        write_table(place, scored)
    return pl.read_parquet(place, memory_map=False)


def _headline(gains: pl.DataFrame) -> str:
    first = gains.filter((pl.col("system") == "trained") & (pl.col("segment") == "all")).to_dicts()[
        0
    ]
    return (
        f"{first['measure']}: trained against start {first['difference']:+.4f} "
        f"[{first['ci_low']:+.4f}, {first['ci_high']:+.4f}], p = {first['p_value']:.4f}, "
        f"{first['queries']} queries"
    )


def _check_run_files(job: Job, queries: pl.DataFrame) -> list[str]:
    """Convert the files of run channels before workers need them, and say what they hold."""
    from trivium.adapters.channels.run_files import check_channels

    channels = [channel for channel in job.config.mine.channels if channel.kind == "run"]
    if not channels:
        return []
    items = job.table("inputs", "items").select("item_id")
    return check_channels(channels, items, queries, job.workspace.cache)


def _queries_to_mine(job: Job) -> QueriesToMine:
    queries, items = job.table("inputs", "queries"), job.table("inputs", "items")
    config = job.config
    training = queries.filter(pl.col("part").is_in(config.mine.parts))
    chosen = queries_to_mine(training, items, config.mine, config.run.seed, config.data.synonyms)
    return chosen.at_least_one()


def _aside(counts: Mapping[str, int]) -> list[str]:
    return [f"queries set aside, {reason}: {n:,}" for reason, n in counts.items() if n]


STEPS: Mapping[str, Callable[[Job, StageFolder], Outcome]] = {
    "inputs": inputs,
    "mine": mine,
    "judges": judges,
    "annotate": annotate,
    "examples": examples,
    "train": train,
    "evaluate": evaluate,
    "report": report,
}
