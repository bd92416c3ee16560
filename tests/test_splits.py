"""Parts and segments: every query in one place, no words on both sides, exact sizes."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from trivium.adapters.channels.words import fold
from trivium.domain.splits import with_parts, with_segments
from trivium.foundation.config import SplitConfig
from trivium.foundation.tables import PARTS
from trivium.foundation.text import normalise

HELD_OUT = ("calibration", "tuning", "agreement", "validation", "test")  # the later the stronger
NOTHING_HELD = {"calibration": 0, "tuning": 0, "agreement": 0}
ALL_TEST = SplitConfig(seed=0, train=0, validation=0, test=1, **NOTHING_HELD)


def queries(texts, segments=None, parts=None):
    frame = pl.DataFrame(
        {
            "query_id": [f"q{n:03d}" for n in range(len(texts))],
            "query": texts,
            "segment": segments or [None] * len(texts),
        },
        schema_overrides={"segment": pl.String},
    )
    return frame if parts is None else frame.with_columns(part=pl.Series(parts, dtype=pl.String))


def part_of(texts, judged, split=None, seed=0, parts=None):
    frame = queries(texts, parts=parts)
    ids = frame["query_id"].filter(pl.Series(judged))
    return with_parts(frame, ids, split or SplitConfig(), seed)["part"].to_list()


def words_of(frame):
    folded = frame.select(normalise("query"))["query"].to_list()
    return [" ".join(sorted(map(fold, text.split()))) for text in folded]


SAME = ["red mug", "Mug, red", "RED  MUG!", "mug (red).", "red-mug", "  mug\tred ", "réd mugs"]


def test_the_same_words_in_another_dress_share_a_part():
    others = [f"thing {n}" for n in range(40)]
    for seed in range(12):
        parts = part_of([*SAME, *others], [True] * (len(SAME) + 40), seed=seed)
        assert len(set(parts[: len(SAME)])) == 1


def test_other_sizes_are_other_words():
    frame = queries(["pipe 1.5", "pipe 15", "pipe 1 5", "pipe 1.5."])
    assert words_of(frame) == ["1.5 pipe", "15 pipe", "1 5 pipe", "1.5 pipe"]


def test_training_queries_with_the_words_of_one_held_out_are_set_aside():
    texts = ["red mug", "mug red", "Red mug.", "red mugs", "blue mug"]
    parts = part_of(texts, [True, False, False, False, False], ALL_TEST)
    assert parts == ["test", None, None, None, "train"]


@pytest.mark.parametrize("held_out", HELD_OUT)
def test_given_parts_are_kept_and_shield_their_words(held_out):
    texts = ["red mug", "mug red", "blue mug", "lamp"]
    given_parts = [held_out, "train", "seed", None]
    parts = part_of(texts, [True, True, True, False], parts=given_parts)
    assert parts[0] == held_out
    assert parts[1] is None
    assert parts[3] == "train"


@pytest.mark.parametrize("weaker", range(3))
def test_of_two_held_out_parts_the_stronger_keeps_the_words(weaker):
    texts = ["red mug", "mug red", "red mug!", "blue mug"]
    given_parts = [HELD_OUT[weaker], HELD_OUT[weaker + 1], None, "seed"]
    parts = part_of(texts, [True] * 4, parts=given_parts)
    assert parts == [None, HELD_OUT[weaker + 1], HELD_OUT[weaker + 1], "seed"]


def test_grades_that_only_teach_and_grades_that_only_evaluate_are_dealt_apart():
    frame = queries([f"thing {n}" for n in range(100)])
    ids = frame["query_id"]
    dealt = with_parts(frame, ids[:60], SplitConfig(), 0, ids[60:])
    teaching, testing = dealt[:60]["part"], dealt[60:]["part"]
    assert set(teaching) == {"seed", "calibration", "tuning", "agreement", "train"}
    assert set(testing) == {"validation", "test"}
    assert testing.value_counts().sort("part")["count"].to_list() == [27, 13]


def test_a_judged_query_takes_the_part_given_to_its_words():
    texts = ["red mug", "mug red", *(f"thing {n}" for n in range(30))]
    for seed in range(8):
        parts = part_of(
            texts, [True] * len(texts), seed=seed, parts=["validation", *[None] * (len(texts) - 1)]
        )
        assert parts[:2] == ["validation", "validation"]


def test_queries_without_grades_are_for_training():
    assert part_of(["a", "b", "c"], [False] * 3) == ["train"] * 3


def test_given_calibration_is_not_dealt_again():
    texts = [f"thing {n}" for n in range(50)]
    parts = part_of(texts, [True] * 50, parts=["calibration"] * 3 + ["seed"] * 47)
    assert Counter(parts) == {"calibration": 3, "seed": 47}


def expected_sizes(count, shares):
    """The plain reference: each place's middle against the cumulated shares."""
    sizes, names = Counter(), list(shares)
    for place in range(count):
        at, bound = (place + 0.5) / count, 0.0
        for name in names:
            bound += shares[name]
            if at < bound - 1e-9 or name == names[-1]:
                sizes[name] += 1
                break
    return sizes


@pytest.mark.parametrize("count", [1, 2, 7, 10, 60, 101])
@pytest.mark.parametrize("shares", [(0.5, 0.2, 0.1, 0.2), (0.35, 0.3, 0.05, 0.3), (0, 0, 0.5, 0.5)])
def test_parts_have_exact_sizes_in_every_segment(count, shares):
    names = ("seed", "train", "validation", "test")
    split = SplitConfig(**dict(zip(names, shares, strict=True)), **NOTHING_HELD)
    segments = ["head"] * count + ["torso"] * (2 * count) + [None] * 3
    frame = queries([f"thing {n}" for n in range(len(segments))], segments)
    dealt = with_parts(frame, frame["query_id"], split, seed=count)
    for segment, size in (("head", count), ("torso", 2 * count), (None, 3)):
        inside = dealt.filter(pl.col("segment").eq_missing(pl.lit(segment)))
        sizes = Counter(inside["part"].to_list())
        assert sizes == expected_sizes(size, dict(zip(names, shares, strict=True)))
        for name, share in zip(names, shares, strict=True):
            assert abs(sizes[name] - share * size) <= 1


def test_the_seed_gives_up_shares_for_calibration_tuning_and_agreement():
    held = {"calibration": 0.25, "tuning": 0.1, "agreement": 0.15}
    split = SplitConfig(seed=1, train=0, validation=0, test=0, **held)
    frame = queries([f"thing {n}" for n in range(100)])
    parts = Counter(with_parts(frame, frame["query_id"], split, seed=0)["part"].to_list())
    assert parts == {"seed": 50, "calibration": 25, "tuning": 10, "agreement": 15}


def test_another_seed_deals_otherwise():
    texts = [f"thing {n}" for n in range(60)]
    assert part_of(texts, [True] * 60, seed=1) != part_of(texts, [True] * 60, seed=2)


WORDS = st.lists(
    st.sampled_from(["red", "Mug", "mugs", "blue,", "lamp", "1.5"]), min_size=1, max_size=3
)
ROW = st.tuples(
    WORDS.map(" ".join),
    st.sampled_from(["head", "torso", "tail", None]),
    st.booleans(),
    st.sampled_from([None, None, None, *PARTS]),
)
CASE = st.tuples(st.lists(ROW, min_size=1, max_size=30), st.integers(0, 5), st.randoms())


@settings(max_examples=120, deadline=None)
@given(CASE)
def test_whatever_the_queries(case):
    rows, seed, random = case
    texts, segments, judged, parts = (list(column) for column in zip(*rows, strict=True))
    frame = queries(texts, segments, parts)
    graded = frame["query_id"].filter(pl.Series(judged))
    dealt = with_parts(frame, graded, SplitConfig(), seed)

    # Every query once, as it came, with one of the parts; what is left out has words held out.
    assert_frame_equal(dealt.drop("part"), frame.drop("part"))
    assert set(dealt["part"].drop_nulls()) <= set(PARTS)
    by_words: dict[str, set[str | None]] = {}
    for words, part in zip(words_of(dealt), dealt["part"], strict=True):
        by_words.setdefault(words, set()).add(part)
    for found in by_words.values():
        left = found - {None}
        assert left <= {"seed", "train"} or len(left) == 1
        assert None not in found or left & set(HELD_OUT)
    together: dict[str, set[str | None]] = {}
    for words, judged_, old, new in zip(words_of(dealt), judged, parts, dealt["part"], strict=True):
        if judged_ and old is None:
            together.setdefault(words, set()).add(new)
        kept = old is not None and old != "seed"
        assert not kept or new in {old, None}
        assert old is not None or judged_ or new in {"train", None}
    assert all(len(found) == 1 for found in together.values())

    # The same again, in whatever order the rows come.
    order = random.sample(range(frame.height), frame.height)
    again = with_parts(frame[order], graded.reverse(), SplitConfig(), seed)
    assert_frame_equal(again, dealt)


def plain_segments(frequencies, head, torso):
    ranked = sorted(range(len(frequencies)), key=lambda n: (-frequencies[n], n))
    total, before, segments = sum(frequencies), 0, {}
    for n in ranked:
        share = before / total
        segments[n] = "head" if share < head else "torso" if share < torso else "tail"
        before += frequencies[n]
    return [segments[n] for n in range(len(frequencies))]


@settings(max_examples=120, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_segments_follow_from_the_frequencies(frequencies):
    frame = queries([f"thing {n}" for n in range(len(frequencies))]).drop("segment")
    made = with_segments(frame.with_columns(frequency=pl.Series(frequencies)), 0.5, 0.9)
    assert made["segment"].to_list() == plain_segments(frequencies, 0.5, 0.9)


def test_given_segments_stay_and_no_frequency_is_no_segment():
    frame = queries(["a", "b", "c"], ["tail", None, None])
    made = with_segments(frame.with_columns(frequency=pl.Series([90, 10, None])), 0.5, 0.9)
    assert made["segment"].to_list() == ["tail", "tail", None]
    bare = with_segments(queries(["a", "b"]).drop("segment"), 0.5, 0.9)
    assert bare["segment"].to_list() == [None, None]
    assert bare["frequency"].null_count() == 2


def test_a_share_met_exactly_ends_a_segment():
    counts = [1, 1, 1, 1, 1, 20, 26, 26, 26, 26, 27, 50]
    frame = queries(list("abcdefghijkl")).drop("segment")
    made = with_segments(frame.with_columns(frequency=pl.Series(counts)), 0.5, 0.9)
    assert made["segment"].to_list() == plain_segments(counts, 0.5, 0.9)
    zero = queries(["a", "b"]).with_columns(frequency=pl.Series([0, 0]))
    assert with_segments(zero, 0.5, 0.9)["segment"].to_list() == ["tail", "tail"]
