"""Write examples as the files that other trainers read, a shard of queries at a time.

| format | file | a row | read by |
|---|---|---|---|
| sentence-transformers | train.parquet | anchor, positive, negative_1 .. negative_n | `datasets` |
| tevatron | train.jsonl | query_id, query, positive_passages, negative_passages | `TrainDataset` |
| flagembedding | train.jsonl | query, pos, neg, pos_scores, neg_scores | its train dataset |

Sources: sentence-transformers' page "Dataset Overview"; tevatron/retriever/dataset.py, the format
with passages (docid, title, text); FlagEmbedding/abc/finetune/embedder/AbsDataset.py.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl

from trivium.foundation.tables import LEVELS, POSITIVE_LEVELS

ExampleFormat = Literal["sentence-transformers", "tevatron", "flagembedding"]
EXAMPLE_FORMATS: tuple[str, ...] = get_args(ExampleFormat)
FILES = {"sentence-transformers": "train.parquet"} | dict.fromkeys(
    ("tevatron", "flagembedding"), "train.jsonl"
)
NEGATIVES = 4
"""Negatives beside each positive of a row in the format of sentence-transformers; ours."""

_SCORE_DIGITS = 4
_QUERY = ["query_id", "query"]

Write = Callable[[pl.DataFrame], object]


def write_examples(
    shards: Iterable[pl.DataFrame],
    queries: pl.DataFrame,
    items: pl.DataFrame,
    folder: Path,
    format_: ExampleFormat,
    negatives: int = NEGATIVES,
) -> Counter[str]:
    """Write examples; memory holds the catalog's texts and one shard.

    Args:
        shards: Parts of a table of examples, all rows of a query in one part.
        queries: Columns query_id, text: what a tower reads of a query.
        items: Columns item_id, title, text: what a tower reads of an item.
        folder: Where the format's file of `FILES` goes.
        format_: The format.
        negatives: Of each row in the format of sentence-transformers.

    Returns:
        Counts: `rows` that were written, and what was left out by reason.
    """
    counts: Counter[str] = Counter(rows=0)
    rows_of = _ROWS[format_]
    with _writer(folder / FILES[format_]) as write:
        for shard in shards:
            pairs, same = _with_texts(shard, queries, items)
            rows, left_out = rows_of(pairs, negatives)
            counts.update({"negatives with the words of a positive": same, **left_out})
            counts["rows"] += rows.height
            write(rows)
    return counts


def _with_texts(
    shard: pl.DataFrame, queries: pl.DataFrame, items: pl.DataFrame
) -> tuple[pl.DataFrame, int]:
    """The pairs of a shard with their texts, the hardest level first; and how many are left out.

    A negative whose text a positive of its query has too would teach the contrary of that one.
    """
    asked = queries.select("query_id", pl.col("text").alias("query"))
    shown = items.select("item_id", "title", "text")
    pairs = shard.join(asked, on="query_id").join(shown, on="item_id")
    pairs = pairs.with_columns(
        pl.col("level").cast(pl.Enum(LEVELS)),
        pl.col("level").is_in(POSITIVE_LEVELS).alias("positive"),
        pl.col("expected_grade")
        .cast(pl.Float64)
        .fill_null(0.0)
        .round(_SCORE_DIGITS)
        .alias("score"),
    ).sort("query_id", "level", "item_id")
    texts = ["query_id", "text"]
    contrary = pairs.filter(~pl.col("positive")).join(
        pairs.filter("positive").select(texts), on=texts, how="semi"
    )
    kept = pairs.join(contrary, on=["query_id", "item_id"], how="anti", maintain_order="left")
    return kept, contrary.height


def _anchors(pairs: pl.DataFrame, negatives: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """A row a positive; the negatives of its query go round among its positives."""
    own = pairs.filter(~pl.col("positive")).group_by("query_id", maintain_order=True)
    pools = own.agg(pl.col("text").alias("pool"), pl.len().cast(pl.Int64).alias("size"))
    rows = pairs.filter("positive").join(pools, on="query_id", how="left", maintain_order="left")
    kept = rows.filter(pl.col("size").fill_null(0) >= negatives).with_columns(
        (pl.int_range(pl.len()).over("query_id") * negatives).alias("place")
    )
    made = kept.select(
        pl.col("query").alias("anchor"),
        pl.col("text").alias("positive"),
        *(
            pl.col("pool")
            .list.get((pl.col("place") + n) % pl.col("size"))
            .alias(f"negative_{n + 1}")
            for n in range(negatives)
        ),
    )
    return made, {f"positives with fewer than {negatives} negatives": rows.height - kept.height}


def _tevatron(pairs: pl.DataFrame, _negatives: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """A row a query. The trainer joins title and text by a space: together they are the text."""
    begins = pl.col("text").str.starts_with(pl.col("title") + pl.lit(" "))
    rest = pl.col("text").str.slice(pl.col("title").str.len_chars() + 1)
    passage = pl.struct(
        pl.col("item_id").alias("docid"),
        pl.when(begins).then("title").otherwise(pl.lit("")).alias("title"),
        pl.when(begins).then(rest).otherwise("text").alias("text"),
    )
    return _grouped(pairs, {"positive_passages": passage}, {"negative_passages": passage}, _QUERY)


def _flagembedding(pairs: pl.DataFrame, _negatives: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """A row a query; the scores are expected grades, 0 for items drawn from the catalog."""
    text, score = pl.col("text"), pl.col("score")
    return _grouped(
        pairs,
        {"pos": text, "pos_scores": score},
        {"neg": text, "neg_scores": score},
        ["query"],
    )


def _grouped(
    pairs: pl.DataFrame,
    of_positives: dict[str, pl.Expr],
    of_negatives: dict[str, pl.Expr],
    first: list[str],
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Lists by query; both trainers need a positive and a negative of each."""
    grouped = pairs.group_by(_QUERY, maintain_order=True).agg(
        *(of.filter(pl.col("positive")).alias(name) for name, of in of_positives.items()),
        *(of.filter(~pl.col("positive")).alias(name) for name, of in of_negatives.items()),
    )
    both = [next(iter(columns)) for columns in (of_positives, of_negatives)]
    kept = grouped.filter(pl.all_horizontal(pl.col(name).list.len() > 0 for name in both))
    left_out = {"queries without a positive or a negative": grouped.height - kept.height}
    return kept.select(*first, *of_positives, *of_negatives), left_out


_ROWS: dict[str, Callable[[pl.DataFrame, int], tuple[pl.DataFrame, dict[str, int]]]] = {
    "sentence-transformers": _anchors,
    "tevatron": _tevatron,
    "flagembedding": _flagembedding,
}


@contextlib.contextmanager
def _writer(path: Path) -> Iterator[Write]:
    """A function that appends rows to a file."""
    if path.suffix == ".jsonl":
        with path.open("wb") as file:
            yield lambda rows: rows.write_ndjson(file)
        return
    import pyarrow.parquet as pq

    writer: Any = None

    def append(rows: pl.DataFrame) -> None:
        nonlocal writer
        table = rows.to_arrow()
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)

    try:
        yield append
    finally:
        if writer is not None:
            writer.close()
