"""Files of runs, read a block at a time: TREC run files, Parquet, CSV, TSV and JSON lines."""

from __future__ import annotations

import glob
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl

from trivium.foundation.errors import Fault, InputError

BLOCK = 1 << 24
"""Bytes of text that are parsed at a time."""
ROWS = 1 << 18
"""Rows of a Parquet file that are read at a time."""

_TREC = r"^\s*(?<query_id>\S+)\s+\S+\s+(?<item_id>\S+)\s+(?<rank>\S+)\s+(?<score>\S+)\s+\S+\s*$"
_LONGEST = 1 << 27
_KINDS = {".parquet": "parquet", ".csv": ",", ".tsv": "\t", ".jsonl": "json", ".ndjson": "json"}
_SEPARATORS = (",", "\t")
_NEEDED = ("query_id", "item_id")
_VALUES = ("score", "rank")


@dataclass(frozen=True)
class Block:
    """Some rows of a file, as they came.

    Attributes:
        rows: query_id, item_id, score and rank, those that the file has, and `row`: the line of a
            TREC file, elsewhere the row, from 1. All null but `row` where a line is malformed.
        read: Bytes of the file that have been read by now.
    """

    rows: pl.DataFrame
    read: int


def matching_files(paths: Sequence[Path]) -> list[Path]:
    """Files by their paths, patterns such as `runs/*.trec.gz` replaced by what they match, sorted.

    A path that matches nothing stays as it is, for whoever opens it to report.
    """
    found: list[Path] = []
    for path in paths:
        some = [] if path.exists() else sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        found += [Path(name) for name in some] or [path]
    return list(dict.fromkeys(found))


def unit_of(path: Path) -> str:
    """What the numbers of `Block.rows` count in a file."""
    return "row" if _kind(path) else "line"


def blocks(path: Path, columns: Mapping[str, str]) -> Iterator[Block]:
    """Read a file.

    Args:
        path: The file; its ending says what it is: .parquet, .csv, .tsv, .jsonl or .ndjson, all
            but the first also .gz; anything else is a TREC run file.
        columns: Project column names to the file's; TREC files have none.

    Raises:
        InputError: If it is absent, empty, damaged or not UTF-8, or lacks a column.
    """
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        fix = "correct the path, or the pattern, in the channel's files"
        raise InputError.of(str(path), got=got, expected="a file of results", fix=fix)
    read = _from_parquet if _kind(path) == "parquet" else _from_text
    try:
        rows = 0
        for block in read(path, columns):
            rows += block.rows.height
            yield block
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"bytes that are not UTF-8 ({error.reason})") from None
    except (pl.exceptions.PolarsError, OSError, EOFError, ValueError, zlib.error) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise _unreadable(path, f"a file that cannot be read ({first})") from None
    if not rows:
        fix = "check the export, or leave the file out"
        raise InputError.of(str(path), got="no rows", expected="at least one result", fix=fix)


def _kind(path: Path) -> str | None:
    """What a file is by its ending; None is a TREC run file."""
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    return _KINDS.get(ending)


def _unreadable(path: Path, got: str) -> InputError:
    expected = "TREC lines, .parquet, .csv, .tsv or .jsonl, in UTF-8"
    return InputError(Fault(str(path), got, expected, "write the file again, or correct it"))


def _from_parquet(path: Path, columns: Mapping[str, str]) -> Iterator[Block]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        chosen = _chosen(path, file.schema_arrow.names, columns)
        done, total, size = 0, file.metadata.num_rows, path.stat().st_size
        for batch in file.iter_batches(ROWS, columns=list(chosen.values())):
            frame = pl.DataFrame(pl.from_arrow(batch))
            rows = _named(frame, chosen, done)
            done += rows.height
            yield Block(rows, size * done // max(total, 1))


def _from_text(path: Path, columns: Mapping[str, str]) -> Iterator[Block]:
    kind, done = _kind(path), 0
    chosen: dict[str, str] = {}
    with path.open("rb") as raw, _unpacked(raw, path) as file:
        header = file.readline() if kind in _SEPARATORS else b""
        for text in _pieces(file, quoted=kind in _SEPARATORS):
            if kind is None:
                rows = _trec_rows(text.decode("utf-8"), done)
                done += text.count(b"\n")
            else:
                frame = _parsed(header + text, kind)
                chosen = chosen or _chosen(path, frame.columns, columns)
                rows = _named(frame, chosen, done)
                done += rows.height
            yield Block(rows, raw.tell())


def _unpacked(raw: BinaryIO, path: Path) -> BinaryIO:
    packed = path.suffix.lower() == ".gz"
    return cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw


def _pieces(file: BinaryIO, *, quoted: bool) -> Iterator[bytes]:
    """Cut a file into whole lines; no cut is made between quotation marks."""
    rest = b""
    while more := file.read(BLOCK):
        rest += more
        cut = _last_cut(rest, quoted=quoted)
        if cut:
            yield rest[:cut]
        rest = rest[cut:]
        if len(rest) > _LONGEST:
            raise ValueError("a line without an end, or a quotation mark that is not closed")
    if rest:
        yield rest


def _last_cut(text: bytes, *, quoted: bool) -> int:
    cut = text.rfind(b"\n") + 1
    within = quoted and text.count(b'"', 0, cut) % 2
    while cut and within:
        before = text.rfind(b"\n", 0, cut - 1) + 1
        within ^= text.count(b'"', before, cut) % 2
        cut = before
    return cut


def _trec_rows(text: str, done: int) -> pl.DataFrame:
    lines = pl.DataFrame({"line": text.removesuffix("\n").removeprefix("\ufeff").split("\n")})
    numbered = lines.with_row_index("row", offset=done + 1).filter(
        pl.col("line").str.contains(r"\S")
    )
    return numbered.select(
        pl.col("row").cast(pl.Int64), pl.col("line").str.extract_groups(_TREC).alias("fields")
    ).unnest("fields")


def _parsed(text: bytes, kind: str) -> pl.DataFrame:
    text.decode("utf-8")
    if kind == "json":
        return pl.read_ndjson(text, infer_schema_length=None)
    return pl.read_csv(text, separator=kind, infer_schema=False)


def _chosen(path: Path, names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """The columns to read: project names to the file's."""
    wanted = {name: columns.get(name, name) for name in (*_NEEDED, *_VALUES)}
    chosen = {name: theirs for name, theirs in wanted.items() if theirs in names}
    missing = [theirs for name, theirs in wanted.items() if name not in chosen and name in columns]
    missing += [name for name in _NEEDED if name not in chosen and name not in columns]
    if not missing and not chosen.keys() & set(_VALUES):
        missing = ["score' or 'rank"]
    if missing:
        raise InputError(*(_missing(path, name, names) for name in missing))
    return chosen


def _missing(path: Path, name: str, names: Sequence[str]) -> Fault:
    return Fault(
        f"{path}: column '{name}'",
        got=f"columns {', '.join(names)}",
        expected=f"a column '{name}'",
        fix="name the file's own in the channel's columns, such as {item_id = 'sku'}",
    )


def _named(frame: pl.DataFrame, chosen: Mapping[str, str], done: int) -> pl.DataFrame:
    there = {name: theirs for name, theirs in chosen.items() if theirs in frame.columns}
    absent = [pl.lit(None).alias(name) for name in chosen if name not in there]
    rows = frame.select(*absent, **{name: pl.col(theirs) for name, theirs in there.items()})
    return rows.with_row_index("row", offset=done + 1).with_columns(pl.col("row").cast(pl.Int64))
