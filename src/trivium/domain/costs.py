"""What judges cost for a pair, and what a run would cost before it is paid for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from trivium.foundation.judge_config import JudgeSection

_NEARLY_NOTHING = 1e-6


@dataclass(frozen=True)
class JudgeCost:
    """What one judge costs for a pair, on average.

    Attributes:
        tokens: Read and written.
        parameters: Weights that each token passes; 0 where they are not known or not used.
        usd: US dollars for tokens.
        seconds: Measured; 0 where nothing was asked.
        usd_per_hour: US dollars for an hour of its machine.
    """

    tokens: float
    parameters: int
    usd: float
    seconds: float
    usd_per_hour: float


def judge_costs(
    judges: Sequence[JudgeSection],
    answers: pl.DataFrame,
    parameters: Mapping[str, int],
    seconds: Mapping[str, float],
) -> dict[str, JudgeCost]:
    """What each judge costs for a pair, by what it took for held-out ones.

    Args:
        judges: Their settings, in order.
        answers: Columns tokens_<judge>.
        parameters: Weights of each.
        seconds: What each took for a pair.
    """
    costs = {}
    for judge in judges:
        tokens = int(answers[f"tokens_{judge.name}"].sum()) / max(len(answers), 1)
        costs[judge.name] = JudgeCost(
            tokens=tokens,
            parameters=parameters[judge.name],
            usd=tokens * judge.usd_per_million_tokens / 1e6,
            seconds=seconds[judge.name],
            usd_per_hour=judge.usd_per_hour,
        )
    return costs


def relative_costs(judges: Mapping[str, JudgeCost]) -> dict[str, float]:
    """Costs that thresholds are weighed by: money, or computation, or the order of the judges.

    Money where every judge that reads tokens has a price for them. Else computation, weights times
    tokens, to which the operations of a forward pass are proportional, where the weights of all of
    them are known. Else each judge counts one more than the one before it. Judges that read no
    tokens, such as trees, count a millionth of the dearest one. Measured seconds are not used:
    thresholds must not depend on a busy machine.
    """
    reading = [judge for judge in judges.values() if judge.tokens]
    if reading and all(judge.usd for judge in reading):
        raw = {name: judge.usd for name, judge in judges.items()}
    elif reading and all(judge.parameters for judge in reading):
        raw = {name: judge.tokens * judge.parameters for name, judge in judges.items()}
    else:
        return {name: float(at + 1) for at, name in enumerate(judges)}
    dearest = max(raw.values())
    return {name: max(cost, _NEARLY_NOTHING * dearest) for name, cost in raw.items()}


def predicted(
    judges: Mapping[str, JudgeCost],
    asked: Mapping[str, float],
    known: Mapping[str, int],
    pairs: int,
) -> pl.DataFrame:
    """Predict what labelling costs.

    Args:
        judges: What each judge costs for a pair.
        asked: Share of the pairs that each judge is asked about.
        known: Pairs that the store already has an answer of each judge to.
        pairs: Pairs to label.

    Returns:
        Columns judge, share (of the pairs), pairs (to pay for), known, tokens, seconds, usd; a
        last row "all". What the store knows is taken off each judge's pairs, all of it.
    """
    rows = []
    for name, judge in judges.items():
        to_pay = max(round(asked[name] * pairs) - known.get(name, 0), 0)
        seconds = to_pay * judge.seconds
        rows.append(
            {
                "judge": name,
                "share": asked[name],
                "pairs": to_pay,
                "known": known.get(name, 0),
                "tokens": round(to_pay * judge.tokens),
                "seconds": seconds,
                "usd": to_pay * judge.usd + seconds * judge.usd_per_hour / 3600,
            }
        )
    table = pl.DataFrame(rows)
    total = table.select(
        pl.lit("all").alias("judge"),
        pl.lit(1.0).alias("share"),
        pl.col("pairs", "known", "tokens", "seconds", "usd").sum(),
    )
    return pl.concat([table, total])
