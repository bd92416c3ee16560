"""Towers trained beside a run's own, on the same inputs: baselines, other recipes, ablations.

Each lies in a folder of its own under `rivals/` of the run, is trained as the run's own tower is,
and is measured on the same queries; a rerun finishes what is missing and repeats nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from trivium.adapters.executors.local import LocalExecutor
from trivium.adapters.models import model_fingerprint, resolve_model
from trivium.adapters.validation import Validation
from trivium.domain.curriculum import stages_of
from trivium.foundation.config import Config
from trivium.foundation.console import say
from trivium.foundation.errors import WorkspaceError
from trivium.foundation.train_config import StageConfig
from trivium.foundation.workspace import Plan, StageFolder, Workspace, write_table
from trivium.pipeline.job import Job
from trivium.pipeline.plans import Planner

FOLDER = "rivals"
_CURVES = "curves.parquet"
_NEEDED = ("inputs", "mine", "annotate", "examples")


@dataclass(frozen=True)
class Rival:
    """A tower to train beside the run's own.

    Attributes:
        name: Of its folder and of its rows in tables.
        stages: Its curriculum; without any it is the starting tower.
        parts: Its examples, all of a query in one part, made anew at every call.
        made_of: What decides them beside the run's own examples.
    """

    name: str
    stages: Sequence[StageConfig]
    parts: Callable[[], Iterable[pl.DataFrame]]
    made_of: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Arena:
    """A run whose examples are done, in which rivals are trained and measured.

    Attributes:
        job: The run.
        part: Whose queries are measured. Those of `train` are in the traffic, as they are in
            production: systems may learn from their clicks or machine labels, never their grades.
    """

    job: Job
    part: str = "test"

    @property
    def queries(self) -> pl.DataFrame:
        """The queries that are measured."""
        return self.job.table("inputs", "queries").filter(pl.col("part") == self.part)

    @property
    def place(self) -> Path:
        """The folder of the rivals."""
        return self.job.workspace.root / FOLDER

    @property
    def start(self) -> str:
        """The tower that every rival starts from."""
        config = self.job.config
        return resolve_model(config.train.model or config.mine.model)

    def examples(self) -> Iterable[pl.DataFrame]:
        """The run's own examples, shard by shard."""
        from trivium.adapters.example_store import shards_of

        return shards_of(self.job.workspace.stage("examples").shards("examples"))

    def own(self) -> Rival:
        """The run's own curriculum, trained as the rivals are."""
        return Rival("own", stages_of(self.job.config.train), self.examples)

    def per_query(self, rival: Rival, seed: int) -> pl.DataFrame:
        """Train a rival, measure it on the test queries, or read what an earlier call found.

        Returns:
            `tables.PER_QUERY`, of the system `rival.name`.
        """
        folder = StageFolder(self._folder(rival, seed))
        plan = self._plan(rival, seed)
        place = folder.table_path("per_query")
        if folder.state(plan)[0] != "done":
            folder.begin(plan, overwrite=False)
            say(f"{folder.path.name}:")
            model = self._train(rival, folder.path, seed) if rival.stages else self.start
            write_table(place, self._measured(rival.name, model, folder.path))
            folder.finish(plan, {"model": model})
        return pl.read_parquet(place, memory_map=False)

    def validated(self, rival: Rival, seed: int) -> float | None:
        """NDCG on the validation queries of the tower that a trained rival ended with.

        Returns:
            The NDCG; nothing for the starting tower, which is not trained.
        """
        if not rival.stages:
            return None
        curves = pl.read_parquet(self._folder(rival, seed) / _CURVES)
        last = curves.filter(pl.col("stage") == rival.stages[-1].name)
        return float(last.select(pl.col("ndcg").max()).item())

    def _folder(self, rival: Rival, seed: int) -> Path:
        return self.place / (f"{rival.name}-{seed}" if rival.stages else rival.name)

    def _plan(self, rival: Rival, seed: int) -> Plan:
        plans = Planner(self.job.config).plans
        train = plans["train"].settings
        settings = {k: v for k, v in train.items() if k not in ("train.stages", "train.recipe")}
        settings |= {} if self.part == "test" else {"part": self.part}
        evaluate = dict(plans["evaluate"].settings)
        stages = [stage.model_dump(mode="json") for stage in rival.stages]
        return Plan(
            rival.name,
            settings={**settings, **evaluate, "stages": stages, "seed": seed, **rival.made_of},
            inputs={"start": model_fingerprint(self.start)},
            upstream={name: plans[name].key for name in _NEEDED},
        )

    def _train(self, rival: Rival, folder: Path, seed: int) -> str:
        from trivium.stages import train as stage

        config = self.job.config.train
        stages = len(stages_of(config))  # who has fewer is validated as often in all
        update = {
            "stages": list(rival.stages),
            "scale": 1.0,
            "validations": round(config.validations * stages / len(rival.stages)),
            "patience": round(config.patience * stages / len(rival.stages)),
        }
        tower = stage.train(
            rival.parts(),
            self.job.table("inputs", "items"),
            self.job.table("inputs", "queries"),
            self._validation,
            config.model_copy(update=update),
            self.start,
            folder,
            seed,
        )
        write_table(folder / _CURVES, tower.curves)
        return str(tower.model)

    def _validation(self) -> Validation:
        """The run's own, or one that all rivals share."""
        from trivium.stages import train as stage

        config, shared = self.job.config, self.place / "validation"
        for place in (self.job.workspace.stage("train").path / "validation", shared):
            if Validation.is_saved(place):
                return Validation.load(place)
        made = stage.validation_set(
            self.job.table("inputs", "queries"),
            self.job.table("inputs", "items"),
            self.job.table("inputs", "qrels"),
            config.train,
            config.evaluate,
            complete=config.data.complete,
            seed=config.run.seed,
            start=self.start,
            cache=self.job.workspace.cache,
        )
        made.save(shared)
        return made

    def _measured(self, name: str, model: str, folder: Path) -> pl.DataFrame:
        from trivium.stages.evaluate import retrieve, score_run

        config = self.job.config
        queries = self.queries
        qrels = self.job.table("inputs", "qrels").join(queries, on="query_id", how="semi")
        run = retrieve(
            model,
            self.job.table("inputs", "items"),
            queries,
            depth=config.evaluate.depth,
            max_length=config.train.max_length,
            mine=config.mine,
            data=config.data,
            cache=self.job.workspace.cache if model == self.start else None,
        )
        write_table(folder / "run.parquet", run)
        complete = config.data.complete
        return score_run(run, qrels, queries, config.evaluate, complete=complete, system=name)


def open_arena(workspace: Workspace, config: Config) -> Arena:
    """The arena of a run.

    Raises:
        WorkspaceError: If its examples are not made, or not with these settings.
    """
    state, why = workspace.stage("examples").state(Planner(config).plans["examples"])
    if state != "done":
        raise WorkspaceError.of(
            f"{workspace.root}: stage 'examples'",
            got=state + (f" ({'; '.join(why)})" if why else ""),
            expected="done, since every tower is trained on its examples",
            fix=f"trivium run {workspace.root} --until examples",
        )
    return Arena(Job(workspace, config, LocalExecutor(config.run.workers), ()))


@dataclass(frozen=True)
class Comparison:
    """Rivals side by side.

    Attributes:
        metrics: `tables.METRICS`, the first rival the baseline.
        gains: `stages.evaluate.GAINS` against the first rival.
        seeds: Trainings of each, whose mean counts for a query.
        validation: NDCG on the validation queries, the mean of the seeds, of what is trained.
    """

    metrics: pl.DataFrame
    gains: pl.DataFrame
    seeds: int
    validation: dict[str, float]


def compare(arena: Arena, rivals: Iterable[Rival], seeds: int) -> Comparison:
    """Train rivals and compare them with the first on the test queries.

    Differences are paired over queries; for a query the mean over the seeds counts, so that the
    intervals hold for these trainings and for other queries.

    Args:
        arena: The run.
        rivals: The rivals.
        seeds: Trainings of each, with seeds from `run.seed` on.
    """
    from trivium.stages import evaluate as stage

    config = arena.job.config
    first, measure = config.run.seed, f"nDCG@{config.evaluate.cutoff}"
    found, validation = [], {}
    for rival in rivals:
        runs = [arena.per_query(rival, first + more) for more in range(seeds)]
        ends = [arena.validated(rival, first + more) for more in range(seeds)]
        if known := [end for end in ends if end is not None]:
            validation[rival.name] = sum(known) / seeds
        found.append(mean_over_seeds(runs))
        values = found[-1].filter(measure=measure)["value"].drop_nulls().to_numpy()
        say(f"{rival.name}: {measure} {values.mean():.4f}")
    per_query, baseline = pl.concat(found), found[0]["system"][0]
    metrics = stage.summarise(per_query, baseline, config.evaluate, first)
    gains = stage.gains(per_query, baseline, config.evaluate, first)
    return Comparison(metrics, gains, seeds, validation)


def mean_over_seeds(tables: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """One value a query and measure: the mean of what a system's seeds gave.

    Args:
        tables: `tables.PER_QUERY` of one system, one for each seed.
    """
    together = pl.concat(list(tables))
    keys = ["system", "query_id", "segment", "measure"]
    return together.group_by(keys, maintain_order=True).agg(pl.col("value").mean())
