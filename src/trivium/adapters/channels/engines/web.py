"""Requests for JSON over HTTP: what can be asked again is told from what cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trivium.adapters.channels.engines.asking import Trouble
from trivium.adapters.credentials import Secrets
from trivium.adapters.pacing import RETRY_AFTER_MOST_S, retry_after_s
from trivium.foundation.errors import DependencyError, TriviumError

if TYPE_CHECKING:
    from httpx import AsyncClient, Response

INSTALL = "pip install 'trivium[engines]'"
_MEND = {
    401: "name the environment variables of the credentials in the settings, and set them",
    403: "use credentials that may search",
    404: "correct the address, or the name of what is searched there",
    413: "lower batch, or make the request smaller",
    429: "run again when the quota allows it: what is done stays done",
}


class Web:
    """A client for one server. Redirects are not followed, so headers reach no other server.

    Args:
        where: The channel and the address, for errors.
        headers: Sent with every request, credentials among them.
        secrets: What must not be shown of them.
    """

    def __init__(self, where: str, headers: Mapping[str, str], secrets: Secrets) -> None:
        self._where = where
        self._headers = dict(headers)
        self._secrets = secrets
        self._client: AsyncClient | None = None
        try:
            import httpx  # noqa: F401
        except ImportError:
            raise not_installed(where, "httpx") from None

    async def ask(self, method: str, url: str, body: str | None, content_type: str) -> Any:
        """What one request brings.

        Raises:
            Trouble: If asking again may mend it.
            DependencyError: If it would not.
        """
        import httpx

        # The whole request has a limit already: `Asker` sets it.
        self._client = self._client or httpx.AsyncClient(timeout=None, headers=self._headers)
        headers = {"Content-Type": content_type} if body is not None else {}
        content = None if body is None else body.encode()
        try:
            response = await self._client.request(method, url, content=content, headers=headers)
        except httpx.InvalidURL as error:
            raise refused(self._where, got=str(error), fix="correct the address") from None
        except httpx.RequestError as error:
            said = str(error) or type(error).__name__
            raise Trouble("no connection", self._secrets.hide(said)) from None
        if not response.is_success:
            raise self._failure(response)
        try:
            return json.loads(response.content)
        except ValueError:
            said = self._secrets.hide(response.text, 80)
            raise Trouble("an answer that is not JSON", said) from None

    async def close(self) -> None:
        """Close the connections; the next request makes new ones."""
        client, self._client = self._client, None
        if client:
            await client.aclose()

    def _failure(self, response: Response) -> Exception:
        if response.is_redirect:
            place = urlsplit(response.headers.get("location", ""))
            return refused(
                self._where,
                got=f"status {response.status_code}, which leads to {place.hostname or 'its own'}",
                fix="set the address that it leads to, if it is to be trusted with credentials",
            )
        wait = retry_after_s(response.headers.get("retry-after", ""))
        said = self._secrets.hide(response.text)
        return status_failure(self._where, response.status_code, said, wait)


def status_failure(where: str, status: int, said: str, wait_s: float) -> Exception:
    """What a status that is not a success means: a `Trouble`, or an error to raise.

    Args:
        where: The channel and the address.
        status: The HTTP status.
        said: What the server said, without secrets.
        wait_s: Seconds that it wants to be left alone.
    """
    passing = status in {408, 425, 429} or status >= 500
    if passing and wait_s <= RETRY_AFTER_MOST_S:
        return Trouble(f"status {status}", said, wait_s)
    later = f", to be tried again in {wait_s:.0f} s" if wait_s else ""
    return refused(
        where,
        got=f"status {status}{later}: {said}",
        fix=_MEND.get(status, "correct the request: the channel's settings, or its template"),
    )


def refused(where: str, *, got: str, fix: str) -> TriviumError:
    """The error of a request that would fail again however often it is made."""
    return DependencyError.of(where, got=got, expected="an answer to a search", fix=fix)


def not_installed(where: str, package: str) -> TriviumError:
    """The error of a channel whose package is not installed."""
    return DependencyError.of(
        where, got=f"no installed package '{package}'", expected="that package", fix=INSTALL
    )
