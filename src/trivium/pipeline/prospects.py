"""What a run's levels are worth against human grades, and whether training on them will pay."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from trivium.domain.curriculum import stages_of
from trivium.domain.labels import replayed, settled
from trivium.domain.level_precision import DECIDING, SURE, level_precision
from trivium.domain.payoff import MACHINE_POSITIVES, Payoff, payoff
from trivium.foundation.config import Config
from trivium.foundation.workspace import Workspace

_PAIR = ["query_id", "item_id"]


def measured_levels(workspace: Workspace, config: Config) -> pl.DataFrame:
    """Measure the levels on human grades that no judge, calibration or threshold has seen.

    Two kinds of them: those of the part `agreement`, whose queries were searched for that; and
    those of mined queries of the part `train`, if any, which are told but decide nothing.
    Calibration and tuning are left out, since curves and thresholds were fitted to them.

    Args:
        workspace: A run whose stage `annotate` is done.
        config: Its configuration.

    Returns:
        `domain.level_precision.LEVEL_PRECISION`.
    """
    graded = pl.concat([_held_out(workspace), *_withheld(workspace, config)], how="diagonal")
    items = len(workspace.stage("inputs").read("items"))
    seed = config.run.seed
    return level_precision(graded, config.examples.for_catalog(items), config.mine, seed=seed)


def will_it_pay(workspace: Workspace, config: Config) -> Payoff:
    """Weigh what a run whose stage `examples` is done knows before it trains.

    Args:
        workspace: The run.
        config: Its configuration, with the stages that are to be trained.
    """
    folder = workspace.stage("examples")
    taught = workspace.stage("annotate").read("rerank").filter(system="cascade").to_dicts()
    examples = pl.scan_parquet(folder.shards("examples")).select("query_id", "level")
    machine = examples.filter(pl.col("level").is_in(MACHINE_POSITIVES))
    return payoff(
        taught[0] if taught else None,
        folder.read("level_precision"),
        level_counts(workspace),
        int(machine.select(pl.col("query_id").n_unique()).collect().item()),
        sure=_asks_to_be_sure(config),
    )


def level_counts(workspace: Workspace) -> pl.DataFrame:
    """Examples and queries of each level: columns level, rows, queries; sorted by level."""
    shards = workspace.stage("examples").shards("examples")
    counted = (
        pl.scan_parquet(shards)
        .group_by("level")
        .agg(
            pl.len().cast(pl.Int64).alias("rows"),
            pl.col("query_id").n_unique().cast(pl.Int64).alias("queries"),
        )
    )
    return counted.collect().sort("level")


def _asks_to_be_sure(config: Config) -> bool:
    """Whether every stage takes sure machine positives alone, if it takes any."""
    taking = [s for s in stages_of(config.train) if set(s.positives) & set(MACHINE_POSITIVES)]
    return bool(taking) and all(stage.min_p_relevant >= SURE for stage in taking)


def _held_out(workspace: Workspace) -> pl.DataFrame:
    """Graded candidates of the queries that measure the judges, settled as labels would be."""
    from trivium.stages.annotate.cascading import FittedCascade, of_humans

    fitted = FittedCascade.load(workspace.stage("annotate").path)
    assert fitted is not None
    read = workspace.stage("judges").read
    pairs = of_humans(read("answers"), DECIDING)
    said = replayed(pairs, fitted.replay(pairs))
    return _with_grades(read("pool"), said, pairs, DECIDING)


def _withheld(workspace: Workspace, config: Config) -> Iterator[pl.DataFrame]:
    """Labelled candidates of training queries with human grades, shard by shard."""
    read = workspace.stage("inputs").read
    queries = read("queries").filter(part="train").select("query_id")
    listed = read("qrels").join(queries, on="query_id", how="semi")
    both = [table.select(*_PAIR, "grade") for table in (listed, read("judgments"))]
    human = pl.concat(both).join(queries, on="query_id", how="semi").unique(_PAIR, keep="first")
    if human.is_empty():
        return
    for path in workspace.stage("annotate").shards("labels"):
        labels = pl.read_parquet(path, memory_map=False)
        mined = workspace.stage("mine").path / "candidates" / path.name
        candidates = pl.read_parquet(mined, memory_map=False)
        grades = human.join(candidates, on="query_id", how="semi")
        if config.data.complete:  # what is not listed was graded 0
            rest = labels.select(_PAIR).join(listed, on="query_id", how="semi")
            rest = rest.join(human, on=_PAIR, how="anti")
            grades = pl.concat([grades, rest.with_columns(grade=pl.lit(0, pl.Int8))])
        if len(grades):
            yield _with_grades(candidates, settled(labels), grades, "train")


def _with_grades(
    candidates: pl.DataFrame, said: pl.DataFrame, human: pl.DataFrame, part: str
) -> pl.DataFrame:
    grades = human.select(*_PAIR, human=pl.col("grade").cast(pl.Int8))
    graded = candidates.join(said, on=_PAIR).join(grades, on=_PAIR)
    return graded.with_columns(part=pl.lit(part))
