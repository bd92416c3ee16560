"""Which candidates are worth a label, against the rules applied one by one."""

from __future__ import annotations

import math
from collections import Counter

import polars as pl
import pytest

from small_shop import CHANNELS, items, random_candidates
from trivium.foundation.annotate_config import AnnotateConfig
from trivium.foundation.config import ExamplesConfig, MineConfig
from trivium.stages.annotate.selection import select

STRATA = ("easy_positive", "hard_positive", "hard_negative", "token_similar")


def plain_stratum(row: dict) -> str | None:
    ranks = {c: row[f"rank_{c}"] for c in CHANNELS if row[f"rank_{c}"] is not None}
    lexical = min((r for c, r in ranks.items() if c != "dense"), default=math.inf)
    if len(ranks) == 3:
        return "easy_positive"
    if lexical <= 50 and "dense" not in ranks:
        return "hard_positive"
    if len(ranks) == 1 and min(ranks.values()) <= 100:
        return "hard_negative"
    in_band = 0.2 - 1e-6 <= row["tfidf"] <= 0.6 + 1e-6
    return "token_similar" if not ranks and in_band else None


def plain_selection(candidates: pl.DataFrame, cap: int) -> tuple[list, dict]:
    """The rules, one candidate at a time."""
    offers: dict[str, dict[str | None, list]] = {}
    for row in candidates.iter_rows(named=True):
        ranks = [row[f"rank_{c}"] for c in CHANNELS if row[f"rank_{c}"] is not None]
        place = (min(ranks, default=math.inf), -row["tfidf"], row["item_id"])
        by_stratum = offers.setdefault(row["query_id"], {})
        by_stratum.setdefault(plain_stratum(row), []).append(place)
    kept, reasons = [], []
    for query_id, by_stratum in offers.items():
        reasons += [(None, "no_level")] * len(by_stratum.get(None, []))
        queues = {s: sorted(by_stratum.get(s, [])) for s in STRATA}
        turns = [
            (turn, STRATA.index(s), item_id, s)
            for s in STRATA
            for turn, (_rank, _tfidf, item_id) in enumerate(queues[s])
        ]
        for at, (_turn, _order, item_id, stratum) in enumerate(sorted(turns)):
            reasons.append((stratum, "kept" if at < cap else "over_cap"))
            kept += [(query_id, item_id, stratum)] if at < cap else []
    return sorted(kept), Counter(reasons)


@pytest.mark.parametrize("cap", [1, 6, 13, 500])
def test_selection_equals_the_rules_applied_one_by_one(cap):
    candidates = random_candidates(items(), ["a", "b", "c"], seed=cap)
    config = AnnotateConfig(pairs_per_query=cap)
    got = select(candidates, config, ExamplesConfig(), MineConfig())
    kept, counts = plain_selection(candidates, cap)
    assert got.pairs.rows() == kept
    assert {(s, r): n for s, r, n in got.counts.iter_rows()} == counts
    assert got.counts["pairs"].sum() == len(candidates)


def test_selection_does_not_depend_on_the_shard_or_the_order():
    candidates = random_candidates(items(), ["a", "b", "c"], seed=1)
    rest = (AnnotateConfig(pairs_per_query=6), ExamplesConfig(), MineConfig())
    whole = select(candidates, *rest).pairs
    shuffled = candidates.sample(fraction=1.0, shuffle=True, seed=3)
    assert select(shuffled, *rest).pairs.equals(whole)
    shards = [select(candidates.filter(pl.col("query_id") == q), *rest).pairs for q in "abc"]
    assert pl.concat(shards).equals(whole)
    assert select(candidates.clear(), *rest).pairs.schema == whole.schema
