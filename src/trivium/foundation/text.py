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
    """Fold case, accents, punctuation and spacing, so that one question asked twice is one text.

    A point before a digit stays, so that sizes such as 1.5 and 15 differ; an apostrophe within a
    word goes, so that "men's" and "mens" meet.

    Example:
        >>> queries = pl.DataFrame({"query": ["Red  MUG, 1.5 l.", "red mug 1.5 l", "Men's café"]})
        >>> queries.select(normalise("query"))["query"].to_list()
        ['red mug 1.5 l', 'red mug 1.5 l', 'mens cafe']
    """
    no_full_stops = _plain(column).str.replace_all(r"\.+([^\p{N}]|$)", " ${1}")
    return no_full_stops.str.replace_all(r"[^\p{L}\p{M}\p{N}.]+", " ").str.strip_chars()


def _plain(column: str) -> pl.Expr:
    """Small letters without accents, as `channels.words` has them, and without apostrophes."""
    signs = pl.col(column).str.replace_all("[™®©]", "").str.normalize("NFKD").str.to_lowercase()
    return signs.str.replace_all("[\u0300-\u036f]", "").str.replace_all(
        r"(\p{L})['`\x{2018}\x{2019}]", "${1}"
    )


def word_set(column: str) -> pl.Expr:
    """The words of a text in one order, plurals folded: texts that share it may ask the same.

    It is what keeps queries held out from teaching, so it takes for the same what `question` tells
    apart.

    Example:
        >>> queries = pl.DataFrame({"query": ["Mugs, red", "red mug"]})
        >>> queries.select(word_set("query"))["query"].to_list()
        ['mug red', 'mug red']
    """
    return _sorted(_singular(normalise(column))).alias(column)


_FUNCTION_WORDS = "without|with|no|not|non|for|to|from|of|by|on|under|over"
_AFTER_THEIRS = "free|less"


def question(column: str) -> pl.Expr:
    """What a text asks: texts that share it differ in case, accents, plurals and order alone.

    Order counts where it carries meaning: whatever stands from the first number to the last keeps
    its place and its signs (2x4, 2 x 4, 1/2, 6", s10+), and a preposition or negation stays with
    the word that it rules ("usb to hdmi", "without sugar", "sugar free"). A text without letters
    and digits asks what it says. Texts that share it share their `word_set`.

    Example:
        >>> queries = pl.DataFrame({"query": ["Mugs, red", "red mug", "2 x 4 wood", "wood 4 x 2"]})
        >>> queries.select(question("query"))["query"].to_list()
        ['mug red', 'mug red', '2 4 wood x | 2 x 4', '2 4 wood x | 4 x 2']
    """
    words = _singular(normalise(column))
    bound = words.str.replace_all(rf" ({_FUNCTION_WORDS}) +(\S+) ", " ${1}_${2} ").str.replace_all(
        rf" (\S+) +({_AFTER_THEIRS}) ", " ${1}_${2} "
    )
    signed = _plain(column).str.replace_all(r"[^\p{L}\p{M}\p{N}.,/'\"+%#-]+", " ")
    numbers = signed.str.extract(r"(\S*\p{N}(?:.*\p{N})?\S*)").str.strip_chars(".,-")
    asked = pl.concat_str([_sorted(bound), numbers], separator=" | ", ignore_nulls=True)
    return pl.when(asked != "").then(asked).otherwise(pl.col(column)).alias(column)


def _singular(normalised: pl.Expr) -> pl.Expr:
    """Fold English plurals as `channels.words.fold` does; words end up with spaces around them."""
    # A space before and after every word, so that neighbours can both be matched.
    spaced = pl.concat_str(pl.lit(" "), normalised.str.replace_all(" ", "  "), pl.lit(" "))
    return (
        spaced.str.replace_all(r" (\p{L}{2,})ies ", " ${1}y ")
        .str.replace_all(r" (\p{L}+[xz]|\p{L}*(?:ss|sh|ch))es ", " ${1} ")
        .str.replace_all(r" (\p{L}{2,}[^sui\P{L}]|\p{L}[^aeious\P{L}])s ", " ${1} ")
    )


def _sorted(spaced: pl.Expr) -> pl.Expr:
    words = spaced.str.strip_chars().str.replace_all("  ", " ").str.split(" ")
    return words.list.sort().list.join(" ")
