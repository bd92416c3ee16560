"""Requests with holes: a JSON body or an address in which {query} and {k} are put."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from trivium.foundation.errors import ConfigError, TriviumError

_NAMES = ("query", "k")
_HOLE = re.compile(r"\{\{(\w+)\}\}|\{(\w+)\}")


@dataclass(frozen=True)
class JsonTemplate:
    """A JSON value whose texts may hold {query} and {k}; {{query}} is a literal {query}.

    Attributes:
        value: The value.

    Example:
        >>> JsonTemplate({"q": "{query}", "size": "{k}"}).fill('5" pipe', 10)
        {'q': '5" pipe', 'size': 10}
    """

    value: Any

    def fill(self, query: str, k: int) -> Any:
        """Put in a query, whatever it holds, and a number, which stays one where it is alone."""
        return _filled(self.value, {"query": query, "k": str(k)}, k)

    @property
    def holes(self) -> set[str]:
        """Names of the placeholders."""
        return _holes(self.value)


def load_json_template(path: Path, where: str) -> JsonTemplate:
    """Read a template.

    Args:
        path: The file.
        where: The channel, for errors.

    Raises:
        ConfigError: If the file cannot be read, is no JSON object, or has an unknown placeholder.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _faulty(where, path, (error.strerror or str(error)).lower()) from None
    except ValueError as error:
        raise _faulty(where, path, f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise _faulty(where, path, "no JSON object")
    template = JsonTemplate(value)
    if unknown := sorted(template.holes - {*_NAMES}):
        raise _faulty(where, path, f"unknown {', '.join('{' + name + '}' for name in unknown)}")
    return template


def fill_url(url: str, query: str, k: int) -> str:
    """Put a query and a number in an address.

    Example:
        >>> fill_url("http://host/search?q={query}&n={k}", "a&b c", 5)
        'http://host/search?q=a%26b%20c&n=5'
    """
    return str(_filled(url, {"query": quote(query, safe=""), "k": str(k)}, None))


def url_holes(url: str) -> set[str]:
    """Names of the placeholders in an address."""
    return _holes(url)


def require_holes(where: str, holes: set[str], places: str) -> None:
    """Refuse a request that does not say what is searched, or how much of it is wanted.

    Args:
        where: The channel, for errors.
        holes: Its placeholders.
        places: Where they were looked for.

    Raises:
        ConfigError: If {query} or {k} is missing, or another is there.
    """
    missing = [f"no {{{name}}}" for name in _NAMES if name not in holes]
    unknown = [f"unknown {{{name}}}" for name in sorted(holes - {*_NAMES})]
    if missing or unknown:
        raise _faulty(where, places, ", ".join(missing + unknown))


def _filled(value: Any, texts: dict[str, str], k: int | None) -> Any:
    match value:
        case "{k}" if k is not None:
            return k
        case str():
            return _HOLE.sub(lambda m: f"{{{m[1]}}}" if m[1] else texts[m[2]], value)
        case list():
            return [_filled(part, texts, k) for part in value]
        case dict():
            return {key: _filled(part, texts, k) for key, part in value.items()}
    return value


def _holes(value: Any) -> set[str]:
    match value:
        case str():
            return {match[2] for match in _HOLE.finditer(value) if match[2]}
        case list():
            return set[str]().union(*map(_holes, value))
        case dict():
            return set[str]().union(*map(_holes, value.values()))
    return set()


def _faulty(where: str, place: object, got: str) -> TriviumError:
    return ConfigError.of(
        f"{where}: {place}",
        got=got,
        expected='JSON with "{query}" and "{k}", each within quotes, or an address with both',
        fix="correct it; other words in single braces are written {{so}}",
    )
