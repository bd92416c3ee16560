"""Templates that join a row's fields into the text that a model reads."""

from __future__ import annotations

import re
from collections.abc import Sequence

import polars as pl

from trivium.foundation.errors import ConfigError

_FIELD = re.compile(r"\{(\w+)\}")


def render(template: Sequence[str], columns: Sequence[str], setting: str) -> pl.Expr:
    """An expression that fills a template from a row's fields.

    A part that names a field which is null or blank in a row is left out of that row; the others
    are joined by spaces.

    Args:
        template: Parts such as `{title}` or `brand: {brand}`.
        columns: Columns that the table has.
        setting: The setting that holds the template, for the error.

    Raises:
        ConfigError: If a part names a field that the table does not have.

    Example:
        >>> frame = pl.DataFrame({"title": ["Red mug", "Mug"], "brand": ["Acme", None]})
        >>> text = render(["{title}", "brand: {brand}"], frame.columns, "item_text")
        >>> frame.select(text)["text"].to_list()
        ['Red mug brand: Acme', 'Mug']
    """
    parts = [_part(part, columns, setting) for part in template]
    joined = pl.concat_str(parts, separator=" ", ignore_nulls=True)
    return joined.str.replace_all(r"\s+", " ").str.strip_chars().alias("text")


def _part(part: str, columns: Sequence[str], setting: str) -> pl.Expr:
    names = _FIELD.findall(part)
    unknown = [name for name in names if name not in columns]
    if unknown or not names:
        raise ConfigError.of(
            setting,
            got=repr(part),
            expected=f"parts that name fields among {', '.join(columns)}, such as '{{title}}'",
            fix="correct the template, or add the column to the table",
        )
    pieces = [
        pl.lit(piece) if i % 2 == 0 else _blank_to_null(piece)
        for i, piece in enumerate(_FIELD.split(part))
    ]
    return pl.concat_str(pieces, ignore_nulls=False)


def _blank_to_null(name: str) -> pl.Expr:
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def normalise(column: str) -> pl.Expr:
    """Fold case, punctuation and spacing, so that one question asked twice is one text."""
    folded = pl.col(column).str.to_lowercase().str.replace_all(r"[^\p{L}\p{N}.]+", " ")
    return folded.str.strip_chars()
