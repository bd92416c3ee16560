"""Judges: learn from human grades, and say what they make of grades that they have not seen.

In: human judgments, items and queries with the text that judges read, graded pairs of other
catalogs, and what the channels found for the judged queries. Out: fitted judges, and answers, what
each of them says of the pairs that calibrate, tune and measure.

The judgments of queries of the part `seed` teach; those of `calibration`, `tuning` and `agreement`
are answered by judges that have not seen them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.judges import collect
from trivium.adapters.judges.panel import Desk, Fitted, Panel, fit_panel
from trivium.domain.sampling import hash_strings
from trivium.domain.teaching import FURTHER, Teaching
from trivium.foundation.annotate_config import AnnotateConfig
from trivium.foundation.judge_config import CrossEncoderConfig, FeaturesConfig, StackedConfig
from trivium.foundation.tables import PROBABILITIES

STACKING_SHARE = 0.2
"""Share of the seed's queries kept from the other judges, for stacked ones to learn from."""

_HELD_OUT = ("calibration", "tuning", "agreement")


@dataclass(frozen=True)
class HeldOut:
    """What the judges say of pairs that they have not seen.

    Attributes:
        answers: Columns query_id, item_id, part, source, grade, for each judge p_<judge> (raw, null
            where it gave no answer) and tokens_<judge>; and cosine, the starting tower's.
        seconds_per_pair: What each judge took for a pair, measured; 0 where the store had all.
    """

    answers: pl.DataFrame
    seconds_per_pair: Mapping[str, float]


def fit_judges(
    teaching: Teaching, config: AnnotateConfig, tower: str, desk: Desk, seed: int
) -> Fitted:
    """Fit the judges that are not fitted yet.

    Args:
        teaching: The graded pairs.
        config: The judges.
        tower: The tower in production, whose cosine is a feature.
        desk: Where judges and answers are kept.
        seed: Seed of the training.

    Raises:
        DependencyError: If a judge's model or endpoint is not there.
    """
    stacked = any(isinstance(judge, StackedConfig) for judge in config.judges)
    seed_pairs = teaching.of("seed")
    kept = for_stacking(seed_pairs, seed) & stacked

    def pairs_for(judge: object) -> pl.DataFrame:
        if isinstance(judge, StackedConfig):
            return _sampled(seed_pairs.filter(kept), judge.pairs, seed)
        taught = seed_pairs.filter(~kept)
        own = isinstance(judge, CrossEncoderConfig) and judge.start
        return taught.filter(pl.col("source") != FURTHER) if own else taught

    return fit_panel(with_tower(config, tower).judges, pairs_for, desk, seed=seed)


def with_tower(config: AnnotateConfig, tower: str) -> AnnotateConfig:
    """Name the tower in production where a judge of features names none."""
    judges = [
        judge.model_copy(update={"model": tower})
        if isinstance(judge, FeaturesConfig) and judge.model is None
        else judge
        for judge in config.judges
    ]
    return config.model_copy(update={"judges": judges})


def hold_out(
    panel: Panel, teaching: Teaching, items: pl.DataFrame, queries: pl.DataFrame, tower: str
) -> HeldOut:
    """Ask the judges about the pairs that calibrate, tune and measure them.

    Args:
        panel: The fitted judges.
        teaching: The graded pairs.
        items: Columns item_id and text, what towers read.
        queries: Columns query_id and text.
        tower: The starting tower, for its cosines.
    """
    pairs = teaching.pairs.filter(pl.col("part").is_in(_HELD_OUT)).sort(
        "part", "query_id", "item_id"
    )
    columns, seconds = [], {}
    for name, judge in panel.items():
        before = time.monotonic()
        answers = collect(judge, pairs)
        seconds[name] = (time.monotonic() - before) / max(len(pairs), 1)
        columns += [
            probabilities_column(f"p_{name}", answers.probabilities),
            pl.Series(f"tokens_{name}", answers.read + answers.written, dtype=pl.Int32),
        ]
    base = pairs.select("query_id", "item_id", "part", "source", "grade")
    cosine = pl.Series("cosine", _cosines(pairs, items, queries, tower), dtype=pl.Float32)
    return HeldOut(base.with_columns(*columns, cosine), seconds)


def probabilities_column(name: str, probabilities: NDArray[np.float32]) -> pl.Series:
    """Probabilities as a column, null where the judge gave no answer."""
    column = pl.Series(name, probabilities.astype(np.float32), dtype=PROBABILITIES)
    answered = pl.Series(~np.isnan(probabilities).any(axis=1))
    return pl.select(pl.when(answered).then(column).alias(name)).to_series()


def for_stacking(pairs: pl.DataFrame, seed: int) -> pl.Series:
    """Which pairs are kept for stacked judges: those of a share of the catalog's own queries.

    How far each judge is to be believed may differ from catalog to catalog, so pairs of others
    teach no stacked judge.

    Args:
        pairs: Columns query_text and source.
        seed: Seed of the choice.
    """
    places = hash_strings(pairs["query_text"].to_list(), seed).astype(np.float64) / 2.0**64
    return pl.Series(places < STACKING_SHARE) & (pairs["source"] != FURTHER)


def _sampled(pairs: pl.DataFrame, most: int, seed: int) -> pl.DataFrame:
    """Pairs of randomly chosen queries, as many as there may be."""
    hashes = pl.Series("_hash", hash_strings(pairs["query_text"].to_list(), seed + 1))
    ordered = pairs.with_columns(hashes).sort("_hash", "query_text", maintain_order=True)
    return ordered.head(most).drop("_hash")


def _cosines(
    pairs: pl.DataFrame, items: pl.DataFrame, queries: pl.DataFrame, tower: str
) -> NDArray[np.float32]:
    """Cosine of query and item by a tower, (pairs,)."""
    from trivium.adapters.models import resolve_model
    from trivium.adapters.towers import Tower

    texts = pairs.select("query_id", "item_id")
    for key, table in (("query_id", queries), ("item_id", items)):
        named = table.select(key, pl.col("text").alias(f"{key}_text"))
        texts = texts.join(named, on=key, how="left", maintain_order="left")
    encoder = Tower.load(resolve_model(tower))
    asked = encoder.encode(texts["query_id_text"].to_list(), "queries")
    offered = encoder.encode(texts["item_id_text"].to_list())
    return np.asarray(np.einsum("ij,ij->i", asked, offered), dtype=np.float32)
