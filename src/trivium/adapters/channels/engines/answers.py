"""From what an engine answered to a runs table: ids and scores checked, ranks made anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from trivium.adapters.channels.engines.asking import Answer
from trivium.foundation.errors import DependencyError, InputError, TriviumError
from trivium.foundation.tables import RUNS

_SHOWN = 3


@dataclass(frozen=True)
class Hits:
    """Hits of some queries.

    Attributes:
        rows: Columns row (of the query), item_id, score (Float32).
    """

    rows: pl.DataFrame

    def unknown(self, catalog: pl.DataFrame) -> pl.DataFrame:
        """The hits of items that a catalog, column item_id, does not have."""
        return self.rows.join(catalog, on="item_id", how="anti", maintain_order="left")

    def runs(
        self, channel: str, query_ids: pl.Series, catalog: pl.DataFrame, k: int
    ) -> pl.DataFrame:
        """The k best items of each query that the catalog has; see `Channel.search`.

        An item that was found several times, as an engine does that holds it in several parts,
        counts once, with its best score.
        """
        known = self.rows.join(catalog, on="item_id", how="semi")
        best = known.group_by("row", "item_id").agg(pl.col("score").max())
        best = best.sort("row", "score", "item_id", descending=[False, True, False])
        ranked = best.with_columns(rank=pl.int_range(1, pl.len() + 1).over("row"))
        ranked = ranked.filter(pl.col("rank") <= k)
        return pl.DataFrame(
            {
                "query_id": query_ids.gather(ranked["row"]),
                "item_id": ranked["item_id"],
                "channel": pl.repeat(channel, ranked.height, dtype=pl.String, eager=True),
                "rank": ranked["rank"],
                "score": ranked["score"],
            },
            schema=dict(RUNS.columns),
        )


def read_hits(answers: Sequence[Answer], where: str) -> Hits:
    """Check the ids and scores of some answers.

    Args:
        answers: One for each query.
        where: The channel and the engine's address, for errors.

    Raises:
        DependencyError: If a hit has no id, or no finite score.
    """
    raw = [raw for answer in answers for raw in answer.item_ids]
    item_ids = [_item_id(one) for one in raw]
    if None in item_ids:
        raise _without(where, "an id, a text or a whole number", raw[item_ids.index(None)], "id")
    given = [one for answer in answers for one in _scores(answer)]
    # Beyond the range of float32 is infinite: an error as well.
    with np.errstate(over="ignore"):
        scores = np.array([_number(one) for one in given], dtype=np.float64).astype(np.float32)
    if not np.isfinite(scores).all():
        raise _without(where, "a finite score", given[int(np.argmin(np.isfinite(scores)))], "score")
    counts = [len(answer.item_ids) for answer in answers]
    rows = np.repeat(np.arange(len(answers), dtype=np.uint32), counts)
    columns = {"row": rows, "item_id": pl.Series(item_ids, dtype=pl.String), "score": scores}
    return Hits(pl.DataFrame(columns))


def unknown_items(where: str, strangers: pl.DataFrame) -> TriviumError:
    """The error of hits whose items the catalog does not have."""
    return InputError.of(
        where,
        got=f"{strangers.height:,} hits of items that the catalog does not have, {_few(strangers)}",
        expected="ids of the catalog",
        fix="correct the setting of the item's id, or the catalog; or set unknown_items = 'drop'",
    )


def left_out(where: str, strangers: pl.DataFrame) -> str:
    """A line about hits that were left out."""
    hits = f"{strangers.height:,} hits left out, of items not in the catalog"
    return f"{where}: {hits}, {_few(strangers)}"


def _few(strangers: pl.DataFrame) -> str:
    shown = strangers["item_id"].unique(maintain_order=True)[:_SHOWN].to_list()
    return f"such as {', '.join(map(repr, shown))}"


def _scores(answer: Answer) -> Sequence[Any]:
    """Scores; where there are none, the later a hit the lower."""
    return range(-1, -len(answer.item_ids) - 1, -1) if answer.scores is None else answer.scores


def _item_id(raw: Any) -> str | None:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return str(raw)
    return raw if isinstance(raw, str) and raw else None


def _number(raw: Any) -> float:
    number = isinstance(raw, (int, float, Decimal)) and not isinstance(raw, bool)
    try:
        return float(raw) if number else np.nan
    except OverflowError:
        return np.inf


def _without(where: str, expected: str, got: Any, what: str) -> TriviumError:
    return DependencyError.of(
        where,
        got=f"a hit whose {what} is {got!r:.80}",
        expected=expected,
        fix=f"correct what the channel's settings, template or query give as the {what}",
    )
