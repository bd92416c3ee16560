"""Any endpoint that answers a search in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from trivium.adapters.channels.engines.asking import Answer, Question, Trouble
from trivium.adapters.channels.engines.channel import EngineChannel
from trivium.adapters.channels.engines.templates import (
    JsonTemplate,
    fill_url,
    load_json_template,
    require_holes,
    url_holes,
)
from trivium.adapters.channels.engines.web import Web, not_installed
from trivium.adapters.credentials import Secrets, required_credential
from trivium.foundation.config import DataConfig
from trivium.foundation.engine_config import HttpConfig
from trivium.foundation.errors import ConfigError
from trivium.foundation.mine_config import MineConfig


class HttpEngine:
    """An endpoint that takes one query a request; see `asking.Engine`."""

    batch = 1

    def __init__(self, settings: HttpConfig) -> None:
        self.where = f"channel '{settings.name}' at {settings.url.partition('?')[0]}"
        self._url = settings.url
        self._method = settings.method
        self._body = _body(settings, self.where)
        self._hits = _path(settings.hits, "hits", self.where)
        self._item_id = _path(settings.item_id, "item_id", self.where)
        self._score = settings.score and _path(settings.score, "score", self.where)
        headers = {
            name: required_credential(variable, f"the header {name}")
            for name, variable in settings.header_variables.items()
        }
        # A header is a scheme and a secret, or the secret alone.
        self._secrets = Secrets([*headers.values(), *(v.split()[-1] for v in headers.values())])
        self._web = Web(self.where, headers, self._secrets)

    async def ask(self, questions: Sequence[Question], k: int) -> Sequence[Answer | Trouble]:
        """Ask once; see `Engine.ask`."""
        text = questions[0].text
        body = None if self._body is None else json.dumps(self._body.fill(text, k))
        url = fill_url(self._url, text, k)
        answer = await self._web.ask(self._method, url, body, "application/json")
        found = self._read(self._hits, answer)
        if not isinstance(found, list):
            said = self._secrets.hide(json.dumps(answer, ensure_ascii=False), 120)
            raise Trouble("no list of hits where the setting `hits` points", said)
        ids = [self._read(self._item_id, hit) for hit in found]
        if not self._score:
            return [Answer(ids, None)]
        return [Answer(ids, [self._read(self._score, hit) for hit in found])]

    def request(self, text: str, k: int) -> str:
        """What is sent for a query."""
        line = f"{self._method} {fill_url(self._url, text, k)}"
        if self._body is None:
            return line
        return f"{line} {json.dumps(self._body.fill(text, k), ensure_ascii=False)}"

    async def close(self) -> None:
        """Close the connections."""
        await self._web.close()

    def _read(self, path: Any, value: Any) -> Any:
        """What an expression finds, null where it does not fit."""
        from jmespath.exceptions import JMESPathError

        try:
            return path.search(value)
        except JMESPathError:
            return None


class HttpChannel(EngineChannel):
    """An endpoint of any kind."""

    def __init__(
        self,
        *,
        items: pl.DataFrame,
        settings: HttpConfig,
        config: MineConfig,
        data: DataConfig,
        cache: Path | None,
    ) -> None:
        super().__init__(items, settings, config, HttpEngine(settings))


def _body(settings: HttpConfig, where: str) -> JsonTemplate | None:
    template = load_json_template(settings.body, where) if settings.body else None
    holes = url_holes(settings.url) | (template.holes if template else set())
    require_holes(where, holes, f"url, {settings.body}" if template else "url")
    return template


def _path(expression: str, setting: str, where: str) -> Any:
    try:
        import jmespath
        from jmespath.exceptions import JMESPathError
    except ImportError:
        raise not_installed(where, "jmespath") from None
    try:
        return jmespath.compile(expression)
    except JMESPathError as error:
        raise ConfigError.of(
            f"{where}: {setting} = {expression!r}",
            got=" ".join(str(error).split())[:200],
            expected="a JMESPath expression",
            fix="correct it; jmespath.org has examples",
        ) from None
