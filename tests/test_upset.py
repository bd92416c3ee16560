"""The picture of which channels found what: its sets, sizes, shares, and what it leaves out."""

from __future__ import annotations

import re

import polars as pl

from trivium.adapters.upset import SETS, Sets, upset
from trivium.domain.disagreement import FOUND_BY


def table_of(counts):
    rows = [("all", names, count) for names, count in counts.items()]
    return pl.DataFrame(rows, schema=FOUND_BY, orient="row")


def words_of(drawing):
    return re.findall(r">([^<>]+)</(?:text|tspan)>", drawing)


def test_the_picture_shows_sets_sizes_and_shares():
    sets = Sets.of(table_of({"a": 500, "a+b": 300, "b": 150, "c": 50}), ["b", "a", "c", "d"])
    assert sets.channels == ["b", "a", "c", "d"]
    assert sets.sizes == {"a": 800, "b": 450, "c": 50, "d": 0}
    assert (sets.total, sets.alone, sets.rest) == (1000, 0.7, "")
    words = words_of(upset(sets))
    assert {"500", "300", "150", "50"} <= set(words)
    assert {"50.0%", "30.0%", "15.0%", "5.0%"} <= set(words)
    assert {"a", "b", "c", "d", "800", "450", "0"} <= set(words)
    assert upset(sets) == upset(sets)


def test_the_largest_sets_are_drawn_and_the_rest_counted():
    names = "abcdefg"
    counts = {
        "+".join(c for at, c in enumerate(names) if code >> at & 1): code for code in range(1, 128)
    }
    sets = Sets.of(table_of(counts), list(names))
    drawing = upset(sets)
    assert sets.rest == f"and {127 - SETS} more sets with {sum(range(1, 108)):,} pairs"
    words = words_of(drawing)
    assert sets.rest in words
    assert "108" in words
    assert "107" not in words
    assert "a and b and c and d and e and f and g, 127;" in drawing
    assert int(re.search(r'width="(\d+)"', drawing)[1]) <= 400


def test_nothing_is_not_drawn():
    assert upset(Sets.of(table_of({}), ["a"])) is None
