"""Examples, and the texts that they name, as files that training maps into memory.

However many examples there are, training holds in memory what it draws of them, and a few numbers
for every query.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.curriculum import is_relevant, takes_negative, takes_positive
from trivium.domain.example_arrays import DTYPES, ExampleArrays, as_arrays
from trivium.domain.turns import Pool, StageRows
from trivium.foundation.train_config import StageConfig
from trivium.foundation.workspace import read_json, write_json

_MANIFEST = "store.json"
_KNOWN = "known.bin"
Condition = Callable[[ExampleArrays], NDArray[np.bool_]]


class Texts:
    """Texts by position, mapped from a file.

    Args:
        path: The file; made by `Texts.write`.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        with pa.memory_map(str(path)) as source:
            self._texts = pa.ipc.open_file(source).read_all()["text"]

    def __len__(self) -> int:
        """Number of texts."""
        return len(self._texts)

    def at(self, positions: NDArray[np.int64]) -> list[str]:
        """The texts at some positions."""
        import pyarrow as pa

        texts: list[str] = self._texts.take(pa.array(positions)).to_pylist()
        return texts

    @staticmethod
    def write(path: Path, texts: pl.Series) -> None:
        """Write texts, all in one batch, so that looking one up needs no search."""
        import pyarrow as pa

        table = texts.alias("text").to_frame().to_arrow().combine_chunks()
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)


@dataclass(frozen=True)
class ExampleStore:
    """A folder of examples as numbers, and the texts of queries and items by number.

    Attributes:
        folder: The folder; made by `build_store`.
    """

    folder: Path

    @cached_property
    def examples(self) -> ExampleArrays:
        """All examples, mapped from files."""
        return ExampleArrays(
            **{name: _mapped(self.folder / f"{name}.bin", kind) for name, kind in DTYPES.items()}
        )

    @cached_property
    def known(self) -> NDArray[np.int64]:
        """Sorted codes query * items + item of the pairs that must never serve as negatives."""
        return _mapped(self.folder / _KNOWN, np.int64)

    @cached_property
    def queries(self) -> Texts:
        """Texts of the queries by number."""
        return Texts(self.folder / "queries.arrow")

    @cached_property
    def items(self) -> Texts:
        """Texts of the items by position."""
        return Texts(self.folder / "items.arrow")

    def rows(self, stage: StageConfig, seed: int, place: Path) -> StageRows | None:
        """The rows of a stage.

        Args:
            stage: The stage.
            seed: Seed of their order and of what is drawn.
            place: Folder for the positions of the examples that it takes.

        Returns:
            The rows, or None if the stage finds no positive, or no negative though it asks for
            some.
        """
        place.mkdir(parents=True, exist_ok=True)
        apart = stage.human_share is not None
        pools = {
            "positives": lambda e: takes_positive(e, stage) & ~(apart & e.human),
            "human": lambda e: takes_positive(e, stage) & e.human & apart,
            "negatives": lambda e: takes_negative(e, stage),
        }
        made = {name: self._pool(place / f"{name}.bin", test) for name, test in pools.items()}
        if not len(made["positives"]) + len(made["human"]):
            return None
        if stage.negatives and not len(made["negatives"]):
            return None
        return StageRows(
            stage, self.examples, **made, known=self.known, n_items=len(self.items), seed=seed
        )

    def _pool(self, path: Path, condition: Condition) -> Pool:
        with path.open("wb") as file:
            for begin, block in self.examples.blocks():
                np.asarray(begin + np.flatnonzero(condition(block)), dtype=np.int64).tofile(file)
        return Pool.of(_mapped(path, np.int64), self.examples)


def build_store(
    folder: Path, parts: Iterable[pl.DataFrame], queries: pl.DataFrame, items: pl.DataFrame
) -> ExampleStore:
    """Write the files, or open those that an earlier, killed training finished.

    Args:
        folder: The folder.
        parts: Examples (`tables.EXAMPLES`), all of a query in one part; queries and items that are
            not named below are left out.
        queries: Columns query_id, text.
        items: Columns item_id, text: the catalog.
    """
    store = ExampleStore(folder)
    if read_json(folder / _MANIFEST) is not None:
        return store
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    catalog = items.sort("item_id")
    places = catalog.select("item_id", pl.int_range(pl.len(), dtype=pl.Int32).alias("item"))
    Texts.write(folder / "items.arrow", catalog["text"])
    texts = pl.Series("text", [], dtype=pl.String)
    count = 0
    for part in parts:
        asked = part.select("query_id").unique().join(queries, on="query_id").sort("query_id")
        numbers = pl.int_range(pl.len(), dtype=pl.Int32) + len(texts)
        known = part.join(asked.select("query_id", numbers.alias("query")), on="query_id")
        known = known.join(places, on="item_id")
        _append(folder, as_arrays(known), catalog.height)
        texts = texts.append(asked["text"])
        count += known.height
    Texts.write(folder / "queries.arrow", texts)
    write_json(folder / _MANIFEST, {"examples": count, "queries": len(texts)})
    return store


def shards_of(paths: Iterable[Path]) -> Iterator[pl.DataFrame]:
    """Read tables one at a time."""
    for path in paths:
        yield pl.read_parquet(path, memory_map=False)


def _append(folder: Path, examples: ExampleArrays, n_items: int) -> None:
    for name in DTYPES:
        with (folder / f"{name}.bin").open("ab") as file:
            getattr(examples, name).tofile(file)
    relevant = is_relevant(examples)
    codes = examples.query[relevant].astype(np.int64) * n_items + examples.item[relevant]
    with (folder / _KNOWN).open("ab") as file:
        codes.tofile(file)


def _mapped(path: Path, dtype: Any) -> NDArray[Any]:
    if not path.exists() or not path.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="c")  # torch warns of what is read-only
