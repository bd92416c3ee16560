"""The stages judges and annotate in a workspace: fit, calibrate, tune, label, and say how far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from trivium.adapters.judges.panel import Desk, Panel, load_panel
from trivium.adapters.judges.rating import MODEL_RATER
from trivium.adapters.ledger import Budget, Ledger
from trivium.adapters.store import LabelStore
from trivium.domain.costs import JudgeCost, judge_costs, relative_costs
from trivium.domain.teaching import Teaching, teaching
from trivium.foundation.config import Config
from trivium.foundation.workspace import StageFolder, Workspace, read_json, write_json, write_table
from trivium.pipeline.annotating import GROUPS, label_shards, strata_of
from trivium.pipeline.job import Job, Outcome
from trivium.pipeline.shards import run_shards, total
from trivium.pipeline.work import PoolShards

if TYPE_CHECKING:
    from trivium.domain.rerank import Verdict
    from trivium.stages.annotate.cascading import FittedCascade

SPOKEN = ("accuracy", "within_one", "kappa", "spearman", "rmse")
"""Measures of agreement that the summary names."""

_PANEL = "panel.json"


def judges(job: Job, folder: StageFolder) -> Outcome:
    """Fit the judges and ask them about the pairs that calibrate, tune and measure them."""
    from trivium.stages.judges import fit_judges, hold_out

    config, read = job.config, job.workspace.stage("inputs").read
    _mine_judged(job, folder)
    made = gathered(job.workspace, config)
    desk = desk_of(job.workspace, config)
    fitted = fit_judges(made, config.annotate, config.mine.model, desk, config.run.seed)
    start = config.train.model or config.mine.model
    held_out = hold_out(fitted.panel, made, read("items"), read("queries"), start)
    write_table(folder.table_path("answers"), held_out.answers)
    write_table(folder.table_path("teaching"), made.counts)
    content = {
        "places": fitted.places,
        "parameters": {name: judge.parameters for name, judge in fitted.panel.items()},
        "seconds_per_pair": held_out.seconds_per_pair,
    }
    write_json(folder.path / _PANEL, content)
    taught = made.counts.filter(pl.col("part") == "seed")
    sources = [f"{pairs:,} {source}" for source, pairs in taught.select("source", "pairs").rows()]
    summary = [f"learned from: {', '.join(sources)}", *spent_lines(ledger_of(job))]
    return {"judges": len(fitted.places), "answers": held_out.answers.height}, summary


def annotate(job: Job, folder: StageFolder) -> Outcome:
    """Calibrate the judges, find their thresholds, and grade candidates with the cascade."""
    from trivium.stages.annotate.buying import bought_line
    from trivium.stages.annotate.findings import by_group

    config, seed = job.config, job.config.run.seed
    answers, pool = job.table("judges", "answers"), job.table("judges", "pool")
    tables, verdict, fitted = trial(job.workspace, config)
    for name, table in tables.items():
        write_table(folder.table_path(name), table)
    fitted.save(folder.path)
    counts = label_shards(job, folder)
    sizes = pl.concat([pl.DataFrame(n["groups"], schema=GROUPS) for n in counts])
    band = (config.examples.tfidf_low, config.examples.tfidf_high)
    groups = by_group(answers, fitted, pool, band, sizes, seed)
    write_table(folder.table_path("strata"), groups)
    left_out, strata = total(counts, "left_out"), strata_of(counts)
    summary = [
        agreement_line(tables["agreement"]),
        machine_line(job.table("inputs", "ratings"), answers),
        fitted.promise,
        settled_line(tables["settled"]),
        *([verdict.text] if verdict else []),
        *without_grades_lines(groups),
        *calibration_lines(fitted),
        bought_line(strata, [shard["foreseen"] for shard in counts]),
        *spent_lines(ledger_of(job)),
        *(f"not annotated, {reason}: {n:,}" for reason, n in sorted(left_out.items())),
    ]
    return {"labels": int(strata["pairs"].sum())}, [line for line in summary if line]


def trial(
    workspace: Workspace, config: Config
) -> tuple[dict[str, pl.DataFrame], Verdict | None, FittedCascade]:
    """Measure the fitted judges and their cascade, without labelling anything.

    Returns:
        The tables of `findings` and the curve, the verdict on whether they can teach, the cascade.
    """
    from trivium.stages.annotate.cascading import fit_cascade
    from trivium.stages.annotate.findings import findings

    seed, read = config.run.seed, workspace.stage("judges").read
    answers, ratings = read("answers"), workspace.stage("inputs").read("ratings")
    costs = relative_costs(costs_of(workspace, config))
    fitted, tuned = fit_cascade(answers, config.annotate, costs, seed)
    tables, verdict = findings(answers, fitted, config.annotate, costs, ratings, read("pool"), seed)
    return {**tables, "curve": tuned.curve}, verdict, fitted


def gathered(workspace: Workspace, config: Config) -> Teaching:
    """The graded pairs that make the judges."""
    from trivium.domain.levels import deep_sample

    read, section = workspace.stage("inputs").read, config.annotate
    pool = workspace.stage("judges").read("pool")
    return teaching(
        read("judgments"),
        read("items"),
        read("queries"),
        read("further"),
        deep_sample(pool, config.examples, config.mine, config.run.seed),
        background=section.background,
        deep=section.deep,
        seed=config.run.seed,
    )


def desk_of(workspace: Workspace, config: Config) -> Desk:
    """Where the judges of a run keep what they know, and what it may spend on them."""
    return Desk(
        workspace.root / "fitted",
        store_of(workspace, config),
        run_name(workspace),
        Budget(config.annotate.max_budget),
    )


def store_of(workspace: Workspace, config: Config) -> LabelStore:
    """The label store of a run: its own, or the one that is named to be shared."""
    return LabelStore(config.annotate.store or workspace.root / "labels.sqlite")


def run_name(workspace: Workspace) -> str:
    """What this run is called in the store's ledger."""
    return str(workspace.root.absolute())


def ledger_of(job: Job) -> Ledger:
    """What this run has spent on judges so far, in all its stages."""
    return store_of(job.workspace, job.config).ledger(run_name(job.workspace))


def panel_of(workspace: Workspace, config: Config) -> Panel:
    """The judges that the stage `judges` has fitted.

    Raises:
        WorkspaceError: If they are not there any more.
    """
    from trivium.stages.judges import with_tower

    content = read_json(workspace.stage("judges").path / _PANEL)
    assert content is not None
    entries = with_tower(config.annotate, config.mine.model).judges
    return load_panel(entries, content["places"], desk_of(workspace, config))


def costs_of(workspace: Workspace, config: Config) -> dict[str, JudgeCost]:
    """What each fitted judge costs for a pair, by what it took for the held-out ones."""
    folder = workspace.stage("judges")
    content = read_json(folder.path / _PANEL)
    assert content is not None
    return judge_costs(
        config.annotate.judges,
        folder.read("answers"),
        content["parameters"],
        content["seconds_per_pair"],
    )


def agreement_line(table: pl.DataFrame) -> str:
    """The cascade's agreement with humans in one line."""
    rows = table.filter((pl.col("judge") == "cascade") & pl.col("measure").is_in(SPOKEN))
    spoken = [
        f"{row['measure']} {row['value']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
        for row in rows.drop_nulls().to_dicts()
    ]
    pairs, queries = rows.select("pairs", "queries").row(0)
    return f"against {pairs:,} human grades of {queries} unseen queries: {', '.join(spoken)}"


def machine_line(ratings: pl.DataFrame, answers: pl.DataFrame) -> str:
    """Say how many of the grades that measure were given by a chat model, not by a human."""
    pair = ["query_id", "item_id"]
    measuring = answers.filter(pl.col("part") == "agreement").select(pair)
    rated = ratings.join(measuring, on=pair, how="semi")
    by_model = rated.group_by(pair).agg(pl.col("rater").str.starts_with(MODEL_RATER).all())
    count = int(by_model["rater"].sum())
    if not count:
        return ""
    return f"{count:,} of these grades were given by a chat model, not by a human"


def settled_line(table: pl.DataFrame) -> str:
    """Who settles how much, in one line."""
    if table["judge"].n_unique() < 2:
        return ""
    parts = [
        f"{row['judge']} {row['share']:.0%} ({row['agreement']:.0%} right)"
        for row in table.to_dicts()
    ]
    cost = (table["share"] * table["cost"]).sum()
    dearest = "what asking the dearest judge about everything costs"
    return f"settled by {', '.join(parts)}; {cost:.0%} of {dearest}"


def calibration_lines(fitted: FittedCascade) -> Sequence[str]:
    """Say where the labels were too few for the calibration that was asked for."""
    lines = []
    for name, fit in fitted.calibrations.items():
        if fit.why:
            lines.append(f"calibration of {name} by {fit.method_used}: {fit.why}")
        elif fit.fallbacks:
            grades = ", ".join(map(str, fit.fallbacks))
            lines.append(f"calibration of {name}: too few labels for curves of grades {grades}")
    return lines


def without_grades_lines(groups: pl.DataFrame) -> Sequence[str]:
    """Name the kinds of candidates that no human grade speaks for."""
    empty = groups.filter((pl.col("pairs") == 0) & (pl.col("measure") == "accuracy"))
    named = empty.filter(pl.col("share") >= 0.01).sort("share", descending=True)
    if named.is_empty():
        return []
    words = [f"{row['by']} {row['group']} ({row['share']:.0%})" for row in named.to_dicts()]
    return [f"no human grade among the candidates of: {', '.join(words)}"]


def spent_lines(ledger: Ledger) -> Sequence[str]:
    """What each judge was paid, a line each."""
    lines = []
    for name, spent in ledger.judges.items():
        usd = f", ${spent.usd:.4f}" if spent.usd else ""
        lines.append(
            f"asked {name}: {spent.asked:,} pairs, {spent.read + spent.written:,} tokens, "
            f"{spent.seconds:.1f} s{usd}; {spent.reused:,} known already"
            + (f"; {_troubles(spent.troubles)}" if spent.troubles else "")
        )
    return lines


def _troubles(troubles: Mapping[str, int]) -> str:
    return ", ".join(f"{what}: {count:,}" for what, count in sorted(troubles.items()))


def _mine_judged(job: Job, folder: StageFolder) -> None:
    """Search the channels for judged queries, so that agreement is known where channels differ."""
    config = job.config
    parts = ["agreement", *(["seed", "calibration"] if config.annotate.deep else [])]
    queries = job.table("inputs", "queries").filter(pl.col("part").is_in(parts)).sort("query_id")
    write_table(folder.table_path("queries"), queries.select("query_id", "text", "part"))
    work = PoolShards(job.workspace, config)
    run_shards(job.executor, work, folder, "pool", job.shards(queries))
