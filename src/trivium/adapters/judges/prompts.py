"""Templates that turn a pair of query and item into what a language model reads."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Formatter

import polars as pl

from trivium.foundation.errors import ConfigError, TriviumError

PLACEHOLDERS = frozenset({"query", "item"})


@dataclass(frozen=True)
class Prompt:
    """A template with the placeholders {query} and {item}; other braces in it are doubled.

    Attributes:
        text: The template, checked by `load_prompt`.
    """

    text: str

    def fill(self, pairs: pl.DataFrame) -> list[str]:
        """Put the texts of each pair into the template, as they are, whatever they hold.

        Args:
            pairs: Columns query_text and item_text.

        Example:
            >>> pair = pl.DataFrame({"query_text": ["{item}"], "item_text": ["red shoe"]})
            >>> Prompt("{query} -> {item}").fill(pair)
            ['{item} -> red shoe']
        """
        return [
            self.text.format(query=query, item=item)
            for query, item in zip(pairs["query_text"], pairs["item_text"], strict=True)
        ]

    @property
    def hash(self) -> str:
        """SHA-256 of the template, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def load_prompt(path: Path | None, packaged: str) -> Prompt:
    """Read a template; line breaks at its end are dropped, as editors add them.

    Args:
        path: A file of the user's, or None for a packaged one.
        packaged: Name of the packaged template, such as `chat`.

    Raises:
        ConfigError: If the file cannot be read, lacks {query} or {item}, or holds another
            placeholder or a single brace.
    """
    source = path or files(__package__) / "prompt_files" / f"{packaged}.txt"
    try:
        text = source.read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _faulty(source, f"a file that cannot be read: {error}") from None
    try:
        found = [_placeholder(*part[1:]) for part in Formatter().parse(text) if part[1] is not None]
    except ValueError as error:
        raise _faulty(source, f"a brace that stands alone: {error}") from None
    if unknown := sorted(set(found) - PLACEHOLDERS):
        raise _faulty(source, f"unknown {', '.join('{' + name + '}' for name in unknown)}")
    if missing := sorted(PLACEHOLDERS - set(found)):
        raise _faulty(source, f"no {' and no '.join('{' + name + '}' for name in missing)}")
    return Prompt(text)


def _placeholder(name: str | None, form: str | None, conversion: str | None) -> str:
    """A placeholder as it was written, so that {query!r} and {query:>9} are unknown ones."""
    return f"{name}{'!' + conversion if conversion else ''}{':' + form if form else ''}"


def _faulty(source: object, got: str) -> TriviumError:
    return ConfigError.of(
        f"prompt {source}",
        got=got,
        expected="UTF-8 text with {query} and {item}, all other braces doubled",
        fix="correct the template",
    )
