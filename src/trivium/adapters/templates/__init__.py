"""The templates of pages, and the one way in which each kind of value is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

NONE = "\u2013"
_MINUS = str.maketrans("-", "\u2212")


def render(name: str, view: Mapping[str, Any]) -> str:
    """Fill a template of this folder: in HTML text is escaped; an absent value is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("trivium.adapters"),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    writers: tuple[Callable[..., str], ...] = (
        *(number, difference, percent, probability, count, words, duration, setting),
        *(limits, with_limits, gain_in_words),
    )
    environment.filters |= {writer.__name__: writer for writer in writers}
    return environment.get_template(name).render(view)


def number(value: float | None) -> str:
    """A measure's value, to three decimals."""
    return NONE if value is None else f"{value:.3f}".translate(_MINUS)


def difference(value: float) -> str:
    """A difference of two values, with its sign."""
    return f"{value:+.3f}".translate(_MINUS)


def percent(share: float, digits: int = 1, *, signed: bool = False) -> str:
    """A share from 0 to 1 as a percentage."""
    return f"{share:{'+' if signed else ''}.{digits}%}".translate(_MINUS)


def probability(p_value: float) -> str:
    """A p-value with its relation, as in `p = 0.012`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def count(value: int) -> str:
    """A whole number with its thousands apart."""
    return f"{value:,}"


def words(name: str) -> str:
    """A name such as hard_negative as people say it."""
    return name.replace("_", " ")


def duration(seconds: float) -> str:
    """Seconds in the units of their size."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def setting(value: Any) -> str:
    """A configuration's value: text as it is, lists apart by commas, the rest as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable) and not isinstance(value, Mapping):
        return ", ".join(map(setting, value)) or "none"
    return json.dumps(value, default=str, sort_keys=True)


def limits(row: Mapping[str, Any], *, signed: bool = False) -> str:
    """The interval [ci_low, ci_high] of a row, empty if it has none."""
    if row["ci_low"] is None or row["ci_high"] is None:
        return ""
    write = difference if signed else number
    return f"[{write(row['ci_low'])}, {write(row['ci_high'])}]"


def with_limits(row: Mapping[str, Any] | None) -> str:
    """A row's value and its interval."""
    return NONE if row is None else f"{number(row['value'])} {limits(row)}".strip()


def gain_in_words(gain: Mapping[str, Any] | None) -> str:
    """A row of gains: relative and absolute difference, interval and p-value, as far as known."""
    if gain is None:
        return NONE
    text = difference(gain["difference"])
    if gain["relative"] is not None:
        text = f"{percent(gain['relative'], signed=True)} ({text})"
    text = f"{text} {limits(gain, signed=True)}".strip()
    return text if gain["p_value"] is None else f"{text}, {probability(gain['p_value'])}"
