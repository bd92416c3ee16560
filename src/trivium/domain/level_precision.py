"""How often a level is right where humans have graded its pairs, and how often chance would be.

A label can be worth nothing exactly where the channels disagree: of hard positives of Home Depot
54% were right where 49% of all graded pairs under the same rule were. So a level's precision is
compared with that of a label drawn at random: the share of relevant (or irrelevant) pairs among all
graded candidates under the level's rule, whatever the judge says of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from trivium.domain.confusion import Floats, divide, interval, or_none, resampled
from trivium.domain.levels import levels_by_rule, taken
from trivium.domain.yields import BOUGHT
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import IRRELEVANT, RELEVANT, channels_of

BETTER, UNSHOWN, WORSE = "better than chance", "not shown", "worse than chance"

DECIDING = "agreement"
"""The part whose grades decide whether a level is kept; those of other parts are told beside it."""

SURE = 0.8
"""Probability from which a pair is sure, as the recipe `default` asks of machine labels."""

FEWEST = 5
"""Queries with graded pairs of a level that a verdict takes. Ours: with five, each right where half
are by chance, chance would do as well in 1 case of 32."""

RESAMPLES = 2000

LEVEL_PRECISION: dict[str, Any] = {
    "level": pl.String,
    "part": pl.String,
    "pairs": pl.Int64,
    "queries": pl.Int64,
    **dict.fromkeys(("precision", "ci_low", "ci_high"), pl.Float64),
    "chance": pl.Float64,
    "chance_pairs": pl.Int64,
    **dict.fromkeys(("lead", "lead_low", "lead_high"), pl.Float64),
    "sure_pairs": pl.Int64,
    "sure_precision": pl.Float64,
    "verdict": pl.String,
}
"""Precision of a level on the queries of a part, of a random label under its rule (`chance`), the
difference of both (`lead`), and the precision of pairs with a probability of `SURE` or more."""


def level_precision(
    graded: pl.DataFrame,
    config: ExamplesConfig,
    mine: MineConfig,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pl.DataFrame:
    """Measure the levels that labels make against human grades.

    Intervals resample whole queries, and the lead is resampled as one, since both its shares come
    from the same pairs. A verdict needs a lead whose 95% interval leaves out zero, and `FEWEST`
    queries.

    Args:
        graded: Candidates with their ranks and with what `domain.labels.settled` says of them,
            human (the human grade, which the judge has not learned from) and part.
        config: Rules (for the catalog, `ExamplesConfig.for_catalog`), floors.
        mine: Which channels are lexical, which dense.
        resamples: Bootstrap resamples of the queries.
        seed: Seed of the resampling.

    Returns:
        `LEVEL_PRECISION`, a row for each part and level, those of `DECIDING` first and always;
        values are null where nothing defines them.
    """
    placed = _placed(graded, config, mine)
    rows = [
        {"level": level, "part": part}
        | _row(placed.filter(part=part, level=level), resamples, seed)
        for part in [DECIDING, *sorted(set(graded["part"]) - {DECIDING})]
        for level in BOUGHT
    ]
    return pl.DataFrame(rows, schema=LEVEL_PRECISION)


def bad_levels(table: pl.DataFrame) -> tuple[str, ...]:
    """Levels that the deciding part shows to be worse than chance."""
    bad = table.filter((pl.col("part") == DECIDING) & (pl.col("verdict") == WORSE))
    return tuple(bad["level"])


def precision_lines(table: pl.DataFrame) -> list[str]:
    """Say of each level how often it is right, and for which levels no human grade speaks."""
    lines = []
    for part in table["part"].unique(maintain_order=True):
        rows = table.filter(part=part).to_dicts()
        lines += [_line(row) for row in rows if row["precision"] is not None]
        mute = [row["level"] for row in rows if row["precision"] is None]
        if mute:
            lines.append(f"no human grade of {_who(part)} queries says how good: {', '.join(mute)}")
    return lines


def _placed(graded: pl.DataFrame, config: ExamplesConfig, mine: MineConfig) -> pl.DataFrame:
    """Every graded pair under the rules of both signs, and what became of it under each."""
    sides = zip(
        levels_by_rule(channels_of(graded), config, mine),
        taken(config),
        (pl.col("human") >= RELEVANT, pl.col("human") <= IRRELEVANT),
        ("p_relevant", "p_irrelevant"),
        strict=True,
    )
    both = [
        graded.select(
            "query_id",
            "part",
            right=right,
            level=rule,
            taken=is_taken.fill_null(value=False),
            sure=is_taken.fill_null(value=False) & (pl.col(p) >= pl.lit(SURE, pl.Float32)),
        )
        for rule, is_taken, right, p in sides
    ]
    return pl.concat(both).filter(pl.col("level").is_not_null())


def _row(pairs: pl.DataFrame, resamples: int, seed: int) -> dict[str, Any]:
    """Measure one level on its pairs of one part."""
    counts = _counts(pairs)
    total = counts.sum(axis=0)
    precision, chance, sure = (or_none(share[0]) for share in _shares(total[None, :]))
    queries = int((counts[:, 0] > 0).sum())
    row: dict[str, Any] = {
        "pairs": int(total[0]),
        "queries": queries,
        "precision": precision,
        "chance": chance,
        "chance_pairs": int(total[2]),
        "sure_pairs": int(total[4]),
        "sure_precision": sure,
        "verdict": UNSHOWN,
    }
    if precision is None or chance is None:
        return row
    drawn = _shares(resampled(counts, resamples, seed))
    row["ci_low"], row["ci_high"] = interval(drawn[0], len(counts))
    low, high = interval(drawn[0] - drawn[1], len(counts))
    row |= {"lead": precision - chance, "lead_low": low, "lead_high": high}
    return row | {"verdict": _verdict(low, high, queries)}


def _counts(pairs: pl.DataFrame) -> Floats:
    """Pairs taken, under the rule, and sure, each with those that are right, (queries, 6)."""
    right, named = pl.col("right"), ("taken", "ruled", "sure")
    kinds = [pl.col("taken"), pl.lit(value=True), pl.col("sure")]
    flags = [
        flag.alias(f"{name}{end}")
        for name, kind in zip(named, kinds, strict=True)
        for end, flag in (("", kind), ("_right", kind & right))
    ]
    by_query = pairs.select("query_id", *flags).group_by("query_id", maintain_order=True)
    table = by_query.agg(pl.all().sum().cast(pl.Float64)).sort("query_id")
    return table.drop("query_id").to_numpy().astype(np.float64).reshape(len(table), 6)


def _shares(counts: Floats) -> tuple[Floats, Floats, Floats]:
    """Precision, chance and precision of the sure, each (batch,), of counts (batch, 6)."""
    precision, chance, sure = (divide(counts[:, at + 1], counts[:, at]) for at in (0, 2, 4))
    return precision, chance, sure


def _verdict(low: float | None, high: float | None, queries: int) -> str:
    if low is None or high is None or queries < FEWEST:
        return UNSHOWN
    return BETTER if low > 0 else WORSE if high < 0 else UNSHOWN


def _line(row: Mapping[str, Any]) -> str:
    ends = "" if row["ci_low"] is None else f" [{row['ci_low']:.0%}, {row['ci_high']:.0%}]"
    verdict = f"{row['verdict']} ({row['chance']:.0%})"
    if row["verdict"] == UNSHOWN:
        verdict = f"not shown to be better than chance ({row['chance']:.0%})"
    sure = f"; {row['sure_precision']:.0%} where P >= {SURE:g}" if row["sure_pairs"] else ""
    return (
        f"{row['level']}: {row['precision']:.0%}{ends} of {row['pairs']:,} pairs of "
        f"{row['queries']:,} {_who(row['part'])} queries are right, {verdict}{sure}"
    )


def _who(part: str) -> str:
    return "held-out" if part == DECIDING else "training"
