"""What is known of a cascade before and after it labels: all of it on queries no judge has seen.

In: answers of the judges about the part `agreement`, and the fitted cascade. Out: tables of
agreement with humans (judge by judge, by group, against single raters), of calibration, of what
each judge settles, and whether the labels can teach the tower.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain import reliability
from trivium.domain.agreement import GROUP_COLUMNS, agreement, agreement_by, with_groups
from trivium.domain.calibration import Calibrated
from trivium.domain.cascade import VOTE
from trivium.domain.curves import expected_grades
from trivium.domain.raters import between_raters, compare_with_raters
from trivium.domain.rerank import Verdict, can_teach, rerank
from trivium.foundation.annotate_config import AnnotateConfig
from trivium.foundation.tables import GRADES, channels_of
from trivium.stages.annotate.cascading import (
    FittedCascade,
    calibrating_pairs,
    grades_of,
    of_humans,
    raw_of,
)

CASCADE, TOWER = "cascade", "starting tower"
RESAMPLES = 2000

Tables = dict[str, pl.DataFrame]


def findings(
    answers: pl.DataFrame,
    fitted: FittedCascade,
    config: AnnotateConfig,
    costs: Mapping[str, float],
    ratings: pl.DataFrame,
    pool: pl.DataFrame,
    seed: int,
) -> tuple[Tables, Verdict | None]:
    """Measure a cascade on the part `agreement`.

    Args:
        answers: What the judges said of held-out pairs (`stages.judges.HeldOut`).
        fitted: The cascade.
        config: Its settings.
        costs: What each judge costs for a pair, in any one unit.
        ratings: The judgments rater by rater, where they name raters.
        pool: Candidates of the judged queries, with their ranks.
        seed: Seed of the intervals.

    Returns:
        Tables by name: agreement (judge, and the columns of `Agreement.measures`), confusion,
        calibration (judge, and the columns of `reliability.compare`), reliability, settled (judge,
        pairs, share, agreement, cost), raters, rerank; and the verdict on whether the cascade can
        teach, none where no query's order can matter.
    """
    pairs = of_humans(answers, "agreement")
    said, settled = fitted.calibrated(pairs), fitted.replay(pairs)
    systems = {name: (s.grades, expected_grades(s.probabilities)) for name, s in said.items()}
    cascade_grades = settled["grade"].fill_null(-1).cast(pl.Int64).to_numpy()
    distributions = _distributions(settled)
    systems[CASCADE] = (cascade_grades, expected_grades(distributions))
    tables = _agreement(pairs, systems, seed)
    tables |= _calibration(answers, pairs, said, config)
    tables["settled"] = settled_by(pairs, settled, fitted.costs(costs), max(costs.values()))
    tables["raters"] = between_raters(ratings, resamples=RESAMPLES, seed=seed)
    tables["against_raters"] = compare_with_raters(
        ratings,
        pairs.select("query_id", "item_id").with_columns(settled["grade"]),
        resamples=RESAMPLES,
        seed=seed,
    )
    tables["rerank"], verdict = teaching_power(pairs, systems, pool, seed)
    return tables, verdict


def by_group(
    answers: pl.DataFrame,
    fitted: FittedCascade,
    pool: pl.DataFrame,
    band: tuple[float, float],
    population: pl.DataFrame,
    seed: int,
) -> pl.DataFrame:
    """Measure the cascade by how candidates were found, and name what no human graded.

    Args:
        answers: What the judges said of held-out pairs.
        fitted: The cascade.
        pool: Candidates of the judged queries, with their ranks.
        band: The TF-IDF band of token-similar negatives.
        population: `group_sizes` of all that was labelled.
        seed: Seed of the intervals.

    Returns:
        `domain.agreement.AGREEMENT_BY`; graded pairs that are no candidates make the group "none".
    """
    pairs = of_humans(answers, "agreement")
    judged = pairs.select("query_id", "item_id", human="grade").with_columns(
        fitted.replay(pairs)["grade"].alias("predicted")
    )
    grouped = judged.join(with_groups(pool, band), on=["query_id", "item_id"], how="left")
    return agreement_by(
        grouped, GROUP_COLUMNS, population=population, resamples=RESAMPLES, seed=seed
    )


def settled_by(
    pairs: pl.DataFrame, settled: pl.DataFrame, costs: Mapping[str, float], dearest: float
) -> pl.DataFrame:
    """Say which judge settles how much, how often it is right there, and at what cost.

    Args:
        pairs: Human-graded pairs.
        settled: What the cascade makes of them (`Settling.table`).
        costs: What each judge of the cascade costs for a pair.
        dearest: What the dearest of all judges costs.

    Returns:
        Columns judge (in the order of asking, then the vote), settled, pairs, share, agreement, and
        cost: of all judges that such a pair passes, as a share of asking the dearest one alone.
    """
    names = list(costs)
    passed = np.cumsum([costs[name] for name in names]) / dearest
    paid = dict(zip(names, passed.tolist(), strict=True)) | {VOTE: float(passed[-1])}
    right = settled["grade"] == pairs["grade"].cast(pl.Int8)
    order = {name: at for at, name in enumerate([*names, VOTE])}
    return (
        settled.with_columns(right.alias("right"))
        .filter(pl.col("judge").is_not_null())
        .group_by("judge", "settled")
        .agg(pl.len().cast(pl.Int64).alias("pairs"), agreement=pl.col("right").mean())
        .with_columns(
            share=pl.col("pairs") / len(pairs),
            cost=pl.when(pl.col("settled") == "accepted")
            .then(pl.col("judge").replace_strict(paid, return_dtype=pl.Float64))
            .otherwise(float(passed[-1])),
        )
        .sort(pl.col("judge").replace_strict(order, return_dtype=pl.Int64), "settled")
        .select("judge", "settled", "pairs", "share", "agreement", "cost")
    )


def teaching_power(
    pairs: pl.DataFrame,
    systems: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]],
    pool: pl.DataFrame,
    seed: int,
) -> tuple[pl.DataFrame, Verdict | None]:
    """Rerank the judged pools with the judges, the channels and the starting tower.

    Args:
        pairs: Human-graded pairs, with the starting tower's cosine.
        systems: Grades and expected grades of each judge and of the cascade, (pairs,).
        pool: Candidates of the same queries, with their ranks.
        seed: Seed of the intervals.

    Returns:
        Columns system, ndcg, gain over the starting tower with ci_low, ci_high and p_value,
        queries; and the verdict on the cascade.
    """
    ranked = pairs.join(pool, on=["query_id", "item_id"], how="left", maintain_order="left")
    channels = {name: -ranked[f"rank_{name}"].cast(pl.Float64) for name in channels_of(pool)}
    judges = {name: pl.Series(scores) for name, (_, scores) in systems.items()}
    schema = {"system": pl.String, **dict.fromkeys(_RERANK, pl.Float64), "queries": pl.Int64}
    if pairs.group_by("query_id").agg(pl.col("grade").n_unique())["grade"].max() in (None, 1):
        return pl.DataFrame(schema=schema), None
    measured = rerank(pairs, {TOWER: pairs["cosine"], **channels, **judges}).per_query
    rows, verdict = [], None
    for system in [TOWER, *channels, *judges]:
        values = measured.filter(pl.col("system") == system)["value"]
        row: list[object] = [system, values.mean()]
        if system == TOWER:
            row += [None, None, None, None]
        else:
            verdict = can_teach(measured, system, TOWER, resamples=RESAMPLES, seed=seed)
            row += [verdict.difference, verdict.ci_low, verdict.ci_high, verdict.p_value]
        rows.append([*row, len(values)])
    return pl.DataFrame(rows, schema=schema, orient="row"), verdict


_RERANK = ("ndcg", "gain", "ci_low", "ci_high", "p_value")


def _agreement(
    pairs: pl.DataFrame,
    systems: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]],
    seed: int,
) -> Tables:
    measures, confusions = [], []
    for name, (grades, scores) in systems.items():
        found = agreement(
            pairs["query_id"], grades_of(pairs), grades, scores, resamples=RESAMPLES, seed=seed
        )
        judge = pl.lit(name).alias("judge")
        measures.append(found.measures.select(judge, pl.all()))
        confusions.append(found.confusion.select(judge, pl.all()))
    return {"agreement": pl.concat(measures), "confusion": pl.concat(confusions)}


def _calibration(
    answers: pl.DataFrame,
    pairs: pl.DataFrame,
    said: Mapping[str, Calibrated],
    config: AnnotateConfig,
) -> Tables:
    calibrating = calibrating_pairs(answers, config)
    errors, bins = [], []
    for name, calibrated in said.items():
        judge = pl.lit(name).alias("judge")
        compared = reliability.compare(
            raw_of(calibrating, name),
            grades_of(calibrating),
            raw_of(pairs, name),
            grades_of(pairs),
            min_count=config.min_calibration,
            query_ids=calibrating["query_id"],
        )
        errors.append(compared.select(judge, pl.all()))
        drawn = reliability.diagrams(raw_of(pairs, name), calibrated, grades_of(pairs))
        bins.append(drawn.select(judge, pl.all()))
    return {"calibration": pl.concat(errors), "reliability": pl.concat(bins)}


def _distributions(settled: pl.DataFrame) -> NDArray[np.float64]:
    """The settled distributions, (pairs, 5), NaN where no judge answered."""
    column = settled["probabilities"]
    nothing = pl.lit([float("nan")] * len(GRADES), dtype=column.dtype)
    filled = settled.select(pl.col("probabilities").fill_null(nothing)).to_series()
    return filled.to_numpy().astype(np.float64).reshape(len(settled), len(GRADES))
