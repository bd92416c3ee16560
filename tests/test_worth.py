"""Which pairs are worth rating: what is known of them, and an even spread over it."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.domain import worth
from trivium.foundation.tables import PROBABILITIES, candidates_schema

CHANNELS = ("bm25", "dense")
KEY = ["query_id", "item_id"]


def candidates(rows: list[tuple], channels: tuple[str, ...] = CHANNELS) -> pl.DataFrame:
    """Candidates from (item_id, ranks of the channels, tfidf), all of one query."""
    schema = candidates_schema(channels).columns
    made = []
    for item, ranks, tfidf in rows:
        row = {"query_id": "q1", "item_id": item, "tfidf": tfidf}
        row |= {f"rank_{name}": rank for name, rank in zip(channels, ranks, strict=True)}
        row["channels"] = sum(rank is not None for rank in ranks)
        made.append(row | {f"score_{name}": None for name in channels})
    return pl.DataFrame(made, schema=dict(schema))


def described(rows: list[tuple], labels: pl.DataFrame | None = None) -> dict[str, dict]:
    made = worth.describe(candidates(rows), labels)
    return {row["item_id"]: row for row in made.to_dicts()}


def label(item: str, confidence: float, **probabilities: list[float] | None) -> pl.DataFrame:
    columns = {f"p_{judge}": [p] for judge, p in probabilities.items()}
    return pl.DataFrame(
        {"query_id": ["q1"], "item_id": [item], "confidence": [confidence], **columns},
        schema_overrides=dict.fromkeys(columns, PROBABILITIES),
    )


FOUND = [("both", (3, 60), 0.5), ("words", (37, None), 0.3), ("none", (None, None), 0.25)]


def test_strata_bands_and_disagreement():
    rows = described(FOUND)
    strata = {item: row["stratum"] for item, row in rows.items()}
    assert strata == {"both": "bm25 + dense", "words": "bm25 alone", "none": worth.SIMILAR}
    assert {item: row["band"] for item, row in rows.items()} == {"both": 0, "words": 1, "none": 4}
    # Absent from dense counts as its deepest rank, 60, and one: 61 - 37 is 24, 60 - 3 is 57.
    gaps = {item: row["disagreement"] for item, row in rows.items()}
    assert gaps == {"both": 2, "words": 1, "none": 4}


@pytest.mark.parametrize(("rank", "band"), [(10, 0), (11, 1), (50, 1), (51, 2), (100, 2), (101, 3)])
def test_edges_of_the_bands(rank, band):
    assert described([("i", (rank, None), 0.1)])["i"]["band"] == band


def test_why_is_told_in_words():
    rows = described(FOUND)
    assert rows["both"]["why"] == "every channel found it: bm25 rank 3, dense rank 60"
    assert rows["words"]["why"] == "only one channel found it: bm25 rank 37"
    assert rows["none"]["why"] == "no channel found it, but words are alike, tf-idf 0.25"
    three = candidates([("i", (4, None, 9), 0.1)], ("a", "b", "c"))
    assert worth.describe(three)["why"][0] == "found by a rank 4, c rank 9, not by b"


def test_without_judges_the_fused_place_is_the_expected_grade():
    rows = described([(f"i{at:02}", (at, at), 0.1) for at in range(1, 60)] + FOUND[2:])
    expected = {f"i{at:02}": rows[f"i{at:02}"]["expected"] for at in (1, 5, 6, 15, 16, 50, 51)}
    assert list(expected.values()) == [4, 4, 3, 3, 2, 2, 1]
    assert rows["none"]["expected"] == 0
    assert rows["i01"]["doubt"] is None


def test_judges_are_believed_where_they_were_asked():
    sure, split_ = [0.0, 0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0, 0.0]
    labels = pl.concat(
        [
            label("none", 0.4, small=sure, large=split_),  # (4 + 2) / 2 = 3
            label("words", 0.9, small=[0.5, 0.5, 0.0, 0.0, 0.0], large=None),
        ]
    )
    rows = described(FOUND, labels)
    assert rows["none"]["expected"] == 3
    assert rows["none"]["doubt"] == pytest.approx(0.6)
    assert rows["none"]["why"].endswith("; judges expect grade 3.0, confidence 0.4")
    assert rows["words"]["why"].endswith("; judges expect grade 0.5, confidence 0.9")
    assert rows["both"]["expected"] == 4
    assert "judges" not in rows["both"]["why"]


def test_a_judge_without_an_answer_is_left_out():
    nothing = [float("nan")] * 5
    labels = label("words", 0.5, small=nothing, large=[0.0, 0.0, 0.0, 1.0, 0.0])
    assert described(FOUND, labels)["words"]["expected"] == 3


def test_of_equal_pairs_the_doubtful_ones_come_first():
    rows = [(f"i{at}", (at, None), 0.1) for at in range(1, 9)]
    p = [0.0, 0.0, 0.0, 1.0, 0.0]
    labels = pl.concat([label(f"i{at}", 1 - at / 10, judge=p) for at in range(1, 9)])
    made = worth.worthy_pairs(worth.describe(candidates(rows), labels), ["q1"], 3, seed=0)
    assert made["item_id"].to_list() == ["i8", "i7", "i6"]


def reference(codes: np.ndarray, groups: np.ndarray, n: int) -> list[int]:
    """`spread` as its docstring has it, in plain loops."""
    columns = range(codes.shape[1])
    values = [int(codes[:, c].max()) + 1 for c in columns]
    names, picked = sorted(set(groups.tolist())), []
    while len(picked) < min(n, len(codes)):
        for group in names:
            rest = [r for r in range(len(codes)) if groups[r] == group and r not in picked]
            if not rest or len(picked) == n:
                continue

            def cost(row: int, group: int = group) -> float:
                total = 0.0
                for c in columns:
                    alike = [r for r in picked if codes[r, c] == codes[row, c]]
                    inside = sum(groups[r] == group for r in alike)
                    total += values[c] * (inside + len(alike) / len(names))
                return round(total, 9)

            picked.append(min(rest, key=cost))
    return picked


@given(st.integers(0, 10_000), st.integers(1, 25), st.sampled_from([1, 2, 4]), st.integers(0, 30))
def test_spread_is_that_of_the_plain_loops(seed, rows, groups, n):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, (rows, 2))
    group = np.sort(rng.integers(0, groups, rows))
    assert worth.spread(codes, group, n).tolist() == reference(codes, group, n)


def test_spread_of_nothing_is_nothing():
    assert worth.spread(np.empty((0, 2), np.int64), np.empty(0, np.int64), 5).tolist() == []


def test_a_rare_value_is_picked_as_often_as_a_common_one():
    codes = np.repeat([0, 1, 2], [500, 40, 12])[:, None]
    picked = worth.spread(codes, np.zeros(len(codes), np.int64), 36)
    assert np.bincount(codes[picked, 0]).tolist() == [12, 12, 12]


def queries(segments: dict[str | None, int]) -> pl.DataFrame:
    rows = [(f"{name}{at:02}", name) for name, many in segments.items() for at in range(many)]
    return pl.DataFrame(
        {
            "query_id": [row[0] for row in rows],
            "query": [f"mug {row[0]}" for row in rows],
            "segment": [row[1] for row in rows],
        },
        schema_overrides={"segment": pl.String},
    )


def test_queries_are_spread_over_segments_as_far_as_there_are():
    chosen = worth.worthy_queries(queries({"head": 2, "torso": 20, "tail": 40}), 12, seed=0)
    sizes = dict(chosen.group_by("segment").len().iter_rows())
    assert sizes == {"head": 2, "torso": 5, "tail": 5}
    assert worth.worthy_queries(queries({None: 9}), 4, seed=0).height == 4


def test_the_choice_of_queries_depends_on_the_seed_and_not_on_their_order():
    many = queries({"head": 30, "tail": 30})
    first = worth.worthy_queries(many, 10, seed=0)
    assert first.equals(worth.worthy_queries(many.reverse(), 10, seed=0))
    assert set(first["query_id"]) != set(worth.worthy_queries(many, 10, seed=1)["query_id"])
    assert first.equals(worth.worthy_queries(many.join(first, on="query_id", how="semi"), 10, 0))


def test_queries_with_the_same_words_are_chosen_once():
    same = pl.DataFrame(
        {
            "query_id": ["a", "b", "c"],
            "query": ["Red mug", "mug, red", "cup"],
            "segment": ["tail"] * 3,
        }
    )
    chosen = worth.worthy_queries(same, 3, seed=0)["query_id"].to_list()
    assert len(chosen) == 2
    assert "c" in chosen


def test_random_pairs_are_shared_out_and_avoid_what_is_excluded():
    items = [f"i{at:03}" for at in range(200)]
    excluded = pl.DataFrame({"query_id": "a", "item_id": items[:100]})
    drawn = worth.random_pairs(["a", "b", "c"], items, excluded, 7, seed=3)
    assert dict(drawn.group_by("query_id").len().iter_rows()) == {"a": 3, "b": 2, "c": 2}
    assert drawn.join(excluded, on=KEY, how="semi").is_empty()
    assert not drawn.select(KEY).is_duplicated().any()
    assert worth.random_pairs(["a"], items, excluded, 0, seed=3).is_empty()
    everything = pl.DataFrame({"query_id": "a", "item_id": items})
    assert worth.random_pairs(["a"], items, everything, 5, seed=3).is_empty()
