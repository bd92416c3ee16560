"""What the budget of annotation buys: candidates chosen, labelled, and counted by stratum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from trivium.domain.labels import settled
from trivium.domain.levels import machine_levels
from trivium.domain.yields import BOUGHT, estimate, expected, tally
from trivium.foundation.config import Config
from trivium.stages.annotate.selection import Selection, caps, pilot_queries, select

Ask = Callable[[pl.DataFrame], tuple[pl.DataFrame, int]]
"""Labels pairs (query_id, item_id) and counts those that no judge answered."""


@dataclass(frozen=True)
class Bought:
    """What the pairs of some queries were spent on.

    Attributes:
        pairs: Columns query_id and item_id: what was chosen.
        labels: As `tables.labels_schema` has them.
        left_out: Candidates that have no label, by reason.
        counts: `domain.yields.TALLY`.
        foreseen: `domain.yields.expected` of these pairs by the yields known before, and the number
            of pairs, under the keys "dealt" and "in turn"; empty where no yields were known.
    """

    pairs: pl.DataFrame
    labels: pl.DataFrame
    left_out: Counter[str]
    counts: pl.DataFrame
    foreseen: dict[str, dict[str, float]]


def buy(
    candidates: pl.DataFrame, ask: Ask, config: Config, yields: pl.DataFrame | None = None
) -> Bought:
    """Choose candidates, have them labelled, and count what came of it.

    Without a pilot, on which nothing rests, examples are counted by grade, whatever the floors.

    Args:
        candidates: Of some queries.
        ask: The judges.
        config: The configuration.
        yields: What was learned from the pilot.
    """
    chosen = _chosen(candidates, config, yields)
    labels, unanswered = ask(chosen.pairs)
    left_out: Counter[str] = Counter()
    for reason, pairs in chosen.counts.select("reason", "pairs").iter_rows():
        left_out[reason] += pairs
    del left_out["kept"]
    if unanswered:
        left_out["no judge answered"] = unanswered
    counted = {} if config.annotate.pilot else {"by": "grade"}
    rules = config.examples.model_copy(update=counted)
    made, _without = machine_levels(candidates, settled(labels), rules, config.mine)
    counts = tally(chosen.offered, labels, made)
    foreseen = {} if yields is None else _foreseen(candidates, chosen, config, yields)
    return Bought(chosen.pairs, labels, left_out, counts, foreseen)


def buy_all(candidates: pl.DataFrame, ask: Ask, config: Config) -> list[Bought]:
    """As `buy`, of all queries: those of the pilot first, if there is one, then the others."""
    share, query_ids = config.annotate.pilot, candidates["query_id"].unique()
    if not share:
        return [buy(candidates, ask, config)]
    drawn = pilot_queries(query_ids, share, config.run.seed)
    pilot = buy(candidates.join(drawn, on="query_id", how="semi"), ask, config)
    others = candidates.join(drawn, on="query_id", how="anti")
    return [pilot, buy(others, ask, config, estimate(pilot.counts))]


def bought_line(counts: pl.DataFrame, foreseen: Sequence[dict[str, dict[str, float]]]) -> str:
    """Say what the budget bought, and what was to be expected of it and of taking turns."""
    labels = int(counts["pairs"].sum())
    if not labels:
        return ""
    parts = [f"{100 * counts[level].sum() / labels:.1f} {level}" for level in BOUGHT]
    line = f"100 labels made {', '.join(parts)}"
    known = [each for each in foreseen if each]
    if not known:
        return line
    dealt, turns = (_usable([each[how] for each in known]) for how in ("dealt", "in turn"))
    return f"{line}; after the pilot {dealt:.1f} usable are expected, {turns:.1f} of levels in turn"


def _usable(foreseen: Sequence[Mapping[str, float]]) -> float:
    """Usable examples of 100 labels."""
    pairs = sum(each["pairs"] for each in foreseen)
    return 100 * sum(each["usable"] for each in foreseen) / max(pairs, 1.0)


def _chosen(candidates: pl.DataFrame, config: Config, yields: pl.DataFrame | None) -> Selection:
    return select(
        candidates,
        config.annotate,
        config.examples,
        config.mine,
        yields=yields,
        seed=config.run.seed,
    )


def _foreseen(
    candidates: pl.DataFrame, chosen: Selection, config: Config, yields: pl.DataFrame
) -> dict[str, dict[str, float]]:
    section = config.annotate.model_copy(update={"pilot": 0.0})
    turns = select(candidates, section, config.examples, config.mine, seed=config.run.seed)
    known = estimate(yields, pl.concat([chosen.pairs, turns.pairs]))
    return {
        how: {**expected(pairs, known, caps(config.examples)), "pairs": float(len(pairs))}
        for how, pairs in (("dealt", chosen.pairs), ("in turn", turns.pairs))
    }
