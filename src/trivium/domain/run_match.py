"""What two runs have in common: queries, items and channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from trivium.foundation.errors import InputError
from trivium.foundation.text import normalise


@dataclass(frozen=True)
class QueryMatch:
    """The queries that two runs have in common.

    Attributes:
        queries: Columns before and after, a query's id in each run, sorted by after.
        by_text: How many of them have different ids and the same words.
        renamed: Ids that name another query in the later run.
        only_before: Queries of the earlier run alone.
        only_after: Queries of the later run alone.
    """

    queries: pl.DataFrame
    by_text: int
    renamed: int
    only_before: int
    only_after: int


def match_queries(before: pl.DataFrame, after: pl.DataFrame) -> QueryMatch:
    """Match the queries of two runs: by id where the words are the same too, else by the words.

    Words are compared without case, punctuation and spacing; of queries of a run with the same
    words the first id is matched. An id whose words differ names another query (a log that was
    numbered anew), and matches nothing by itself.

    Args:
        before: Columns query_id and query.
        after: Columns query_id and query.
    """
    old, new = (_named(table) for table in (before, after))
    by_id = old.join(new, on="query_id", suffix="_after")
    same = by_id.filter(pl.col("words") == pl.col("words_after"))
    same = same.select(before="query_id", after="query_id")
    rest = [
        table.join(same, left_on="query_id", right_on="before", how="anti")
        .filter(pl.col("words") != "")
        .sort("query_id")
        .unique("words", keep="first", maintain_order=True)
        for table in (old, new)
    ]
    by_text = (
        rest[0]
        .join(rest[1], on="words", suffix="_after")
        .select(before="query_id", after="query_id_after")
    )
    queries = pl.concat([same, by_text]).sort("after")
    return QueryMatch(
        queries,
        by_text.height,
        by_id.height - same.height,
        before.height - queries.height,
        after.height - queries.height,
    )


def match_channels(
    before: Sequence[str], after: Sequence[str], named: Mapping[str, str]
) -> dict[str, tuple[str, str]]:
    """Pair the channels of two runs: those that are named, and the others of the same name.

    Args:
        before: Channels of the earlier run.
        after: Channels of the later run.
        named: A channel before to the one after that it is compared with.

    Returns:
        Name to the channel before and the one after, in the order of the earlier run; the name is
        the channel's, or `before=after` where they differ.

    Raises:
        InputError: If a channel is unknown or named twice, or no channel is in common.
    """
    _refuse_unknown(named, before, after)
    taken = set(named.values())
    pairs = {
        name: named.get(name, name)
        for name in before
        if name in named or (name in after and name not in taken)
    }
    if not pairs:
        raise InputError.of(
            "channels of the two runs",
            got=f"{', '.join(before)} and {', '.join(after)}",
            expected="a channel of the same name in both",
            fix=f"say which to compare, such as --channel {before[0]}={after[0]}",
        )
    return {a if a == b else f"{a}={b}": (a, b) for a, b in pairs.items()}


def _named(queries: pl.DataFrame) -> pl.DataFrame:
    return queries.select("query_id", normalise("query").alias("words"))


def _refuse_unknown(named: Mapping[str, str], before: Sequence[str], after: Sequence[str]) -> None:
    sides = (("earlier", list(named), before), ("later", list(named.values()), after))
    for run, given, known in sides:
        wrong = [name for name in given if name not in known or given.count(name) > 1]
        if wrong:
            raise InputError.of(
                f"channel '{wrong[0]}'",
                got=f"named for {given.count(wrong[0])} channels"
                if wrong[0] in known
                else f"no such channel in the {run} run",
                expected=f"one of {', '.join(known)}, once",
                fix="correct the name",
            )
