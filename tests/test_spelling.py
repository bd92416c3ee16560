"""Corrections against a plain search of every word."""

import numpy as np
import pytest

from trivium.adapters.channels.spelling import Speller


def edits_between(a, b):
    """Optimal string alignment, from its definition."""
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            same = a[i - 1] == b[j - 1]
            ways = [table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (not same)]
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                ways.append(table[i - 2, j - 2] + 1)
            table[i, j] = min(ways)
    return table[len(a), len(b)]


def plain_near(word, words):
    most = 2 if len(word) >= 7 else 1
    fit = {w: n for w, n in words.items() if n >= 2 and 4 <= len(w) <= 24 and w.isalpha()}
    near = [(edits_between(word, w) + (word[0] != w[0]), -n, w) for w, n in fit.items()]
    edits, _, best = min(near, default=(9, 0, ""))
    return (best, edits) if edits <= most else None


def changed(word, rng):
    at, letter = int(rng.integers(len(word))), "abelnorst"[int(rng.integers(9))]
    cut = word[:at] + word[at + 1 :]
    swapped = word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :]
    return [cut, word[:at] + letter + word[at:], word[:at] + letter + word[at + 1 :], swapped][
        int(rng.integers(4))
    ]


def test_the_nearest_word_is_that_of_a_plain_search():
    rng = np.random.default_rng(0)
    stems = ["faucet", "cabinet", "organizer", "tile", "refrigerator", "lamp", "shower", "screw"]
    words = {s: int(rng.integers(1, 9)) for s in stems}
    words |= {changed(s, rng): int(rng.integers(1, 9)) for s in stems for _ in range(12)}
    speller = Speller(words)
    found = 0
    for _ in range(400):
        typed = stems[int(rng.integers(len(stems)))]
        for _ in range(int(rng.integers(1, 4))):
            typed = changed(typed, rng)
        if len(typed) < 4:
            continue
        expected = plain_near(typed, words)
        assert speller._near(typed, 2 if len(typed) >= 7 else 1) == expected
        found += expected is not None
    assert found > 200


WORDS = {
    "organizer": 9, "putty": 3, "duty": 90, "height": 5, "light": 900, "drawer": 5, "drawers": 1,
    "kitchen": 50, "faucet": 50, "door": 70, "screen": 20, "saw": 5, "hose": 5, "rare": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("orgainzer", ("organizer", 1)),
        ("orgnizr", ("organizer", 2)),
        ("puty", ("putty", 1)),
        ("hight", ("height", 1)),
        ("kitchenfaucet", ("kitchen faucet", 1)),
        ("doorsscreen", ("door screen", 1)),
        ("kichen", ("kitchen", 1)),
    ],
)
def test_words_are_corrected(typed, meant):
    assert Speller(WORDS).correct(typed) == meant


@pytest.mark.parametrize(
    "typed", ["raree", "sav", "hos", "4821b", "kitch3n", "zzzzzz", "küchen", "k" * 25, "", "sawlo"]
)
def test_words_are_left_alone(typed):
    assert Speller(WORDS).correct(typed) is None


def test_a_frequent_word_is_preferred():
    assert Speller({"caster": 5, "canter": 50, "cancer": 5}).correct("caner") == ("canter", 1)


def test_a_speller_without_words_corrects_nothing():
    assert Speller({}).correct("hammer") is None
