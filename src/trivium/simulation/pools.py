"""Which items of a judged query get rated: pooled as engines pool, so mostly relevant ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.simulation.grading import Grades
from trivium.simulation.vocabulary import Ints, Places

_TOKEN = r"[a-z0-9]+"
_CHUNK = 200_000
LEXICAL, RELEVANT, SUBSTITUTES, RELATED, RANDOM = 10, 8, 4, 2, 2


@dataclass(frozen=True)
class WordIndex:
    """The titles that hold each word of some queries.

    Attributes:
        places: Word to its place in the arrays.
        starts: Where each word's titles begin in `rows`, (words + 1,).
        rows: Places of the titles, ascending within a word.
        root_length: Square root of each title's number of words, (titles,).
    """

    places: dict[str, int]
    starts: NDArray[np.int64]
    rows: Ints
    root_length: NDArray[np.float64]

    def search(self, query: str, k: int) -> Ints:
        """The k titles whose words in common with the query weigh most for their length.

        The weight of a word is ln(1 + titles / titles that hold it); ties fall to the earlier
        item; titles without a word in common are never returned.
        """
        score = np.zeros(len(self.root_length))
        for word in dict.fromkeys(_words(query)):
            place = self.places.get(word)
            if place is not None:
                rows = self.rows[self.starts[place] : self.starts[place + 1]]
                score[rows] += np.log1p(len(score) / max(len(rows), 1))
        score /= self.root_length
        return _best(score, k)


def index_words(titles: pl.Series, queries: list[str]) -> WordIndex:
    """Index the words of some queries in all titles.

    Args:
        titles: Titles of the whole catalog.
        queries: The queries that will be searched for.

    Returns:
        The index; it knows no other words.
    """
    vocabulary = sorted({word for query in queries for word in _words(query)})
    words = pl.DataFrame(
        {"word": vocabulary, "place": np.arange(len(vocabulary), dtype=np.int32)},
        schema_overrides={"word": pl.String},
    )
    postings, lengths = [], []
    for start in range(0, len(titles), _CHUNK):
        tokens = titles.slice(start, _CHUNK).str.to_lowercase().str.extract_all(_TOKEN)
        tokens = tokens.list.unique()
        lengths.append(tokens.list.len().to_numpy())
        rows = pl.Series(np.arange(start, start + len(tokens), dtype=np.int32))
        held = pl.DataFrame({"row": rows, "word": tokens}).explode("word")
        postings.append(held.join(words, on="word").select("place", "row"))
    found = pl.concat(postings).sort("place", "row")
    starts = np.searchsorted(found["place"].to_numpy(), np.arange(len(vocabulary) + 1))
    return WordIndex(
        places={word: place for place, word in enumerate(vocabulary)},
        starts=starts,
        rows=found["row"].to_numpy(),
        root_length=np.sqrt(np.maximum(np.concatenate(lengths), 1)),
    )


def make_pool(
    lexical: Ints, rows: Ints, grades: Grades, items: int, rng: np.random.Generator
) -> Ints:
    """Choose the items that one query's raters see.

    Args:
        lexical: What the word index returned.
        rows: Places of every item of grade 1 or more.
        grades: Their true grades.
        items: Size of the catalog.
        rng: Source of randomness.

    Returns:
        Distinct places, ascending: the lexical ones, and up to 8 of grade 3 or 4, 4 of grade 2,
        2 of grade 1 and 2 of the whole catalog, at random.
    """
    picked = [
        lexical,
        _sample(rows[grades >= 3], RELEVANT, rng),
        _sample(rows[grades == 2], SUBSTITUTES, rng),
        _sample(rows[grades == 1], RELATED, rng),
        rng.integers(items, size=RANDOM),
    ]
    return np.unique(np.concatenate(picked)).astype(np.int32)


def _words(text: str) -> list[str]:
    words: list[str] = pl.Series([text.lower()]).str.extract_all(_TOKEN).to_list()[0]
    return words


def _best(score: NDArray[np.float64], k: int) -> Ints:
    k = min(k, int(np.count_nonzero(score)))
    if not k:
        return np.empty(0, dtype=np.int32)
    least = np.partition(score, -k)[-k]
    above = np.flatnonzero(score > least)
    level = np.flatnonzero(score == least)[: k - len(above)]
    return np.concatenate([above, level]).astype(np.int32)


def _sample(rows: Places, count: int, rng: np.random.Generator) -> Places:
    return rng.choice(rows, size=min(count, len(rows)), replace=False)
