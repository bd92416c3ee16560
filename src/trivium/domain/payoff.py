"""Will training pay? What is known before it, weighed against what made trials go well or wrong.

Three things decide: whether the judge ranks better than the tower that it is to teach, how often
the machine's positives are right, and how many queries have one. Negatives are told but decide
nothing: stages without judged ones draw their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from trivium.domain.level_precision import DECIDING, SURE
from trivium.domain.rerank import HELP
from trivium.foundation.tables import BASELINE_LEVELS, POSITIVE_LEVELS

Outlook = Literal["expected to help", "not expected to help", "cannot tell"]

MACHINE_POSITIVES = tuple(
    level for level in POSITIVE_LEVELS if level not in ("seed_positive", *BASELINE_LEVELS)
)

RIGHT_ENOUGH, TOO_WRONG = 0.8, 0.6
"""Shares of machine positives that are right. Measured on Home Depot: towers gained where 87% were,
and the published recipe ended 21% below its click-trained rival where 54% of its hard positives
were; published labels are right in 89% of cases. The ends between are ours."""

FEWEST_QUERIES = 500
"""Queries with a machine positive; ours: gains were measured with 2,600 and 5,677 mined queries."""

FEWEST_PAIRS = 30
"""Human-graded pairs of a level that its share of right ones is believed on: the standard error is
then at most 0.09. Levels with fewer must not hold half of the machine positives."""


@dataclass(frozen=True)
class Payoff:
    """Whether training is expected to raise nDCG above the starting tower's.

    Attributes:
        outlook: expected to help, not expected to help, or cannot tell.
        reasons: What speaks for it and against it.
        remedies: What would change that; empty where it is expected to help.
    """

    outlook: Outlook
    reasons: tuple[str, ...]
    remedies: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """All of it in plain words."""
        change = f" What would change that: {'; '.join(self.remedies)}." if self.remedies else ""
        head = f"Training is {self.outlook}"
        if self.outlook == "cannot tell":
            head = "It cannot be told whether training will help"
        return f"{head}: {'; '.join(self.reasons)}.{change}"


@dataclass(frozen=True)
class _Finding:
    """One thing that is known: for (+1), against (-1) or neither (0), and what would help."""

    sign: int
    reason: str
    remedy: str = ""


def payoff(
    teacher: Mapping[str, Any] | None,
    precision: pl.DataFrame,
    counts: pl.DataFrame,
    covered: int,
    *,
    sure: bool,
) -> Payoff:
    """Weigh what is known before training.

    Expected to help, where all three things speak for it; not expected, where the judge ranks worse
    than the tower or its positives are too often wrong; else it cannot be told.

    Args:
        teacher: gain (the judge's nDCG less the tower's, reranking human-graded pools of queries
            that taught neither), ci_low, ci_high, p_value and queries; None where there is none.
        precision: `domain.level_precision.LEVEL_PRECISION`.
        counts: Columns level, rows, queries: the examples.
        covered: Queries with a machine positive.
        sure: Whether training takes only machine positives with P(grade >= 3) of `SURE` or more.
    """
    findings = [_teacher(teacher), _positives(precision, counts, sure=sure), _coverage(covered)]
    signs = [finding.sign for finding in findings]
    outlook: Outlook = "cannot tell"
    if min(signs) > 0:
        outlook = "expected to help"
    elif min(signs) < 0:
        outlook = "not expected to help"
    reasons = [finding.reason for finding in findings]
    remedies = [finding.remedy for finding in findings if finding.sign <= 0]
    return Payoff(outlook, tuple(reasons), tuple(remedies))


def _teacher(row: Mapping[str, Any] | None) -> _Finding:
    if row is None or row["ci_low"] is None:
        return _Finding(0, "no graded query says how well the judge ranks", "more seed labels")
    figures = (
        f"{row['gain']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}] nDCG@10 against the "
        f"starting tower on {row['queries']:,} graded queries"
    )
    shown = row["p_value"] < _LEVEL
    if shown and row["ci_low"] > 0:
        return _Finding(1, f"the judge ranks better than what it teaches ({figures})")
    if shown and row["ci_high"] < 0:
        return _Finding(-1, f"the judge ranks worse than what it is to teach ({figures})", HELP)
    return _Finding(0, f"it is not shown that the judge ranks better ({figures})", HELP)


_LEVEL = 0.05


def _positives(precision: pl.DataFrame, counts: pl.DataFrame, *, sure: bool) -> _Finding:
    """How often machine positives are right: their levels, each by the examples that it gives."""
    pairs, share = ("sure_pairs", "sure_precision") if sure else ("pairs", "precision")
    asked = f" with P(grade >= 3) >= {SURE:g}" if sure else ""
    told = precision.filter(part=DECIDING).select("level", pairs=pairs, right=share)
    made = counts.filter(pl.col("level").is_in(MACHINE_POSITIVES)).join(told, on="level")
    known = made.filter(pl.col("pairs") >= FEWEST_PAIRS)
    rows = int(known["rows"].sum())
    if not rows or 2 * rows < made["rows"].sum():
        few = f"too few human-graded pairs say how often machine positives{asked} are right"
        counted = ", ".join(f"{level}: {n}" for level, n in made.select("level", "pairs").rows())
        remedy = "more human grades of what the channels found (trivium seed pick)"
        return _Finding(0, f"{few} ({counted or 'there are none'})", remedy)
    right = float((known["right"] * known["rows"]).sum()) / rows
    graded = int(known["pairs"].sum())
    reason = f"{right:.0%} of machine positives{asked} are right, by {graded:,} human-graded pairs"
    remedy = "" if sure else f"stages that ask for P >= {SURE:g}, or "
    sign = 1 if right >= RIGHT_ENOUGH else -1 if right < TOO_WRONG else 0
    return _Finding(sign, reason, f"{remedy}a stronger judge")


def _coverage(covered: int) -> _Finding:
    enough = covered >= FEWEST_QUERIES
    reason = f"{covered:,} queries have a machine positive"
    return _Finding(int(enough), reason, "more queries to mine, or more pairs labelled for each")
