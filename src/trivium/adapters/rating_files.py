"""Files for raters: a sheet to fill in, safe for spreadsheets, and the judgments read from it.

A spreadsheet takes the id 007 for the number 7, MAR-1 for a date, and a title that begins with an
equals sign for a formula to execute. So ids are written with an apostrophe before them, and texts
that could be formulas too; the apostrophe is taken off again when the sheet is read. A byte order
mark tells spreadsheets that the file is UTF-8.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from trivium.adapters.files import read_file
from trivium.foundation import tables
from trivium.foundation.errors import InputError, TriviumError, WorkspaceError
from trivium.foundation.workspace import write_atomically

SHEET = ("query_id", "item_id", "query", "title", "grade", "rater", "why")

ROW = "sheet_row"
"""The column in which `read_sheet` names the row of a spreadsheet."""

_IDS = ("query_id", "item_id")
_GUARD = "'"
_FORMULA = "^[=+\\-@\uff1d\uff0b\uff0d\uff20']"
"""What makes a cell a formula in some spreadsheet (OWASP, CSV injection)."""


def write_sheet(path: Path, pairs: pl.DataFrame, *, overwrite: bool = False) -> None:
    """Write pairs to rate as CSV, with empty columns `grade` and `rater` to fill in.

    Args:
        path: The file, ending in .csv.
        pairs: Columns query_id, item_id, query, title, why.
        overwrite: Replace a file that exists.

    Raises:
        WorkspaceError: If the file exists and is not to be replaced, or has another ending.
    """
    check_place(path, overwrite=overwrite)
    texts = [name for name in SHEET if name not in (*_IDS, "grade", "rater")]
    empty = [pl.lit(None, dtype=pl.String).alias(name) for name in ("grade", "rater")]
    sheet = pairs.with_columns(
        *(pl.concat_str(pl.lit(_GUARD), name).alias(name) for name in _IDS),
        *(_harmless(name) for name in texts),
        *empty,
    ).select(SHEET)
    write_atomically(path, lambda place: sheet.write_csv(place, include_bom=True))


def check_place(path: Path, *, overwrite: bool) -> None:
    """Refuse a place to which no sheet can be written.

    Raises:
        WorkspaceError: If the file exists and is not to be replaced, or has another ending.
    """
    _refuse_other_endings(path)
    if path.exists() and not overwrite:
        raise WorkspaceError.of(
            str(path),
            got="a file that exists, perhaps with ratings in it",
            expected="a new file",
            fix="name another with --output, or pass --overwrite",
        )


def read_sheet(path: Path) -> pl.DataFrame:
    """Read a sheet that was filled in, every column as text.

    Commas, semicolons and tabs may separate its columns, since some spreadsheets change them.

    Returns:
        Its columns without the guards, blank = null, and without rows that are blank throughout; a
        `rater` that is not named is the file's name without its ending; `sheet_row` is the row of
        the spreadsheet.

    Raises:
        InputError: If the file is absent, not UTF-8, damaged, or without rows.
    """
    frame = _read(path)
    text = pl.exclude(_IDS).str.strip_chars()
    stripped = frame.with_columns(pl.when(text != "").then(text).name.keep())
    filled = stripped.with_row_index(ROW, offset=2).filter(
        ~pl.all_horizontal(pl.exclude(ROW).is_null())
    )
    rater = pl.col("rater").fill_null(path.stem) if "rater" in filled.columns else pl.lit(path.stem)
    ids = [pl.col(name).str.strip_prefix(_GUARD) for name in _IDS if name in filled.columns]
    return filled.with_columns(*ids, rater.alias("rater"))


def check_addition(path: Path, *, append: bool) -> None:
    """Refuse a place to which no judgments can be written.

    Raises:
        WorkspaceError: If the file exists and nothing is to be added, or has another ending.
    """
    _refuse_other_endings(path)
    if path.exists() and not append:
        raise WorkspaceError.of(
            str(path),
            got="a file that exists",
            expected="a new file",
            fix="name another with --output, or pass --append to add to it",
        )


def write_judgments(path: Path, judgments: pl.DataFrame, *, append: bool = False) -> pl.DataFrame:
    """Write judgments as CSV, or add them to a file of judgments and keep its other columns.

    Args:
        path: The file, ending in .csv.
        judgments: A judgments table (`tables.JUDGMENTS`).
        append: Add to a file that exists.

    Returns:
        All judgments that the file then holds.

    Raises:
        WorkspaceError: If the file exists and nothing is to be added, or has another ending.
        InputError: If the file that exists is faulty, or a rater has rated a pair already.
    """
    check_addition(path, append=append)
    rows = judgments.with_columns(pl.all().cast(pl.String))
    if path.exists():
        earlier = read_file(path)
        tables.validate(earlier, tables.JUDGMENTS, str(path))
        rows = pl.concat([earlier, rows], how="diagonal")
    together = tables.validate(rows, tables.JUDGMENTS, f"{path} with what is to be added")
    write_atomically(path, rows.write_csv)
    return together


def _read(path: Path) -> pl.DataFrame:
    try:
        raw = path.read_bytes()
        header = raw.decode("utf-8-sig").partition("\n")[0]
        separator = max(",;\t", key=header.count)
        frame = pl.read_csv(raw, separator=separator, infer_schema=False)
    except UnicodeDecodeError:
        raise _unreadable(path, "text that is not UTF-8", "save it again as 'CSV UTF-8'") from None
    except (OSError, pl.exceptions.PolarsError) as error:
        got = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise _unreadable(path, got, "correct the path, or save it again as CSV") from None
    if frame.is_empty():
        raise _unreadable(path, "a file without rows", "name the sheet that was filled in")
    return frame


def _unreadable(path: Path, got: str, fix: str) -> TriviumError:
    return InputError.of(str(path), got=got, expected="a sheet of ratings, as CSV", fix=fix)


def _harmless(name: str) -> pl.Expr:
    text = pl.col(name).str.replace_all(r"\s+", " ").str.strip_chars()
    guarded = pl.concat_str(pl.lit(_GUARD), text)
    return pl.when(text.str.contains(_FORMULA)).then(guarded).otherwise(text).alias(name)


def _refuse_other_endings(path: Path) -> None:
    if path.suffix.lower() != ".csv":
        raise WorkspaceError.of(
            str(path),
            got=f"an ending {path.suffix!r}",
            expected="a name that ends in .csv",
            fix="name another with --output",
        )
