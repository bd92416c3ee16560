"""Sizes: however they are written, one spelling."""

import polars as pl
import pytest

from trivium.domain.quantities import MARK, canonical, mark, plain, sizes


def said(text):
    return [c for size in sizes(plain(pl.Series([text])))[0] for c in canonical(size)]


@pytest.mark.parametrize(
    ("texts", "one"),
    [
        (
            ["1/2 in", "0.5 inch", '1/2"', ".5in", "½ inches", "0.50-inch", "1\u20442 in."],
            "0.5 inch",
        ),
        (["12 pk", "pack of 12", "12-count", "12 per pack", "12/box", "set of 12"], "12 pack"),
        (["5 gal", "5 gallon", "20 quarts", "5-Gal."], "5 gallon"),
        (["60 watt", "60w", "60-Watts"], "60 watt"),
        (["6 ft", "72 inches", "2 yd", "6\u2032", "6'"], "72 inch"),
        (["1-1/2 in", "1 1/2 in", "1.5 in", "1½\u2033"], "1.5 inch"),
        (["1,000 sq. ft.", "1000 sqft", "1000 square feet"], "1000 square foot"),
        (["2 lb", "32 oz"], "32 ounce"),
    ],
)
def test_spellings_of_one_size_meet(texts, one):
    assert {text: said(text) for text in texts} == {text: [one] for text in texts}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4x8 ft plywood", ["48 inch", "96 inch", "4 x 8"]),
        ("2x4", ["2 x 4"]),
        ("20inx50in", ["20 inch", "50 inch", "20 x 50"]),
        ("36 in. W x 72 in. H x 18 in. D", ["36 inch", "72 inch", "18 inch", "36 x 72", "72 x 18"]),
        ("36 w x 72 h", ["36 x 72"]),
        ("8 ft by 10 ft", ["96 inch", "120 inch", "8 x 10"]),
        ("60 w", ["60 watt"]),
        ("2-in-1 vacuum", []),
        ("3 in 1 oil, 1/2 in 1 ft", ["0.5 inch", "12 inch"]),
        ("model 4821 x", []),
        ("b12 in", []),
        ("1/0 in", ["1 inch"]),
        ("", []),
    ],
)
def test_sizes_are_read(text, expected):
    assert said(text) == expected


def test_marks_set_sizes_apart_and_lose_nothing():
    texts = plain(pl.Series(["hose 5/8 in x 50 ft red", "", "no size", "12 pk 3 gal"]))
    for text, marked in zip(texts, mark(texts), strict=True):
        pieces = marked.split(MARK)
        assert "".join(pieces) == text
        assert pieces[1::2] == sizes(pl.Series([text]))[0].to_list()
