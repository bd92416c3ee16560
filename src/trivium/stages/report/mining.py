"""The report's section on mining."""

from __future__ import annotations

from typing import Any

import polars as pl

from trivium.adapters import templates
from trivium.adapters.upset import Sets, upset
from trivium.domain.rank_overlap import ALL
from trivium.foundation.tables import SEGMENTS
from trivium.stages.report.data import ReportData


def view(data: ReportData) -> dict[str, Any] | None:
    """What the template's section on mining reads; None where nothing is known of it."""
    overlap, found_by = data.overlap, data.found_by
    if overlap is None and found_by is None:
        return None
    every = None if overlap is None else overlap.filter(segment=ALL)
    return {
        "sentence": None if every is None else _sentence(every),
        "depths": None if every is None else _squares(every),
        "segments": None if overlap is None else _segments(overlap),
        "found_by": None if found_by is None else _found_by(found_by, every),
    }


def _sentence(overlap: pl.DataFrame) -> str | None:
    deepest = overlap.filter(depth=overlap["depth"].max()).drop_nulls("overlap")
    if deepest.is_empty():
        return None
    deepest = deepest.sort("overlap", "a", "b")
    low, high = deepest.row(0, named=True), deepest.row(-1, named=True)
    share = templates.percent(low["overlap"], 0)
    sentence = f"{low['a']} and {low['b']} share {share} of their top {low['depth']}"
    if {low["a"], low["b"]} == {high["a"], high["b"]}:
        return f"{sentence}."
    return f"{sentence}; {high['a']} and {high['b']}, {templates.percent(high['overlap'], 0)}."


def _squares(overlap: pl.DataFrame) -> list[dict[str, Any]]:
    names = _channels(overlap)
    squares = []
    for (depth,), rows in overlap.sort("depth").group_by("depth", maintain_order=True):
        known = rows.drop_nulls("overlap")
        cells = {(row["b"], row["a"]): row for row in known.iter_rows(named=True)}
        cells |= {(row["a"], row["b"]): row for row in known.iter_rows(named=True)}
        grid = [(a, [cells.get((a, b)) for b in names]) for a in names]
        queries = rows["queries"].max()
        squares.append({"depth": depth, "names": names, "rows": grid, "queries": queries})
    return squares


def _segments(overlap: pl.DataFrame) -> dict[str, Any] | None:
    """Each two channels at the full depth, by segment; None where no segment is known."""
    deepest = overlap.filter(pl.col("depth") == pl.col("depth").max())
    found = set(deepest["segment"])
    names = [name for name in SEGMENTS if name in found]
    if not names:
        return None
    cells = {(row["segment"], row["a"], row["b"]): row for row in deepest.to_dicts()}
    pairs = deepest.filter(segment=ALL).select("a", "b").rows()
    rows = [(f"{a} and {b}", [cells.get((name, a, b)) for name in names]) for a, b in pairs]
    queries = deepest.group_by("segment").agg(pl.col("queries").max())
    return {
        "names": names,
        "rows": rows,
        "queries": dict(queries.iter_rows()),
        "depth": deepest["depth"][0],
    }


def _found_by(found_by: pl.DataFrame, overlap: pl.DataFrame | None) -> dict[str, Any]:
    sets = Sets.of(found_by.filter(segment=ALL), [] if overlap is None else _channels(overlap))
    rows = [
        {"in": members, "n": n, "share": n / sets.total}
        for members, n in zip(sets.members, sets.pairs, strict=True)
    ]
    return {
        "names": sets.channels,
        "rows": rows,
        "total": sets.total,
        "single": sets.alone,
        "upset": upset(sets),
    }


def _channels(overlap: pl.DataFrame) -> list[str]:
    return pl.concat([overlap["a"], overlap["b"]]).unique(maintain_order=True).to_list()
