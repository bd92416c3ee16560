from __future__ import annotations

import zlib
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trivium.domain.sampling import draw_positions, hash_strings

WORD = 2**64
GOLDEN = 14295845631974556504  # of q1 under seed 0
SEEDS = st.integers(0, 2**32)


def plain_mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def plain_hash(text: str, seed: int) -> int:
    return plain_mix(zlib.crc32(text.encode()) ^ plain_mix(seed + 1))


@given(st.lists(st.text(max_size=8), max_size=8), SEEDS)
def test_hashes_equal_the_plain_ones(texts, seed):
    assert hash_strings(texts, seed).tolist() == [plain_hash(text, seed) for text in texts]


@given(st.lists(st.text(max_size=8), max_size=5), st.integers(0, 6), st.integers(1, 50), SEEDS)
def test_draws_equal_the_plain_ones(texts, per_key, high, seed):
    drawn = draw_positions(hash_strings(texts, seed), per_key, high)
    assert drawn.shape == (len(texts), per_key)
    expected = [
        [
            plain_mix((plain_hash(text, seed) + k * 0x9E3779B97F4A7C15) % WORD) % high
            for k in range(1, per_key + 1)
        ]
        for text in texts
    ]
    assert drawn.tolist() == expected


def test_the_numbers_are_the_same_on_every_machine():
    assert hash_strings(["q1", "ü"], 0).tolist() == [plain_hash("q1", 0), plain_hash("ü", 0)]
    assert hash_strings(["q1"], 0).tolist() == [GOLDEN]


def test_draws_are_even_and_change_with_the_seed():
    keys = hash_strings([f"q{k}" for k in range(500)], 7)
    counts = Counter(draw_positions(keys, 40, 10).ravel().tolist())
    assert set(counts) == set(range(10))
    spread = np.array(list(counts.values())) / 2000
    assert 0.9 < spread.min() < spread.max() < 1.1
    other = draw_positions(hash_strings([f"q{k}" for k in range(500)], 8), 40, 10)
    assert 0.05 < (other == draw_positions(keys, 40, 10)).mean() < 0.15
