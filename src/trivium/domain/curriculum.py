"""The curriculum as data: the named recipes, and the rows that a stage trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.foundation.tables import RELEVANT
from trivium.foundation.train_config import StageConfig, TrainConfig

PUBLISHED = (
    StageConfig(
        name="easy",
        loss="bce",
        positives=["easy_positive"],
        negatives=["random_negative"],
        min_grade=4,
    ),
    StageConfig(name="hard", loss="mnr", positives=["hard_positive"], negatives=["hard_negative"]),
    StageConfig(
        name="fine",
        loss="triplet",
        positives=["easy_positive", "hard_positive"],
        negatives=["token_similar_negative"],
        margin=0.3,
    ),
)
"""BCE, then MNR, then triplet, as published (arXiv 2606.23911); steps and rates are ours."""

_ALL_POSITIVES = ["seed_positive", "easy_positive", "hard_positive"]
_JUDGED_NEGATIVES = ["seed_negative", "hard_negative"]

DEFAULT = (
    StageConfig(
        name="broad",
        loss="mnr",
        positives=_ALL_POSITIVES,
        min_p_relevant=0.8,
        human_share=0.5,
        steps=250,
    ),
    StageConfig(
        name="hard",
        loss="mnr",
        positives=_ALL_POSITIVES,
        negatives=_JUDGED_NEGATIVES,
        min_p_relevant=0.8,
        human_share=0.5,
        steps=200,
        learning_rate=2e-5,
    ),
    StageConfig(
        name="fine",
        loss="triplet",
        positives=_ALL_POSITIVES,
        negatives=[*_JUDGED_NEGATIVES, "token_similar_negative"],
        min_p_relevant=0.8,
        human_share=0.5,
        steps=50,
        learning_rate=1e-5,
        margin=0.1,
    ),
)
"""Progressive MNR: in-batch negatives, then judged ones, then a short triplet stage.

Human seed positives are mixed with machine positives that the judge is sure of, since judges are
least sure where channels disagree; the published recipe has only the latter.
"""

RECIPES = {"default": DEFAULT, "published": PUBLISHED}

_REDRAWS = 20


def stages_of(config: TrainConfig) -> list[StageConfig]:
    """The stages to train: the user's own list, else the named recipe's, with scaled steps."""
    stages = config.stages or RECIPES[config.recipe]
    return [
        stage.model_copy(update={"steps": max(1, round(stage.steps * config.scale))})
        for stage in stages
    ]


MAX_HUMAN_REPEATS = 4
"""Times that a stage uses one human positive at most, where a share of them is stated; ours."""


@dataclass(frozen=True)
class Rows:
    """What a stage trains on, as positions in the lists of queries and items.

    Attributes:
        queries: Position of each row's query, int64 (rows,).
        items: Positions of its items, int64 (rows, 1) for BCE, else (rows, 1 or 2): the positive
            and the negative.
        labels: 0.0 or 1.0 for BCE, (rows,); empty otherwise.
    """

    queries: NDArray[np.int64]
    items: NDArray[np.int64]
    labels: NDArray[np.float32]


def positives_of(examples: pl.DataFrame, stage: StageConfig) -> pl.DataFrame:
    """Examples that the stage takes as positives."""
    sure = (pl.col("source") == "human") | (pl.col("p_relevant") >= stage.min_p_relevant)
    graded = pl.col("grade") >= stage.min_grade
    return examples.filter(pl.col("level").is_in(stage.positives) & graded & sure)


def training_rows(
    examples: pl.DataFrame,
    stage: StageConfig,
    query_ids: Sequence[str],
    item_ids: Sequence[str],
    seed: int,
) -> Rows | None:
    """Choose a stage's rows, and shuffle them into the order in which they are trained on.

    Every query gives a positive before any gives a second one; when all are used they are used
    again, until there are `steps * batch` rows. A row whose query has no negative of the stage's
    levels gets a random item that is not known to be relevant.

    Args:
        examples: The examples of all levels.
        stage: The stage.
        query_ids: All queries, sorted.
        item_ids: The catalog, sorted.
        seed: Seed of the order.

    Returns:
        The rows, or None if the stage finds no positive, or no negative though it asks for some.
    """
    rng = np.random.default_rng([seed, len(stage.name), *stage.name.encode()])
    positives = _positions(positives_of(examples, stage), query_ids, item_ids)
    negatives = _positions(
        examples.filter(pl.col("level").is_in(stage.negatives)), query_ids, item_ids
    )
    if positives.is_empty() or (stage.negatives and negatives.is_empty()):
        return None
    total = stage.steps * stage.batch
    if stage.loss == "bce":
        return _labelled_rows(positives, negatives, total, rng)
    chosen = _mix(positives, total, stage.human_share, rng)
    queries, items = chosen["query"].to_numpy(), chosen["item"].to_numpy()[:, None]
    if stage.negatives:
        relevant = known_relevant(examples, query_ids, item_ids)
        drawn = _draw_negatives(queries, negatives, relevant, len(item_ids), rng)
        items = np.hstack([items, drawn[:, None]])
    return Rows(queries, items, np.empty(0, dtype=np.float32))


def known_relevant(
    examples: pl.DataFrame, query_ids: Sequence[str], item_ids: Sequence[str]
) -> NDArray[np.int64]:
    """Pairs that must never serve as negatives: sorted query position * items + item position."""
    pairs = _positions(examples.filter(pl.col("grade") >= RELEVANT), query_ids, item_ids)
    codes = pairs["query"].to_numpy() * len(item_ids) + pairs["item"].to_numpy()
    return np.unique(codes)


def _positions(
    examples: pl.DataFrame, query_ids: Sequence[str], item_ids: Sequence[str]
) -> pl.DataFrame:
    for name, ids in (("query", query_ids), ("item", item_ids)):
        places = pl.DataFrame({f"{name}_id": ids, name: np.arange(len(ids), dtype=np.int64)})
        examples = examples.join(places, on=f"{name}_id", how="inner", maintain_order="left")
    return examples.sort("query", "item").select("query", "item", "source")


def _mix(
    positives: pl.DataFrame, total: int, human_share: float | None, rng: np.random.Generator
) -> pl.DataFrame:
    """Take `total` positives, in the stated mix of human and machine where there are both.

    A few human positives are not repeated without end to fill their share: machine positives
    take the places that `MAX_HUMAN_REPEATS` leaves free.
    """
    human = positives.filter(pl.col("source") == "human")
    machine = positives.filter(pl.col("source") != "human")
    if human_share is None or human.is_empty() or machine.is_empty():
        chosen = _cycle(positives, total, rng)
    else:
        most = MAX_HUMAN_REPEATS * human.height if human_share < 1 else total
        humans = min(round(total * human_share), most)
        chosen = pl.concat([_cycle(human, humans, rng), _cycle(machine, total - humans, rng)])
    return chosen[rng.permutation(total)]


def _cycle(rows: pl.DataFrame, total: int, rng: np.random.Generator) -> pl.DataFrame:
    """Take rows query by query in turn, again and again, until there are `total`."""
    taken, missing = [], total
    while missing > 0:
        shuffled = rows[rng.permutation(rows.height)]
        turn = pl.int_range(pl.len()).over("query").alias("_turn")
        in_turn = shuffled.with_columns(turn).sort("_turn", maintain_order=True).drop("_turn")
        taken.append(in_turn.head(missing))
        missing -= taken[-1].height
    return pl.concat(taken) if taken else rows.clear()


def _labelled_rows(
    positives: pl.DataFrame, negatives: pl.DataFrame, total: int, rng: np.random.Generator
) -> Rows:
    """As many positives as negatives, shuffled."""
    ones = _cycle(positives, total - total // 2, rng)
    zeros = _cycle(negatives, total // 2, rng)
    both = pl.concat([ones, zeros])
    labels = np.repeat(np.array([1.0, 0.0], dtype=np.float32), [ones.height, zeros.height])
    order = rng.permutation(total)
    both = both[order]
    return Rows(both["query"].to_numpy(), both["item"].to_numpy()[:, None], labels[order])


def _draw_negatives(
    queries: NDArray[np.int64],
    negatives: pl.DataFrame,
    relevant: NDArray[np.int64],
    items: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw a negative of its own query for each row, or a random item where it has none."""
    owners, pool = negatives["query"].to_numpy(), negatives["item"].to_numpy()
    first = np.searchsorted(owners, queries, side="left")
    count = np.searchsorted(owners, queries, side="right") - first
    own = pool[np.minimum(first + rng.integers(0, np.maximum(count, 1)), len(pool) - 1)]
    return np.where(count > 0, own, _random_items(queries, relevant, items, rng))


def _random_items(
    queries: NDArray[np.int64], relevant: NDArray[np.int64], items: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw an item for each row, again where it is known to be relevant."""
    drawn = rng.integers(0, items, len(queries))
    for _ in range(_REDRAWS):
        wrong = np.flatnonzero(np.isin(queries * items + drawn, relevant))
        drawn[wrong] = rng.integers(0, items, len(wrong))
    return drawn
