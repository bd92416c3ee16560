"""The user's files: Parquet, CSV and JSON Lines (also .gz), read with a column mapping."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from trivium.foundation.errors import Fault, InputError

_FORMATS = ".parquet, .csv, .csv.gz, .tsv, .tsv.gz, .jsonl, .jsonl.gz"


def read_files(paths: Sequence[Path], mapping: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Read some files as one table; its content is for `tables.validate` to check.

    Args:
        paths: The files, concatenated in order.
        mapping: Project column names to the names used in the files.

    Raises:
        InputError: With every fault found in any of the files.
    """
    frames: list[pl.DataFrame] = []
    faults: list[Fault] = []
    for path in paths:
        try:
            frames.append(_with_project_names(read_file(path), mapping or {}, path))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(*faults)
    return pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]


def names_of(paths: Sequence[Path]) -> str:
    """The files' names, for an error about the table that they make."""
    return ", ".join(path.name for path in paths)


def read_file(path: Path) -> pl.DataFrame:
    """Read one file by its ending, every text column as text.

    Raises:
        InputError: If it is absent, empty, damaged, not UTF-8, or of an unknown kind.
    """
    if not path.is_file():
        raise InputError.of(
            str(path),
            got="a folder" if path.is_dir() else "no such file",
            expected="a file",
            fix="correct the path in [data]",
        )
    if path.stat().st_size == 0:
        raise _empty(path, "an empty file")
    try:
        frame = _read(path)
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from None
    except (pl.exceptions.PolarsError, OSError, EOFError, ValueError, zlib.error) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError.of(
            str(path),
            got=f"a file that cannot be read ({first_line[:160]})",
            expected=f"a whole {path.suffix} file",
            fix="write the file again, or correct that row",
        ) from None
    if frame.height == 0:
        raise _empty(path, "a file without rows")
    return frame


def _read(path: Path) -> pl.DataFrame:
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        return pl.read_parquet(path, memory_map=False)
    if not name.endswith((".csv", ".tsv", ".jsonl", ".ndjson")):
        raise InputError.of(
            str(path),
            got=f"an ending '{path.suffix}'",
            expected=_FORMATS,
            fix="convert the file to one of these",
        )
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    raw.decode("utf-8")
    if name.endswith((".jsonl", ".ndjson")):
        return pl.read_ndjson(raw, infer_schema_length=None)
    # Ids such as "007" and titles such as "1984" stay the text that they are.
    separator = "\t" if name.endswith(".tsv") else ","
    return pl.read_csv(raw, separator=separator, infer_schema=False)


def _with_project_names(
    frame: pl.DataFrame, mapping: Mapping[str, str], path: Path
) -> pl.DataFrame:
    absent = [theirs for theirs in mapping.values() if theirs not in frame.columns]
    if absent:
        raise InputError(*(_unmapped(path, theirs, frame.columns) for theirs in absent))
    taken = {*mapping, *mapping.values()}
    rest = [name for name in frame.columns if name not in taken]
    return frame.select(*rest, **{name: pl.col(theirs) for name, theirs in mapping.items()})


def _unmapped(path: Path, name: str, columns: Sequence[str]) -> Fault:
    return Fault(
        f"{path}: column '{name}'",
        got=f"columns {', '.join(columns)}",
        expected=f"the column '{name}' that [data.columns] names",
        fix="correct the mapping",
    )


def _empty(path: Path, got: str) -> InputError:
    fault = Fault(str(path), got=got, expected="at least one row", fix="check the export")
    return InputError(fault)


def _not_utf8(path: Path, error: UnicodeDecodeError) -> InputError:
    wide = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "UTF-16" if wide else "LATIN1"
    fault = Fault(
        str(path),
        got=f"bytes that are not UTF-8, the first at byte {error.start}",
        expected="UTF-8",
        fix=f"iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}",
    )
    return InputError(fault)
