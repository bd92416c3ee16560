"""Templates that join a row's fields into the text that a model reads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import polars as pl

from trivium.foundation.errors import ConfigError

_FIELD = re.compile(r"\{(\w+)\}")


def render(template: Sequence[str], schema: pl.Schema, setting: str) -> pl.Expr:
    """An expression that fills a template from a row's fields.

    A part that names a field which is null or blank in a row is left out of that row; the others
    are joined by spaces.

    Args:
        template: Parts such as `{title}` or `brand: {brand}`.
        schema: The table's columns and their types.
        setting: The setting that holds the template, for the error.

    Raises:
        ConfigError: If a part names a field that the table does not have, or that is not a text
            or a number.

    Example:
        >>> frame = pl.DataFrame({"title": ["Red mug", "Mug"], "brand": ["Acme", None]})
        >>> text = render(["{title}", "brand: {brand}"], frame.schema, "item_text")
        >>> frame.select(text)["text"].to_list()
        ['Red mug brand: Acme', 'Mug']
    """
    fields = [name for name, dtype in schema.items() if not dtype.is_nested()]
    parts = [_part(part, fields, setting) for part in template]
    joined = pl.concat_str(parts, separator=" ", ignore_nulls=True)
    return joined.str.replace_all(r"\s+", " ").str.strip_chars().alias("text")


def _part(part: str, fields: Sequence[str], setting: str) -> pl.Expr:
    names = _FIELD.findall(part)
    unknown = [name for name in names if name not in fields]
    if unknown or not names:
        raise ConfigError.of(
            setting,
            got=repr(part),
            expected=f"parts such as '{{{_nearest(part, fields)}}}', of {', '.join(fields)}",
            fix="correct the template, or add the column to the table, as text or numbers",
        )
    pieces = [
        pl.lit(piece) if i % 2 == 0 else _blank_to_null(piece)
        for i, piece in enumerate(_FIELD.split(part))
    ]
    return pl.concat_str(pieces, ignore_nulls=False)


def _nearest(part: str, fields: Sequence[str]) -> str:
    return difflib.get_close_matches(part.strip("{}"), fields, n=1, cutoff=0.0)[0]


def _blank_to_null(name: str) -> pl.Expr:
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def normalise(column: str) -> pl.Expr:
    """Fold case, punctuation and spacing, so that one question asked twice is one text.

    A point before a digit stays, so that sizes such as 1.5 and 15 differ.

    Example:
        >>> queries = pl.DataFrame({"query": ["Red  MUG, 1.5 l.", "red mug 1.5 l"]})
        >>> queries.select(normalise("query"))["query"].to_list()
        ['red mug 1.5 l', 'red mug 1.5 l']
    """
    lower = pl.col(column).str.to_lowercase()
    no_full_stops = lower.str.replace_all(r"\.+([^\p{N}]|$)", " ${1}")
    return no_full_stops.str.replace_all(r"[^\p{L}\p{N}.]+", " ").str.strip_chars()


def word_set(column: str) -> pl.Expr:
    """The words of a text in one order: texts that share it ask the same question.

    Example:
        >>> queries = pl.DataFrame({"query": ["Mug, red", "red mug"]})
        >>> queries.select(word_set("query"))["query"].to_list()
        ['mug red', 'mug red']
    """
    return normalise(column).str.split(" ").list.sort().list.join(" ")
