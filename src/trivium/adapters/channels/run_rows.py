"""Rows of runs, checked one by one; everything wrong is remembered, so that it is said at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trivium.adapters.channels.run_blocks import unit_of
from trivium.foundation.channel_config import RunFilesConfig
from trivium.foundation.errors import Fault
from trivium.foundation.tables import converted

SPOOLED = {
    "query_id": pl.String,
    "item_id": pl.String,
    "score": pl.Float64,
    "rank": pl.Int64,
    "row": pl.Int64,
}
"""Sound rows; rank as the file has it, null where it has none."""

_VALUES = ("score", "rank")
_UNKNOWN = "of items that the catalog does not have"
_MENDS = {
    "that are not 'query Q0 item rank score tag'": "six columns, separated by blanks",
    "without query_id": "a query_id in every row",
    "without item_id": "an item_id in every row",
    "whose score is not a number": "a number in every row",
    "whose score is NaN or infinite": "numbers that a 32-bit float can hold",
    "whose rank is not a whole number from 1": "1, 2, 3 and so on",
    _UNKNOWN: "ids of the catalog",
}
"""What can be wrong with rows, first things first, and what is expected instead."""


@dataclass
class _Wrong:
    """Rows of a file that share a fault: how many, the first of them, and what it holds."""

    count: int
    row: int
    example: str


class RowCheck:
    """Checks the rows of a channel's files.

    Attributes:
        dropped: Rows of items that the catalog does not have, where these are to be dropped.

    Args:
        settings: The channel's.
        item_ids: The catalog.
    """

    def __init__(self, settings: RunFilesConfig, item_ids: pl.Series) -> None:
        self._known = item_ids.cast(pl.String).implode()
        self._drop = settings.unknown_items == "drop"
        self._wrong: dict[tuple[Path, str], _Wrong] = {}
        self._scored: dict[Path, bool] = {}
        self.dropped = 0

    def sound(self, rows: pl.DataFrame, path: Path) -> pl.DataFrame:
        """Keep the sound rows of a block.

        Args:
            rows: `Block.rows`.
            path: Their file.

        Returns:
            `SPOOLED`. Where a file has ranks alone, the score is 1/rank.
        """
        scored = self._scored.setdefault(path, "score" in rows.columns)
        typed = _typed(rows).with_columns(_problem=self._problem(path, scored=scored))
        self._remember(typed, path)
        sound = typed.filter(pl.col("_problem").is_null())
        if not scored:
            sound = sound.with_columns(score=1.0 / pl.col("rank"))
        return sound.select(list(SPOOLED))

    @property
    def faults(self) -> list[Fault]:
        """Everything found wrong so far."""
        order = list(_MENDS)
        wrong = sorted(self._wrong.items(), key=lambda entry: order.index(entry[0][1]))
        faults = [_fault(path, problem, found) for (path, problem), found in wrong]
        if len(set(self._scored.values())) > 1:
            bare = next(path for path, scored in self._scored.items() if not scored)
            faults.append(
                Fault(
                    str(bare),
                    got="ranks alone, where other files of the channel have scores",
                    expected="scores in every file, or in none",
                    fix="add the scores, or make it a channel of its own",
                )
            )
        return faults

    def _problem(self, path: Path, *, scored: bool) -> pl.Expr:
        query, item, score, rank = (pl.col(name) for name in ("query_id", "item_id", *_VALUES))
        malformed = pl.all_horizontal(query.is_null(), item.is_null(), pl.lit(_is_trec(path)))
        value = (
            [score.is_null(), ~score.cast(pl.Float32).is_finite()]
            if scored
            else [pl.lit(False)] * 2
        )
        tests = [
            malformed,
            query.fill_null("") == "",
            item.fill_null("") == "",
            *value,
            pl.lit(False) if scored else rank.fill_null(0) < 1,
            ~item.is_in(self._known),
        ]
        named = zip(tests, _MENDS, strict=True)
        return pl.coalesce(pl.when(test).then(pl.lit(problem)) for test, problem in named)

    def _remember(self, typed: pl.DataFrame, path: Path) -> None:
        wrong = typed.filter(pl.col("_problem").is_not_null())
        for (problem,), rows in wrong.group_by("_problem", maintain_order=True):
            if problem == _UNKNOWN and self._drop:
                self.dropped += rows.height
                continue
            seen = self._wrong.get((path, str(problem)))
            if seen:
                seen.count += rows.height
            else:
                example = _example(rows, str(problem))
                self._wrong[path, str(problem)] = _Wrong(rows.height, rows["row"][0], example)


def _is_trec(path: Path) -> bool:
    return unit_of(path) == "line"


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with the types of `SPOOLED`, null where a value has none; the raw values beside."""
    raw = {f"_{name}": rows[name] for name in _VALUES if name in rows.columns}
    typed = {
        name: converted(rows[name], dtype) if name in rows.columns else pl.lit(None, dtype)
        for name, dtype in SPOOLED.items()
    }
    return rows.select(**typed, **{name: pl.lit(column) for name, column in raw.items()})


def _example(rows: pl.DataFrame, problem: str) -> str:
    if problem == _UNKNOWN:
        return ", ".join(map(repr, rows["item_id"].unique(maintain_order=True)[:3]))
    column = next((name for name in _VALUES if f"whose {name} " in problem), None)
    return repr(rows[f"_{column}"][0]) if column else ""


def _fault(path: Path, problem: str, found: _Wrong) -> Fault:
    unit = unit_of(path)
    such = f", such as {found.example}" if found.example else ""
    fix = "correct them at the source"
    if problem == _UNKNOWN:
        fix = 'give the run of this catalog, or set unknown_items = "drop" for the channel'
    return Fault(
        f"{path}: {unit} {found.row}",
        got=f"{found.count:,} {unit}{'s' * (found.count > 1)} {problem}{such}",
        expected=_MENDS[problem],
        fix=fix,
    )
