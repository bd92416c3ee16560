"""A whole simulated marketplace: items, traffic, complete truth and what raters made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.foundation import tables
from trivium.foundation.errors import ConfigError, Fault
from trivium.simulation.catalog import Catalog, fields, make_catalog
from trivium.simulation.grading import Grades, grade_pairs, true_grades, type_blocks
from trivium.simulation.models import MAX_ITEMS
from trivium.simulation.pools import LEXICAL, index_words, make_pool
from trivium.simulation.queries import Queries, make_queries
from trivium.simulation.raters import HUMAN_CONFUSION, check_confusion, draw_grades
from trivium.simulation.traffic import choose_judged, segments, zipf_frequencies
from trivium.simulation.vocabulary import PRODUCT_TYPES, Ints

MAX_JUDGED = 2000
_TRUTH_ROWS = 20_000_000  # the default number of judged queries keeps below this
_MOST_TRUTH_ROWS = 100_000_000  # about 3.3 GB as a table


@dataclass(frozen=True)
class Marketplace:
    """A simulated marketplace as tables.

    Attributes:
        items: item_id, title, brand, product_type, colour, material, size, pack, model_number,
            compatible_with; strings, null where the item does not state it.
        queries: query_id, query, frequency, segment.
        judgments: query_id, item_id, grade, rater: noisy ratings of a pool for each judged query.
        truth: query_id, item_id, grade: every true grade of 1 or more of the judged queries; an
            absent pair is grade 0.
        intents: query_id, kind and what the query really wants: product_type and the items' other
            fields, null where it asks for none.
        synonyms: Lines of a Solr synonyms file, a part of all synonyms.
        confusion: The raters' confusion matrix, rows of true grades, (5, 5).
        parameters: What `simulate` was called with.
    """

    items: pl.DataFrame
    queries: pl.DataFrame
    judgments: pl.DataFrame
    truth: pl.DataFrame
    intents: pl.DataFrame
    synonyms: tuple[str, ...]
    confusion: NDArray[np.float64]
    parameters: Mapping[str, Any]


def simulate(
    items: int = 2000,
    queries: int = 600,
    judged: int | None = None,
    seed: int = 0,
    raters: int = 1,
    confusion: NDArray[np.float64] | None = None,
    misspelling_rate: float = 0.1,
    zipf: float = 1.0,
    head_share: float = 0.5,
    torso_share: float = 0.9,
    synonym_share: float = 0.5,
) -> Marketplace:
    """Simulate a product marketplace. Nothing in it is real.

    How hard it is to search follows from counts that are stated in the code (shares of omitted
    attributes, of synonyms, of misspellings); they were set once and not tuned to any result.
    The same arguments give the same tables.

    Args:
        items: Items in the catalog, at most ten million.
        queries: Distinct queries.
        judged: Queries with truth and ratings, equally many of head, torso and tail where there
            are; by default all, but at most 2000 and no more than give 20 million rows of truth.
        seed: Seed of everything.
        raters: Raters who each rate every pooled pair, independently.
        confusion: Their confusion matrix, rows of true grades, (5, 5); `HUMAN_CONFUSION` if None.
        misspelling_rate: Share of the queries that carry one misspelling.
        zipf: Exponent of the frequencies.
        head_share: Share of traffic that head queries make.
        torso_share: Share of traffic that head and torso queries make together.
        synonym_share: Share of the synonyms that the shop's synonyms file knows.

    Returns:
        The marketplace.

    Raises:
        ConfigError: If an argument is out of its range, or the catalog is too small for that many
            distinct queries, or that many judged queries would give too many rows of truth.
    """
    parameters: dict[str, Any] = {
        "items": items,
        "queries": queries,
        "seed": seed,
        "raters": raters,
        "misspelling_rate": misspelling_rate,
        "zipf": zipf,
        "head_share": head_share,
        "torso_share": torso_share,
        "synonym_share": synonym_share,
    }
    _check(parameters, judged)
    matrix = check_confusion(HUMAN_CONFUSION if confusion is None else confusion)
    rngs = [np.random.default_rng([seed, part]) for part in range(6)]
    catalog = make_catalog(items, rngs[0])
    asked = make_queries(catalog, queries, misspelling_rate, rngs[1])
    frequency = zipf_frequencies(asked.kinds, asked.slots, zipf, rngs[2])
    segment = segments(frequency, head_share, torso_share)
    blocks = type_blocks(catalog.codes, len(PRODUCT_TYPES))
    count = _how_many_judged(judged, asked, catalog, blocks)
    chosen = choose_judged(segment, count, rngs[3])
    truth, pools = _grade(catalog, asked, chosen, blocks, rngs[4])
    ids = _query_ids(queries)
    item_ids = catalog.frame["item_id"]
    return Marketplace(
        items=tables.validate(catalog.frame, tables.ITEMS),
        queries=tables.validate(
            pl.DataFrame(
                {"query_id": ids, "query": asked.texts, "frequency": frequency, "segment": segment}
            ),
            tables.QUERIES,
        ),
        judgments=_rate(pools, ids, item_ids, matrix, raters, rngs[5]),
        truth=truth.frame(ids, item_ids),
        intents=_intents(asked, catalog, ids),
        synonyms=_synonym_lines(synonym_share, np.random.default_rng([seed, 6])),
        confusion=matrix,
        parameters=parameters | {"judged": count},
    )


@dataclass(frozen=True)
class _Pairs:
    """Graded pairs as places of queries and items."""

    query: Ints
    item: Ints
    grade: Grades

    def frame(self, query_ids: pl.Series, item_ids: pl.Series) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "query_id": query_ids.gather(self.query),
                "item_id": item_ids.gather(self.item),
                "grade": self.grade,
            }
        )

    @staticmethod
    def concat(queries: Ints, items: list[Ints], grades: list[Grades]) -> _Pairs:
        return _Pairs(
            np.repeat(queries, [len(rows) for rows in items]),
            np.concatenate(items),
            np.concatenate(grades),
        )


def _check(parameters: dict[str, Any], judged: int | None) -> None:
    ranges: dict[str, tuple[float, float]] = {
        "items": (1, MAX_ITEMS),
        "queries": (1, np.inf),
        "judged": (1, parameters["queries"]),
        "seed": (0, np.inf),
        "raters": (1, np.inf),
        "misspelling_rate": (0, 1),
        "zipf": (0, np.inf),
        "head_share": (0, parameters["torso_share"]),
        "torso_share": (0, 1),
        "synonym_share": (0, 1),
    }
    given = parameters if judged is None else parameters | {"judged": judged}
    faults = [
        Fault(name, got=str(value), expected=f"{low} to {high}", fix="change it")
        for name, value in given.items()
        for low, high in [ranges[name]]
        if not low <= value <= high
    ]
    if faults:
        raise ConfigError(*faults)


def _how_many_judged(
    judged: int | None, asked: Queries, catalog: Catalog, blocks: list[Ints]
) -> int:
    sizes = np.array([len(block) for block in blocks])
    reach = sizes + catalog.vocabulary.related @ sizes  # items of grade 1 or more, by type
    rows = float(reach[asked.intents.kind].mean())
    if judged is None:
        return max(1, min(len(asked.texts), MAX_JUDGED, int(_TRUTH_ROWS // rows)))
    if judged * rows > _MOST_TRUTH_ROWS:
        raise ConfigError.of(
            "judged",
            got=f"{judged} queries, about {judged * rows:,.0f} rows of truth",
            expected=f"at most {int(_MOST_TRUTH_ROWS // rows)} queries for this catalog",
            fix="judge fewer queries",
        )
    return judged


def _grade(
    catalog: Catalog, asked: Queries, chosen: Ints, blocks: list[Ints], rng: np.random.Generator
) -> tuple[_Pairs, _Pairs]:
    """Complete truth and the rated pool of each chosen query, with true grades."""
    index = index_words(catalog.frame["title"], [asked.texts[q] for q in chosen])
    rows, grades, pools, pool_grades = [], [], [], []
    for query in chosen:
        intent = asked.intents.take(np.array([query]))
        found, grade = true_grades(intent, catalog.codes, blocks, catalog.vocabulary)
        lexical = index.search(asked.texts[query], LEXICAL)
        pool = make_pool(lexical, found, grade, len(catalog.codes), rng)
        rows.append(found)
        grades.append(grade)
        pools.append(pool)
        pool_grades.append(grade_pairs(intent, catalog.codes.take(pool), catalog.vocabulary))
    return _Pairs.concat(chosen, rows, grades), _Pairs.concat(chosen, pools, pool_grades)


def _rate(
    pools: _Pairs,
    query_ids: pl.Series,
    item_ids: pl.Series,
    matrix: NDArray[np.float64],
    raters: int,
    rng: np.random.Generator,
) -> pl.DataFrame:
    pairs = pools.frame(query_ids, item_ids)
    ratings = [
        pairs.with_columns(
            grade=pl.Series(draw_grades(pools.grade, matrix, rng)),
            rater=pl.lit(f"sim-rater-{number}"),
        )
        for number in range(1, raters + 1)
    ]
    judgments = pl.concat(ratings).sort("query_id", "item_id", "rater")
    return tables.validate(judgments, tables.JUDGMENTS)


def _query_ids(count: int) -> pl.Series:
    width = max(4, len(str(count)))
    return "sim-q" + pl.Series(np.arange(1, count + 1)).cast(pl.String).str.zfill(width)


def _intents(asked: Queries, catalog: Catalog, ids: pl.Series) -> pl.DataFrame:
    wanted = fields(asked.intents, catalog.vocabulary)
    return pl.DataFrame({"query_id": ids, "kind": asked.kinds, **wanted})


def _synonym_lines(share: float, rng: np.random.Generator) -> tuple[str, ...]:
    known = [(kind, synonym) for kind in PRODUCT_TYPES for synonym in kind.synonyms]
    kept = sorted(rng.permutation(len(known))[: round(share * len(known))])
    lines = []
    for kind in PRODUCT_TYPES:
        words = [known[i][1] for i in kept if known[i][0] is kind]
        if words:
            lines.append(", ".join([kind.nouns[0].lower(), *words]))
    return tuple(lines)
