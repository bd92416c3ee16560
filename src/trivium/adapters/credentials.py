"""Credentials: read from environment variables, and hidden in whatever servers say."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from urllib.parse import quote

from trivium.foundation.errors import DependencyError


def credential(variable: str) -> str:
    """The value of an environment variable; empty where it is not set.

    Raises:
        DependencyError: If it holds what cannot be sent as a header.
    """
    value = os.environ.get(variable, "").strip()
    if value.isascii() and value.isprintable():
        return value
    raise DependencyError.of(
        f"environment variable {variable}",
        got="characters that no key holds",
        expected="the key of the endpoint",
        fix="set it again",
    )


def required_credential(variable: str, what: str) -> str:
    """The value of an environment variable that must be set.

    Args:
        variable: Its name.
        what: What it should hold, for the error.

    Raises:
        DependencyError: If it is not set, or as `credential`.
    """
    if value := credential(variable):
        return value
    raise DependencyError.of(
        f"environment variable {variable}", got="nothing", expected=what, fix="set it"
    )


class Secrets:
    """Texts that must not be shown, nor as they are sent or written in an address.

    Example:
        >>> Secrets(["s3cret/"]).hide("no: s3cret/, s3cret%2F")
        'no: ***, ***'
    """

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values if value for form in _forms(value)}
        self._forms = sorted(forms, key=lambda form: (-len(form), form))

    def hide(self, text: str, length: int = 300) -> str:
        """A text on one line without the secrets, cut to a length."""
        for form in self._forms:
            text = text.replace(form, "***")
        return " ".join(text.split())[:length]


def _forms(value: str) -> set[str]:
    return {
        value,
        quote(value, safe=""),
        quote(value),
        repr(value)[1:-1],
        value.replace("\\", "\\\\").replace('"', '\\"'),
        base64.b64encode(value.encode()).decode(),
    }
