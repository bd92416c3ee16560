"""From a query to weighted entries of a lexicon, and what was done on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import polars as pl

from trivium.adapters.channels.aliases import is_telling, key_of, spellings
from trivium.adapters.channels.lexicon import SIZE, STOP_WORDS, Lexicon
from trivium.adapters.channels.spelling import Speller
from trivium.adapters.channels.synonyms import Synonyms
from trivium.adapters.channels.words import parts, tokens
from trivium.domain.quantities import MARK, canonical, mark, plain

ALIAS_WEIGHT = 0.6
SYNONYM_WEIGHT = 0.6
BACK_OFF_WEIGHT = 0.5
"""Of what was asked; all three are ours, measured in docs/dictionary.md."""
ABSENT = "not in the catalog"


class Step(NamedTuple):
    """One thing that was made of a part of a query.

    Attributes:
        part: Of the query, as it was read.
        became: The entry that was searched; None where there is none.
        weight: Of that entry; None where there is none.
        why: `word`, `phrase`, `size`, `synonym`, `replacement`, `alias`, `correction` or
            `back-off`, joined by `, ` where several led there; else why nothing was searched.
    """

    part: str
    became: str | None
    weight: float | None
    why: str


class _Word(NamedTuple):
    typed: str
    read: str
    weight: float


class Lookup:
    """Turns queries into weighted entries of a lexicon.

    Args:
        lexicon: The catalog's entries.
        synonyms: The user's.
        units: Whether sizes are read.
        spelling: Whether words that neither the catalog nor the synonyms have are corrected.
    """

    def __init__(
        self, lexicon: Lexicon, synonyms: Synonyms, *, units: bool = True, spelling: bool = True
    ) -> None:
        self._entries = lexicon.entries
        self._synonyms = synonyms
        self._spellings = spellings(name for name in self._entries if name[0] != SIZE)
        self._speller = Speller(lexicon.words) if spelling else None
        self._units = units
        phrases = {*synonyms.equivalents, *synonyms.replacements}
        self._meant = phrases | {word for phrase in phrases for word in phrase.split(" ")}
        spaces = (known.count(" ") for known in chain(self._entries, phrases))
        self._longest = max(2, 1 + max(spaces, default=0))

    def steps(self, texts: pl.Series) -> Iterator[list[Step]]:
        """What is made of each query, in its order."""
        marked = mark(plain(texts)) if self._units else texts
        for text in marked.to_list():
            pieces = text.split(MARK)
            steps = self._words(pieces[0])
            for size, words in zip(pieces[1::2], pieces[2::2], strict=True):
                steps += self._size(size) + self._words(words)
            yield steps

    def entries(self, steps: Sequence[Step]) -> dict[int, float]:
        """The entries of a query with the weight of each, the largest where there are several."""
        weights: dict[int, float] = {}
        for _, became, weight, _ in steps:
            if became is not None and weight is not None:
                entry = self._entries[became]
                weights[entry] = max(weight, weights.get(entry, 0.0))
        return weights

    def _size(self, piece: str) -> list[Step]:
        said = [SIZE + said for said in canonical(piece)]
        steps = [Step(piece, name, 1.0, "size") for name in said if name in self._entries]
        words = parts(piece)
        numbers = tokens(piece)[len(words) :] or [word for word in words if not word.isalpha()]
        weight, why = (BACK_OFF_WEIGHT, "back-off") if steps else (1.0, "word")
        steps += [step for word in numbers for step in self._entry(piece, word, weight, why)]
        return steps or [Step(piece, None, None, ABSENT)]

    def _words(self, piece: str) -> list[Step]:
        split = parts(piece)
        words = [read for word in split for read in self._read(word)]
        steps, begin = [], 0
        while begin < len(words):
            length = self._longest_known(words[begin : begin + self._longest])
            steps += self._segment(words[begin : begin + length])
            begin += length
        for whole in tokens(piece)[len(split) :]:
            steps += self._entry(whole, whole, 1.0, "word")
        return steps

    def _read(self, word: str) -> list[_Word]:
        known = word in self._entries or word in self._meant or word in self._spellings
        found = None if known or self._speller is None else self._speller.correct(word)
        if found is None:
            return [_Word(word, word, 1.0)]
        words, edits = found
        return [_Word(word, other, 1.0 - edits / len(word)) for other in words.split(" ")]

    def _longest_known(self, words: Sequence[_Word]) -> int:
        read = [word.read for word in words]
        return next((n for n in range(len(read), 1, -1) if self._is_known(read[:n])), 1)

    def _is_known(self, words: Sequence[str]) -> bool:
        phrase = " ".join(words)
        key = key_of(phrase)
        return (
            phrase in self._entries
            or phrase in self._meant
            or key in self._spellings
            or (key in self._entries and is_telling(key))
        )

    def _segment(self, words: Sequence[_Word]) -> list[Step]:
        typed = " ".join(dict.fromkeys(word.typed for word in words))
        phrase = " ".join(word.read for word in words)
        weight = min(word.weight for word in words)
        corrected = "correction, " if typed != phrase and weight < 1.0 else ""
        steps: list[Step] = []
        for meant, share, why in self._meanings(phrase):
            steps += self._weigh(typed, meant, share * weight, corrected + why)
        if not steps:
            why = "stop word" if phrase in STOP_WORDS else ABSENT
            steps.append(Step(typed, None, None, why))
        return steps

    def _meanings(self, phrase: str) -> Iterator[tuple[str, float, str]]:
        instead = self._synonyms.replacements.get(phrase)
        if instead is None or phrase in instead:
            yield phrase, 1.0, "phrase" if " " in phrase else "word"
        weight = SYNONYM_WEIGHT if instead and phrase in instead else 1.0
        for other in instead or ():
            if other != phrase:
                yield other, weight, "replacement"
        for other in self._synonyms.equivalents.get(phrase, ()):
            yield other, SYNONYM_WEIGHT, "synonym"
        for other in self._aliases(phrase):
            yield other, ALIAS_WEIGHT, "alias"

    def _aliases(self, phrase: str) -> list[str]:
        key = key_of(phrase)
        others = self._spellings.get(key)
        if others is None:
            others = [key] if " " in phrase and is_telling(key) else []
        return [other for other in others if other != phrase]

    def _weigh(self, part: str, meant: str, weight: float, why: str) -> list[Step]:
        steps = self._entry(part, meant, weight, why)
        words = meant.split(" ")
        for word in words if len(words) > 1 else ():
            steps += self._entry(part, word, weight * BACK_OFF_WEIGHT, "back-off")
        return steps

    def _entry(self, part: str, name: str, weight: float, why: str) -> list[Step]:
        known = name in self._entries and name not in STOP_WORDS
        return [Step(part, name, weight, why)] if known else []
