"""Raw query logs of any size, read as a stream and counted text by text.

Memory is bounded by the distinct texts of the log, not by its rows.
"""

from __future__ import annotations

import codecs
import datetime as dt
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, cast

import polars as pl

from trivium.foundation.console import progress
from trivium.foundation.errors import InputError, TriviumError

FORMATS = ".csv, .tsv, .jsonl, .txt (one query a line), each also .gz, or .parquet"
_TEXTS = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt")
_LOOKED_AT = 100
"""Lines of a JSON file that are read to learn its columns."""
_BAD_COUNT, _BAD_DATE = "no count", "no date"


@dataclass(frozen=True)
class LogFormat:
    """How a log's rows are read.

    Attributes:
        query: Column of the texts.
        count: Column of how often each was asked; a row counts once where it is absent.
        date: Column of the days, `2026-11-25` and whatever may follow, or dates.
        since: First day that is read.
        until: Last day that is read.
        max_length: Characters; longer texts are left out.
    """

    query: str = "query"
    count: str | None = None
    date: str | None = None
    since: dt.date | None = None
    until: dt.date | None = None
    max_length: int = 200


@dataclass(frozen=True)
class QueryLog:
    """What logs hold.

    Attributes:
        queries: Columns query (distinct, single spaces) and frequency, sorted by query.
        left_out: Columns reason, rows and example, sorted by reason.
        rows: Rows read.
    """

    queries: pl.DataFrame
    left_out: pl.DataFrame
    rows: int


def read_logs(paths: Sequence[Path], form: LogFormat) -> QueryLog:
    """Read logs and count how often each text was asked.

    Left out, by reason: rows outside the days, empty ones, those without a letter or digit, longer
    than allowed, with characters that were lost in an earlier conversion, and web addresses.

    Args:
        paths: Files; see `FORMATS`.
        form: How their rows are read.

    Raises:
        InputError: If a file is absent, empty, damaged, not UTF-8, or lacks a column, or a row's
            count is no whole number from 0 up, or its date none.
    """
    for path in paths:
        _check_file(path)
    counted: pl.DataFrame | None = None
    for path in progress(paths, "logs read", len(paths)):
        found = _counted(path, form)
        counted = found if counted is None else _added(pl.concat([counted, found]).lazy()).collect()
    assert counted is not None
    kept = counted.filter(pl.col("reason").is_null())
    left_out = counted.filter(pl.col("reason").is_not_null())
    return QueryLog(
        kept.select("query", pl.col("asked").alias("frequency")).sort("query"),
        left_out.select("reason", "rows", "example").sort("reason"),
        int(counted["rows"].sum()),
    )


def _counted(path: Path, form: LogFormat) -> pl.DataFrame:
    try:
        rows = _scan(path, [name for name in (form.query, form.count, form.date) if name])
        counted = _added(_read_rows(rows, form)).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError, EOFError, ValueError) as error:
        raise _unreadable(path, error) from None
    if counted.is_empty():
        raise _fault(path, "a file without rows", "at least one row", "check the export")
    _refuse_faulty(path, form, counted)
    return counted


def _added(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.group_by("reason", "query").agg(
        pl.col("asked").sum(), pl.col("rows").sum(), pl.col("example").min()
    )


def _scan(path: Path, columns: list[str]) -> pl.LazyFrame:
    kind = _kind(path)
    if kind == ".txt":
        return pl.scan_lines(path, name=columns[0], glob=False)
    if kind in {".jsonl", ".ndjson"}:
        _check_columns(path, columns, _json_columns(path))
        return pl.scan_ndjson(path, schema=dict.fromkeys(columns, pl.String))
    if kind == ".parquet":
        rows = pl.scan_parquet(path, glob=False)
    elif kind == ".csv":
        rows = pl.scan_csv(path, infer_schema=False, glob=False)
    else:  # A raw log in TSV quotes nothing, and a quotation mark there is an inch.
        rows = pl.scan_csv(path, separator="\t", quote_char=None, infer_schema=False, glob=False)
    _check_columns(path, columns, rows.collect_schema().names())
    return rows.select(columns)


def _read_rows(rows: pl.LazyFrame, form: LogFormat) -> pl.LazyFrame:
    """Columns reason (null = kept), query (null where left out), asked, rows, example."""
    text = pl.col(form.query).cast(pl.String)
    text = text.str.replace_all(r"[\s\p{Cc}\x{FEFF}]+", " ").str.strip_chars()
    raw_count = pl.col(form.count).cast(pl.String) if form.count else pl.lit("1")
    number = raw_count.str.strip_chars().cast(pl.Float64, strict=False)
    whole = number.is_finite() & (number >= 0) & (number == number.floor())
    raw_date = pl.col(form.date).cast(pl.String) if form.date else pl.lit(None, dtype=pl.String)
    day = raw_date.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    reasons = [
        (~whole.fill_null(value=False), _BAD_COUNT),
        (day.is_null() if form.date else pl.lit(value=False), _BAD_DATE),
        (_outside(day, form), "outside the days asked for"),
        (text.is_null() | (text == ""), "empty"),
        (~text.str.contains(r"[\p{L}\p{N}]"), "without a letter or digit"),
        (text.str.len_chars() > form.max_length, f"longer than {form.max_length} characters"),
        (text.str.contains("\ufffd", literal=True), "with characters lost in a conversion"),
        (text.str.contains(r"(?i)^(https?://|www\.)"), "a web address"),
    ]
    reason = pl.coalesce(*(pl.when(wrong).then(pl.lit(name)) for wrong, name in reasons))
    named = rows.select(
        reason.alias("reason"),
        text.alias("query"),
        pl.when(whole).then(number).otherwise(0).cast(pl.Int64).alias("asked"),
        pl.lit(1, dtype=pl.Int64).alias("rows"),
        raw_count.alias("_count"),
        raw_date.alias("_date"),
    )
    example = (
        pl.when(pl.col("reason") == _BAD_COUNT)
        .then("_count")
        .when(pl.col("reason") == _BAD_DATE)
        .then("_date")
        .otherwise("query")
    )
    return named.select(
        "reason",
        pl.when(pl.col("reason").is_null()).then("query").alias("query"),
        "asked",
        "rows",
        pl.when(pl.col("reason").is_not_null()).then(example.str.slice(0, 60)).alias("example"),
    )


def _outside(day: pl.Expr, form: LogFormat) -> pl.Expr:
    outside = pl.lit(value=False)
    if form.since:
        outside = outside | (day < form.since)
    return outside | (day > form.until) if form.until else outside


def _refuse_faulty(path: Path, form: LogFormat, counted: pl.DataFrame) -> None:
    for reason, column, expected in (
        (_BAD_COUNT, form.count, "whole numbers from 0 up"),
        (_BAD_DATE, form.date, "days such as 2026-11-25, or dates"),
    ):
        wrong = counted.filter(pl.col("reason") == reason)
        if wrong.height:
            row = wrong.row(0, named=True)
            got = f"{row['rows']:,} value(s) such as {row['example']!r}"
            where = f"{path}: column '{column}'"
            raise InputError.of(where, got=got, expected=expected, fix="correct or drop these rows")


def _kind(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _check_file(path: Path) -> None:
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise _fault(path, got, "a file", "correct the path")
    kind, packed = _kind(path), path.name.lower().endswith(".gz")
    if kind not in _TEXTS and (kind != ".parquet" or packed):
        raise _fault(path, f"an ending '{path.suffix}'", FORMATS, "convert the file")
    if path.stat().st_size == 0:
        raise _fault(path, "an empty file", "at least one row", "check the export")
    if kind in _TEXTS:
        with _opened(path) as file:
            if file.peek(2)[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:  # type: ignore[attr-defined]
                raise _not_utf8(path, 1, "UTF-16")


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb"))


def _json_columns(path: Path) -> list[str]:
    names: dict[str, None] = {}
    with _opened(path) as file:
        for line in islice(file, _LOOKED_AT):
            row = json.loads(line) if line.strip() else {}
            names |= dict.fromkeys(row if isinstance(row, dict) else {})
    return list(names)


def _check_columns(path: Path, wanted: list[str], there: list[str]) -> None:
    for name in wanted:
        if name not in there:
            raise InputError.of(
                f"{path}: column '{name}'",
                got=f"columns {', '.join(there) or 'none'}",
                expected=f"a column '{name}'",
                fix="name the columns with --query-column, --count-column, --date-column",
            )


def _unreadable(path: Path, error: Exception) -> TriviumError:
    if "utf" in str(error).lower() and _kind(path) in _TEXTS:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    return _not_utf8(path, number, "LATIN1")
    said = str(error).splitlines()[0] if str(error) else type(error).__name__
    return _fault(
        path,
        f"a file that cannot be read ({said[:160]})",
        f"a whole {_kind(path)} file",
        "write the file again, or correct that row",
    )


def _not_utf8(path: Path, line: int, encoding: str) -> TriviumError:
    got = f"bytes that are not UTF-8, the first in line {line:,}"
    return _fault(
        path, got, "UTF-8", f"iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"
    )


def _fault(path: Path, got: str, expected: str, fix: str) -> TriviumError:
    return InputError.of(str(path), got=got, expected=expected, fix=fix)
