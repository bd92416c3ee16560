"""Which of the training queries are mined: one a question, that the catalog can answer, sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trivium.adapters.channels.coverage import CatalogWords
from trivium.adapters.channels.synonyms import read_synonyms
from trivium.domain.query_log import fold_questions, sample_queries, short_of
from trivium.foundation.errors import InputError
from trivium.foundation.mine_config import MineConfig

_EXAMPLES = 3


@dataclass(frozen=True)
class QueriesToMine:
    """The queries that are mined, and what became of the others.

    Attributes:
        queries: Columns query_id, query, text, frequency, segment, sorted by query_id.
        folded: Columns query_id, folded_into: queries that differ from another in spelling alone.
        summary: What was left out and why, line by line.
    """

    queries: pl.DataFrame
    folded: pl.DataFrame
    summary: list[str]

    def at_least_one(self) -> QueriesToMine:
        """These, which must not be none.

        Raises:
            InputError: If they are.
        """
        if self.queries.is_empty():
            raise InputError.of(
                "queries to mine",
                got="; ".join(["none", *self.summary]),
                expected="queries without judgments, or a share of the judged ones",
                fix="give a query log, raise split.train, or lower mine.min_coverage",
            )
        return self


def queries_to_mine(
    queries: pl.DataFrame,
    items: pl.DataFrame,
    config: MineConfig,
    seed: int,
    synonyms: Path | None = None,
) -> QueriesToMine:
    """Choose the queries to mine.

    Args:
        queries: Those for training: query_id, query, text, frequency, segment.
        items: The catalog: item_id, text and further fields.
        config: Whether to fold, the coverage asked for, and the sample.
        seed: Of the sample.
        synonyms: The user's file of synonyms.

    Raises:
        InputError: If weights are given for segments that have no queries.
    """
    summary: list[str] = []
    folded = pl.DataFrame(schema={"query_id": pl.String, "folded_into": pl.String})
    standing = queries
    if config.fold:
        made = fold_questions(queries, "text")
        standing, folded = made.queries, made.folded
        summary += _folded(queries, folded)
    if config.min_coverage and standing.height:
        words = CatalogWords(items, read_synonyms(synonyms) if synonyms else None)
        answerable = words.answerable(standing, config.min_coverage)
        summary += _unanswered(standing.filter(~answerable), config.min_coverage)
        standing = standing.filter(answerable)
    if config.queries and standing.height:
        weights: dict[str, float] = dict(config.segments.items())
        drawn = sample_queries(standing, config.queries, weights, seed)
        summary += _sampled(standing, drawn, config.queries, weights)
        standing = drawn
    names = ["query_id", "query", "text", "frequency", "segment"]
    return QueriesToMine(standing.select(names).sort("query_id"), folded, summary)


def _folded(queries: pl.DataFrame, folded: pl.DataFrame) -> list[str]:
    if folded.is_empty():
        return []
    texts = queries.select("query_id", "text")
    into = texts.rename({"query_id": "folded_into", "text": "into"})
    shown = folded.head(_EXAMPLES).join(texts, on="query_id", maintain_order="left")
    shown = shown.join(into, on="folded_into", maintain_order="left")
    examples = ", ".join(f"{row['text']!r} into {row['into']!r}" for row in shown.to_dicts())
    return [f"queries folded into another spelling: {folded.height:,}, such as {examples}"]


def _unanswered(left_out: pl.DataFrame, least: float) -> list[str]:
    if left_out.is_empty():
        return []
    share = f"{least:.0%}" if least >= 0.1 else "any"
    examples = ", ".join(map(repr, left_out["text"].head(_EXAMPLES)))
    reason = f"no item has {share} of their words"
    return [f"queries set aside, {reason}: {left_out.height:,}, such as {examples}"]


def _sampled(
    queries: pl.DataFrame, drawn: pl.DataFrame, count: int, weights: Mapping[str, float]
) -> list[str]:
    lines = short_of(queries, drawn, count, weights)
    outside = queries.height - drawn.height
    return [*lines, f"queries set aside, outside the sample: {outside:,}"] if outside else lines
