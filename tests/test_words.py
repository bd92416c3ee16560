"""A catalog's words numbered column by column, against the words of each text."""

import numpy as np
import polars as pl
import pytest

from trivium.adapters.channels.words import number_tokens, number_words, tokens

TEXTS = [
    "Delta 1/2 in. x 3-Pack Men's boxes, DX-4821b",
    "",
    "M&uuml;ller &amp; S\u00f6hne\u2122 Cr\u00e8me br\u00fbl\u00e9e 12-pk",
    "a_b -- __ 4.5.6 / x-",
    "\u65e5\u672c\u8a9e \u0130stanbul \ufb01lter \u00bd",
    "'quoted' `ticks` boy\u2019s AT&T",
    " \t\n",
    "DX4821B dx-4821b dx 4821b boxes BOX box",
]


def random_texts(n):
    rng = np.random.default_rng(0)
    letters = list("abSX019'`&-./_ \u00e9\u2122\u0130 ")
    return ["".join(rng.choice(letters, size=rng.integers(0, 30))) for _ in range(n)]


@pytest.mark.parametrize("texts", [TEXTS, random_texts(3000), [""], []], ids=len)
def test_a_column_has_the_words_of_its_texts(texts):
    known = {"box": 0, "nowhere": 1}
    plain, column = {**known}, {**known}
    expected = number_words(texts, tokens, plain)
    found = number_tokens(pl.Series(texts, dtype=pl.String), column)
    assert list(column.items()) == list(plain.items())
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.offsets.tolist() == expected.offsets.tolist()
    assert (found.ids.dtype, found.offsets.dtype) == (np.int32, np.int64)
