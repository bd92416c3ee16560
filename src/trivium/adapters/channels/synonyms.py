"""Synonyms files in the format of Solr."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trivium.adapters.channels.words import parts
from trivium.foundation.errors import Fault, InputError

ARROW = "=>"


@dataclass
class Synonyms:
    """What a phrase, its words folded and joined by spaces, also means or is replaced by.

    Attributes:
        equivalents: Phrase to the further phrases that mean the same.
        replacements: Phrase to the phrases that stand in its place; itself may be among them.
    """

    equivalents: dict[str, list[str]] = field(default_factory=dict)
    replacements: dict[str, list[str]] = field(default_factory=dict)

    def add_equivalents(self, phrases: list[str]) -> None:
        """Make phrases mean the same."""
        for phrase in phrases:
            others = (other for other in phrases if other != phrase)
            _extend(self.equivalents, phrase, list(others))

    def add_replacement(self, phrase: str, by: list[str]) -> None:
        """Put other phrases in the place of one."""
        _extend(self.replacements, phrase, by)


def read_synonyms(path: Path) -> Synonyms:
    r"""Read a file of `a, b, c` (equivalent) and `a, b => c, d` (replaced) lines.

    Lines that begin with `#` are comments; a comma that belongs to a phrase is written `\,`.

    Raises:
        InputError: If the file is absent, not UTF-8, or has malformed lines; all are named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.of(
            str(path),
            got=f"a file that cannot be read ({error})",
            expected="a synonyms file in UTF-8",
            fix="correct data.synonyms or the file's encoding",
        ) from None
    synonyms, faults = Synonyms(), []
    for number, line in enumerate(lines, start=1):
        rule = line.strip()
        if rule and not rule.startswith("#") and not _add_rule(synonyms, rule):
            faults.append(_malformed(f"{path}: line {number}", rule))
    if faults:
        raise InputError(*faults)
    return synonyms


def _add_rule(synonyms: Synonyms, rule: str) -> bool:
    sides = [_phrases(side) for side in rule.split(ARROW)]
    if not all(side and all(side) for side in sides):
        return False
    if len(sides) == 1:
        synonyms.add_equivalents(sides[0])
        return len(sides[0]) > 1
    for phrase in sides[0]:
        synonyms.add_replacement(phrase, sides[1])
    return len(sides) == 2


def _phrases(side: str) -> list[str]:
    pieces = side.replace("\\,", "\0").split(",")
    return [" ".join(parts(piece.replace("\0", ","))) for piece in pieces]


def _extend(table: dict[str, list[str]], phrase: str, more: list[str]) -> None:
    known = table.setdefault(phrase, [])
    known += [other for other in dict.fromkeys(more) if other not in known]


def _malformed(where: str, rule: str) -> Fault:
    return Fault(
        where,
        got=repr(rule),
        expected="'a, b, c' or 'a => b, c', every phrase with at least a letter or a digit",
        fix="correct the line, or begin it with #",
    )
