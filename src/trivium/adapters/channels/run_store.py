"""Runs of any size, kept sorted by query: converted once, then read a few queries at a time.

The rows are spooled as they are checked, dealt by query into parts that fit in memory, and each
part is sorted. A search reads those row groups alone whose queries it was asked for.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from trivium.adapters.channels.run_blocks import blocks, matching_files, unit_of
from trivium.adapters.channels.run_rows import RowCheck
from trivium.adapters.locks import alone
from trivium.foundation.channel_config import RunFilesConfig
from trivium.foundation.console import counter
from trivium.foundation.errors import Fault, InputError, TriviumError
from trivium.foundation.workspace import fingerprint, read_json, write_json, write_table

PART = 1 << 21
"""Rows of a part, but for queries with more of their own: sorting them takes most of a gigabyte."""
_GROUP = 1 << 16
"""Rows of a row group, the least that a search reads."""
_VERSION = "1"


class RunStore:
    """Results by query.

    Attributes:
        facts: rows, queries, files; unknown_items: rows left out; contradicting: rows whose rank
            in the file is not that of their score.

    Args:
        folder: What `run_store` made.
    """

    def __init__(self, folder: Path) -> None:
        content = read_json(folder / "run.json")
        assert content is not None
        self._folder = folder
        self._parts: list[tuple[str, str]] = [(first, last) for first, last in content["parts"]]
        self.facts: dict[str, int] = content["facts"]

    def read(self, query_ids: pl.Series, k: int) -> pl.DataFrame:
        """The best results of some queries.

        Args:
            query_ids: The queries.
            k: Most results of each.

        Returns:
            Columns query_id, item_id, rank, score, sorted by query_id and rank.
        """
        low, high = str(query_ids.min()), str(query_ids.max())
        near = [
            self._folder / _name(number)
            for number, (first, last) in enumerate(self._parts)
            if first <= high and low <= last
        ]
        if query_ids.is_empty() or not near:
            near, query_ids = [self._folder / _name(0)], query_ids.clear()
        asked = pl.col("query_id")
        found = pl.scan_parquet(near).filter(
            asked.is_between(pl.lit(low), pl.lit(high)),
            asked.is_in(query_ids.implode()),
            pl.col("rank") <= k,
        )
        return found.collect(engine="streaming").sort("query_id", "rank")

    def queries(self) -> pl.DataFrame:
        """Columns query_id, rows; sorted."""
        return pl.read_parquet(self._folder / "queries.parquet", memory_map=False)


def run_store(settings: RunFilesConfig, item_ids: pl.Series, cache: Path) -> RunStore:
    """Convert a channel's files, or find what an earlier process made of the same ones.

    Args:
        settings: The channel's.
        item_ids: The catalog.
        cache: The folder to keep it in, which several processes may share.

    Raises:
        InputError: With every fault found in any of the files.
    """
    files = matching_files(settings.files)
    absent = [_absent(path) for path in files if not path.is_file()]
    if absent:
        raise InputError(*absent)
    place = cache / f"run-{_key(settings, files, item_ids)}"
    with alone(cache / f"{place.name}.lock"):
        if not place.is_dir():
            made = cache / f".{place.name}.partial"
            shutil.rmtree(made, ignore_errors=True)  # a killed process may have left it
            made.mkdir()
            try:
                _convert(settings, files, item_ids, made)
                made.replace(place)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    return RunStore(place)


def _absent(path: Path) -> Fault:
    return Fault(
        str(path),
        got="a folder" if path.is_dir() else "no such file",
        expected="a file of results",
        fix="correct the path, or the pattern, in the channel's files",
    )


def _key(settings: RunFilesConfig, files: Sequence[Path], item_ids: pl.Series) -> str:
    read = [[path.suffixes, fingerprint(path)] for path in files]
    rest = [_VERSION, sorted(settings.columns.items()), settings.unknown_items]
    digest = hashlib.sha256(json.dumps([read, rest]).encode())
    for item_id in item_ids.cast(pl.String).sort():
        digest.update(f"{item_id}\n".encode())
    return digest.hexdigest()[:32]


def _convert(
    settings: RunFilesConfig, files: Sequence[Path], item_ids: pl.Series, folder: Path
) -> None:
    spool, dealt = folder / "spool", folder / "dealt"
    check = RowCheck(settings, item_ids)
    _spool(settings, files, check, spool)
    rows = pl.scan_parquet(spool / "*.parquet")
    queries = rows.group_by("query_id").agg(rows=pl.len().cast(pl.Int64))
    sizes = queries.collect(engine="streaming").sort("query_id")
    if sizes.is_empty():
        raise InputError(_nothing_known(check.dropped, files))
    part = ((pl.col("rows").cum_sum() - pl.col("rows")) // PART).alias("part")
    numbered = sizes.select("query_id", part.rle_id().cast(pl.Int64))
    rows.join(numbered.lazy(), on="query_id", how="left").sink_parquet(
        pl.PartitionBy(dealt, key="part", include_key=False), mkdir=True, engine="streaming"
    )
    bounds = numbered.group_by("part", maintain_order=True).agg(
        first=pl.col("query_id").first(), last=pl.col("query_id").last()
    )
    contradicting = _write_parts(dealt, bounds.height, files, folder)
    write_table(folder / "queries.parquet", sizes)
    facts = {
        "rows": int(sizes["rows"].sum()),
        "queries": sizes.height,
        "files": len(files),
        "unknown_items": check.dropped,
        "contradicting": contradicting,
    }
    for scratch in (spool, dealt):
        shutil.rmtree(scratch)
    parts = bounds.select("first", "last").rows()
    write_json(folder / "run.json", {"parts": parts, "facts": facts})


def _spool(settings: RunFilesConfig, files: Sequence[Path], check: RowCheck, spool: Path) -> None:
    """Write the sound rows of all files, and raise what is wrong with the others."""
    spool.mkdir()
    faults: list[Fault] = []
    written = 0
    total = sum(path.stat().st_size for path in files)
    with counter(f"bytes of the run '{settings.name}'", total) as advance:
        for number, path in enumerate(files):
            read = 0
            try:
                for block in blocks(path, settings.columns):
                    sound = check.sound(block.rows, path).with_columns(
                        file=pl.lit(number, pl.Int32)
                    )
                    sound.write_parquet(spool / f"{written:06d}.parquet", compression="lz4")
                    written += 1
                    advance(block.read - read)
                    read = block.read
            except TriviumError as error:
                faults += error.faults
    faults += check.faults
    if faults:
        raise InputError(*faults)


def _write_parts(dealt: Path, parts: int, files: Sequence[Path], folder: Path) -> int:
    """Sort the parts; returns the rows whose rank contradicts their score."""
    repeated, contradicting = 0, 0
    first: list[dict[str, Any]] = []
    for number in range(parts):
        rows = pl.read_parquet(
            dealt / f"part={number}" / "*.parquet", hive_partitioning=False, memory_map=False
        ).sort(["query_id", "score", "item_id", "file", "row"], descending=_DOWN)
        twice = rows.filter(pl.struct("query_id", "item_id").is_duplicated())
        repeated += twice.height
        first = first or twice.sort("query_id", "item_id", "file", "row").head(2).to_dicts()
        contradicting += _contradicting(rows)
        made = rows.select(
            "query_id",
            "item_id",
            (pl.int_range(pl.len(), dtype=pl.Int32).over("query_id") + 1).alias("rank"),
            pl.col("score").cast(pl.Float32),
        )
        made.write_parquet(folder / _name(number), row_group_size=_GROUP)
    if first:
        raise InputError(_repeated(repeated, first, files))
    return contradicting


_DOWN = [False, True, False, False, False]


def _name(number: int) -> str:
    return f"part-{number:05d}.parquet"


def _contradicting(rows: pl.DataFrame) -> int:
    """Rows with a better score than some row of their query that has a better rank."""
    ranked = rows.filter(pl.col("rank").is_not_null())
    by_rank = ranked.sort(["query_id", "rank", "score"], descending=[False, False, True])
    before = pl.col("score").cum_min().shift(1).over("query_id")
    return by_rank.filter(pl.col("score") > before).height


def _nothing_known(dropped: int, files: Sequence[Path]) -> Fault:
    return Fault(
        ", ".join(str(path) for path in files[:3]),
        got=f"{dropped:,} rows, none of an item of the catalog",
        expected="results among the items of the catalog",
        fix="compare the item ids of the run with those of data.items",
    )


def _repeated(count: int, pair: Sequence[dict[str, Any]], files: Sequence[Path]) -> Fault:
    places = [f"{files[r['file']].name} {unit_of(files[r['file']])} {r['row']}" for r in pair]
    query_id, item_id = pair[0]["query_id"], pair[0]["item_id"]
    return Fault(
        str(files[pair[0]["file"]]),
        got=f"{count:,} rows that share query and item, such as query {query_id!r} and item "
        f"{item_id!r} in {' and '.join(places)}",
        expected="an item once for each query",
        fix="drop the duplicates at the source",
    )
