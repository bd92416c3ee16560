"""What an endpoint's reply says: the grade, how sure the model is of it, and the tokens used.

In: the body of a chat completion. Out: a distribution over the five grades, or a `Malformed`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trivium.foundation.tables import GRADES

Mode = Literal["logprobs", "json"]

TOP = 10
CERTAINTY = 0.8
_CERTAIN = (0.5, 0.99)
_CHARACTERS_A_TOKEN = 4
_ROUNDING, _LEAST = 1e-3, -1e4
# A digit alone, with nothing but marks around it: neither "-3", ".3", "13" nor "3 or 4".
_DIGIT = re.compile(r"[^\w.+-]*([0-4])\W*", re.ASCII)
_STATED = re.compile(r"(?:[^\w{]*grade)?[^\w.+{-]*([0-4])[^\w}]*", re.ASCII | re.IGNORECASE)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "grade": {"type": "integer", "enum": list(GRADES)},
        "confidence": {
            "type": "number",
            "description": "probability, from 0 to 1, that the grade is right",
        },
    },
    "required": ["grade", "confidence"],
    "additionalProperties": False,
}


class Malformed(ValueError):
    """A reply that holds no usable grade.

    Attributes:
        kind: `empty`, `malformed` or `no_logprobs`, as it is counted.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(kind)


@dataclass(frozen=True)
class Reply:
    """A chat completion.

    Attributes:
        text: What the model wrote, empty when there is nothing.
        tokens: Its tokens with their log-probabilities, empty when the server gives none.
        read: Tokens of the prompt, None when the server does not say.
        written: Tokens of the answer.
    """

    text: str
    tokens: list[dict[str, Any]]
    read: int | None
    written: int


def read_reply(body: str) -> Reply:
    """Take a completion apart; parts that are missing or of another type are empty.

    Args:
        body: The response, JSON in OpenAI's format.

    Raises:
        Malformed: If it is not a JSON object.
    """
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise Malformed("malformed")
    choice = next(iter(_objects(raw, "choices")), {})
    text = _part(choice, "message", dict).get("content")
    text = text if isinstance(text, str) else ""
    usage = _part(raw, "usage", dict)
    read, written = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    return Reply(
        text,
        _objects(_part(choice, "logprobs", dict), "content"),
        read,
        estimated_tokens(text) if written is None else written,
    )


def distribution(reply: Reply, mode: Mode) -> NDArray[np.float32]:
    """Probabilities of the five grades that a reply stands for, (5,), summing to 1.

    The answer is a grade that stands alone ("3", "Grade: 3", "**3**") or strict JSON such as
    {"grade": 3, "confidence": 0.9}, where the confidence may be left out.

    Args:
        reply: The completion.
        mode: Where the probabilities come from: the log-probabilities of the grade's token, or the
            grade, smoothed by `smoothed`.

    Raises:
        Malformed: If there is no text, no single grade of 0-4, or no log-probability where the mode
            needs them.
    """
    if not reply.text.strip():
        raise Malformed("empty")
    grade, certainty = _stated(reply.text)
    if mode == "json":
        return smoothed(grade, certainty)
    if not reply.tokens:
        raise Malformed("no_logprobs")
    return _of_token(reply, grade)


def smoothed(grade: int, certainty: float = CERTAINTY) -> NDArray[np.float32]:
    """A distribution for a grade that came without one.

    The grade gets the certainty, kept within 0.5-0.99 so that it stays the likeliest; the rest is
    shared by the other grades, halved with each step away, as raters err by one more than by two.
    Only the order matters where a calibration follows.

    Example:
        >>> [f"{share:.3f}" for share in smoothed(4)]
        ['0.013', '0.027', '0.053', '0.107', '0.800']
    """
    certainty = float(np.clip(certainty, *_CERTAIN))
    weights = 0.5 ** np.abs(np.arange(len(GRADES)) - grade)
    weights[grade] = 0.0
    weights *= (1.0 - certainty) / weights.sum()
    weights[grade] = certainty
    return weights.astype(np.float32)


def estimated_tokens(text: str) -> int:
    """Tokens of a text without its model's tokenizer: a token is about four characters.

    OpenAI's rule of thumb for English; other scripts take more tokens.
    """
    return math.ceil(len(text) / _CHARACTERS_A_TOKEN)


def _stated(text: str) -> tuple[int, float]:
    """The one grade that an answer states, and how certain it says to be."""
    if match := _STATED.fullmatch(text):
        return int(match[1]), CERTAINTY
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    answer = answer if isinstance(answer, dict) else {}
    grade, certainty = answer.get("grade"), answer.get("confidence", CERTAINTY)
    if type(grade) is not int or grade not in GRADES:
        raise Malformed("malformed")
    if type(certainty) not in (int, float) or not 0 <= certainty <= 1:
        raise Malformed("malformed")
    return grade, certainty


def _of_token(reply: Reply, grade: int) -> NDArray[np.float32]:
    """Read the distribution off the token that holds the grade.

    Variants of a grade ("3", " 3") are summed. A grade that is not among the listed tokens gets
    what is left of the probability, shared equally, but no more than the least that is listed, as
    it would be listed otherwise. Then the five are renormalised.
    """
    listed = dict(_alternatives(_place(reply, grade)))
    mass = np.zeros(len(GRADES))
    for text, probability in listed.items():
        if (digit := _digit(text)) is not None:
            mass[digit] += probability
    absent = sorted({*GRADES} - {_digit(text) for text in listed})
    if absent:
        left = max(0.0, 1.0 - sum(listed.values())) / len(absent)
        mass[absent] = min(left, *listed.values())
    if not mass.sum() > 0:
        raise Malformed("no_logprobs")
    shares: NDArray[np.float32] = (mass / mass.sum()).astype(np.float32)
    return shares


def _place(reply: Reply, grade: int) -> dict[str, Any]:
    """The token that holds the grade: the first such digit, after the word grade if it is there."""
    start, seen = reply.text.lower().find("grade"), 0
    for token in reply.tokens:
        if seen >= start and _digit(token.get("token")) == grade:
            return token
        seen += len(str(token.get("token")))
    raise Malformed("no_logprobs")


def _alternatives(place: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """The token chosen and those it was chosen from, with their probabilities."""
    for token in [place, *_objects(place, "top_logprobs")]:
        logprob: Any = token.get("logprob")
        if type(logprob) not in (int, float) or not logprob < _ROUNDING:
            raise Malformed("malformed")
        yield _part(token, "token", str), math.exp(max(min(logprob, 0.0), _LEAST))


def _digit(token: Any) -> int | None:
    match = _DIGIT.fullmatch(token) if isinstance(token, str) else None
    return int(match[1]) if match else None


def _part(of: dict[str, Any], name: str, kind: type) -> Any:
    """A member of an object, or an empty one of the same kind."""
    part = of.get(name)
    return part if isinstance(part, kind) else kind()


def _objects(of: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [part for part in _part(of, name, list) if isinstance(part, dict)]


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 1 << 31 else None
