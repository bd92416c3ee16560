"""What an endpoint's reply means: which grade, how sure, or none at all."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from trivium.adapters.judges.chat_answers import (
    Malformed,
    Reply,
    distribution,
    read_reply,
    smoothed,
)


def listed(*tokens: tuple[str, float], text: str = "") -> Reply:
    """A reply of one token, chosen from several."""
    top = [{"token": token, "logprob": math.log(p) if p else -9999.0} for token, p in tokens]
    return Reply(text or tokens[0][0], [top[0] | {"top_logprobs": top}], 1, 1)


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("3", 3),
        (" 0\n", 0),
        ("**4**", 4),
        ("2.", 2),
        ("Grade: 1", 1),
        ("grade=4", 4),
        ("[3]", 3),
        ('{"grade": 3}', 3),
        ('{"grade":2,"confidence":0.9}', 2),
        (' {"confidence": 1, "grade": 0, "why": "4 wheels"} ', 0),
    ],
)
def test_a_grade_that_is_stated_is_read(text, grade):
    row = distribution(Reply(text, [], 1, 1), "json")
    assert row.argmax() == grade
    assert row.dtype == np.float32
    assert row.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        *("7", "-3", ".3", "3.5", "13", "30", "3 or 4", "3/4", "3 stars", "between 2 and 3"),
        *(
            "three",
            "I cannot say",
            "\uff13",
            "x3",
            "{}",
            "null",
            "[]",
            '{"grade": 3',
            '"grade": 3}',
        ),
        *('{"grade": 7}', '{"grade": -1}', '{"grade": true}', '{"grade": "3"}', '{"grade": 3.0}'),
        *('{"grade": null}', '{"grade": [3]}', '{"Grade": 3}', '{"grade": 3, "confidence": 80}'),
        *('{"grade": 3, "confidence": NaN}', '{"grade": 3, "confidence": "high"}', "[" * 100_000),
    ],
)
def test_anything_else_is_no_grade(text):
    for mode in ("json", "logprobs"):
        with pytest.raises(Malformed) as caught:
            distribution(Reply(text, [{"token": "3", "logprob": 0.0}], 1, 1), mode)
        assert caught.value.kind == "malformed"


@pytest.mark.parametrize("text", ["", " \n"])
def test_no_text_is_empty(text):
    with pytest.raises(Malformed) as caught:
        distribution(Reply(text, [], 1, 1), "json")
    assert caught.value.kind == "empty"


@pytest.mark.parametrize("grade", range(5))
@pytest.mark.parametrize("certainty", [0.0, 0.3, 0.5, 0.8, 1.0])
def test_smoothing_keeps_the_grade_on_top_and_falls_with_distance(grade, certainty):
    row = smoothed(grade, certainty).astype(float)
    assert row.sum() == pytest.approx(1, abs=1e-6)
    assert row[grade] == pytest.approx(min(max(certainty, 0.5), 0.99))
    assert row.min() > 0
    by_distance = sorted(range(5), key=lambda other: abs(other - grade))
    assert (np.diff(row[by_distance]) <= 1e-6).all()
    assert row.argmax() == grade


def test_variants_of_a_grade_are_summed():
    row = distribution(
        listed(("3", 0.4), (" 3", 0.2), ("4", 0.2), ("Ġ2", 0.1), ("1\n", 0.05), ("0", 0.05)),
        "logprobs",
    )
    assert row == pytest.approx([0.05, 0.05, 0.1, 0.6, 0.2], abs=1e-6)


def test_other_tokens_are_left_out():
    row = distribution(
        listed(("3", 0.4), ("The", 0.2), ("4", 0.1), ("2", 0.1), ("1", 0.1), ("0", 0.1)),
        "logprobs",
    )
    assert row == pytest.approx(np.array([0.1, 0.1, 0.1, 0.4, 0.1]) / 0.8, abs=1e-6)


def test_grades_not_listed_share_what_is_left_up_to_the_least_listed():
    row = distribution(listed(("3", 0.6), ("4", 0.1)), "logprobs")
    assert row == pytest.approx([0.1, 0.1, 0.1, 0.6, 0.1], abs=1e-6)
    row = distribution(listed(("3", 0.6), ("4", 0.34)), "logprobs")
    assert row == pytest.approx([0.02, 0.02, 0.02, 0.6, 0.34], abs=1e-6)
    row = distribution(listed(("3", 0.97), ("4", 0.03)), "logprobs")
    assert row == pytest.approx([0, 0, 0, 0.97, 0.03], abs=1e-6)
    assert distribution(listed(("3", 1.0), ("4", 0.0)), "logprobs").tolist() == [0, 0, 0, 1, 0]


def test_the_token_is_found_behind_others():
    top = listed(("3", 0.7), ("2", 0.3)).tokens[0]
    decoy = listed(("0", 0.9), ("1", 0.1)).tokens[0]
    words = [{"token": word, "logprob": -0.1} for word in ("Grade", ":", " ")]
    plain = distribution(Reply("Grade: 3", [*words, top], 1, 1), "logprobs")
    assert plain == pytest.approx([0, 0, 0.3, 0.7, 0], abs=1e-6)
    start, middle = ({"token": text, "logprob": 0.0} for text in ('{"sure": ', ', "grade": '))
    zero = listed(("0", 0.7), ("2", 0.3)).tokens[0]
    tokens = [start, decoy, middle, zero, {"token": "}", "logprob": 0.0}]
    row = distribution(Reply('{"sure": 0, "grade": 0}', tokens, 1, 1), "logprobs")
    assert row == pytest.approx([0.7, 0, 0.3, 0, 0], abs=1e-6)


@pytest.mark.parametrize("tokens", [[], [{"token": "The", "logprob": -1}], [{"logprob": 0}]])
def test_a_grade_without_its_token_has_no_log_probabilities(tokens):
    with pytest.raises(Malformed) as caught:
        distribution(Reply("3", tokens, 1, 1), "logprobs")
    assert caught.value.kind == "no_logprobs"


@pytest.mark.parametrize("logprob", [None, "x", 0.5, math.nan, True])
def test_a_log_probability_that_is_none_is_malformed(logprob):
    with pytest.raises(Malformed) as caught:
        distribution(Reply("3", [{"token": "3", "logprob": logprob}], 1, 1), "logprobs")
    assert caught.value.kind == "malformed"


def test_a_log_probability_of_any_size_is_taken():
    tokens = [{"token": "3", "logprob": -(10**400)}, {"token": "2", "logprob": 0}]
    with pytest.raises(Malformed):
        distribution(Reply("3", tokens[:1], 1, 1), "logprobs")
    place = {"token": "3", "logprob": -(10**400), "top_logprobs": [tokens[1], None]}
    assert distribution(Reply("3", [place], 1, 1), "logprobs")[2] == pytest.approx(1)


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"choices": None}, {"choices": [None]}, {"choices": [{"message": None}]}),
        *({"choices": [{"message": {"content": 3}}]}, {"choices": "x", "usage": [1]}),
        {"choices": [{"message": {}, "logprobs": {"content": 1}}], "usage": {"prompt_tokens": -1}},
        {"choices": [], "usage": {"prompt_tokens": 1e3, "completion_tokens": 10**12}},
    ],
)
def test_parts_of_another_type_are_empty(body):
    assert read_reply(json.dumps(body)) == Reply("", [], None, 0)


@pytest.mark.parametrize("body", ["", "{", "[]", "3", "<html>", "null", "[" * 100_000])
def test_a_body_that_is_no_object_is_malformed(body):
    with pytest.raises(Malformed):
        read_reply(body)
