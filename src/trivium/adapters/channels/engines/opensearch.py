"""OpenSearch and Elasticsearch: several searches in one `_msearch`."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from trivium.adapters.channels.engines.asking import Answer, Question, Trouble
from trivium.adapters.channels.engines.channel import EngineChannel
from trivium.adapters.channels.engines.templates import (
    JsonTemplate,
    load_json_template,
    require_holes,
)
from trivium.adapters.channels.engines.web import Web, status_failure
from trivium.adapters.credentials import Secrets, required_credential
from trivium.foundation.config import DataConfig
from trivium.foundation.engine_config import OpenSearchConfig
from trivium.foundation.mine_config import MineConfig

# The same copies of the shards answer every time, so that equal scores come in one order.
_HEADER = {"preference": "trivium"}


class OpenSearchEngine:
    """An index; see `asking.Engine`."""

    def __init__(self, settings: OpenSearchConfig) -> None:
        self.where = f"channel '{settings.name}' at {settings.url}, index '{settings.index}'"
        self.batch = settings.batch
        self._id_field = settings.id_field
        self._template = _template(settings, self.where)
        self._url = f"{settings.url.rstrip('/')}/{quote(settings.index, safe=',*')}/_msearch"
        headers, secrets = _credentials(settings)
        self._secrets = Secrets(secrets)
        self._web = Web(self.where, headers, self._secrets)

    async def ask(self, questions: Sequence[Question], k: int) -> Sequence[Answer | Trouble]:
        """Ask once; see `Engine.ask`."""
        lines = [line for q in questions for line in (_HEADER, self._search(q.text, k))]
        body = "".join(f"{json.dumps(line)}\n" for line in lines)
        answer = await self._web.ask("POST", self._url, body, "application/x-ndjson")
        responses = answer.get("responses") if isinstance(answer, dict) else None
        if not isinstance(responses, list) or len(responses) != len(questions):
            raise Trouble(f"no list of {len(questions)} responses", self._said(answer))
        return [self._outcome(response) for response in responses]

    def request(self, text: str, k: int) -> str:
        """What is sent for a query."""
        return json.dumps(self._search(text, k), ensure_ascii=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._web.close()

    def _search(self, text: str, k: int) -> dict[str, Any]:
        source = False if self._id_field == "_id" else [self._id_field]
        usual = {"_source": source, "track_total_hits": False}
        return usual | dict(self._template.fill(text, k))

    def _outcome(self, response: Any) -> Answer | Trouble:
        """One search's hits; raises what no repetition mends."""
        if not isinstance(response, dict):
            return Trouble("a response that is not an object", self._said(response))
        if "error" in response:
            status = response.get("status")
            said = self._said(response["error"])
            failure = status_failure(self.where, status if type(status) is int else 500, said, 0.0)
            if isinstance(failure, Trouble):
                return failure
            raise failure
        if response.get("timed_out"):
            return Trouble("a search that timed out")
        shards = response.get("_shards")
        if isinstance(shards, dict) and shards.get("failed"):
            return Trouble("a search that failed on some shards", self._said(shards))
        hits = response.get("hits")
        found = hits.get("hits") if isinstance(hits, dict) else None
        if not isinstance(found, list) or not all(isinstance(hit, dict) for hit in found):
            return Trouble("a response without hits", self._said(response))
        ids = [_field(hit, self._id_field) for hit in found]
        return Answer(ids, [hit.get("_score") for hit in found])

    def _said(self, answer: Any) -> str:
        """What of an answer says most: the type and reason of an error, that at its root if any."""
        if isinstance(answer, dict) and answer.get("root_cause"):
            answer = answer["root_cause"][0]
        if isinstance(answer, dict) and "reason" in answer:
            answer = f"{answer.get('type')}: {answer['reason']}"
        return self._secrets.hide(json.dumps(answer, ensure_ascii=False))


class OpenSearchChannel(EngineChannel):
    """An index of OpenSearch or Elasticsearch."""

    def __init__(
        self,
        *,
        items: pl.DataFrame,
        settings: OpenSearchConfig,
        config: MineConfig,
        data: DataConfig,
        cache: Path | None,
    ) -> None:
        super().__init__(items, settings, config, OpenSearchEngine(settings))


def _template(settings: OpenSearchConfig, where: str) -> JsonTemplate:
    if settings.template is None:
        match = {"query": "{query}", "fields": settings.fields}
        return JsonTemplate({"query": {"multi_match": match}, "size": "{k}"})
    template = load_json_template(settings.template, where)
    require_holes(where, template.holes, str(settings.template))
    return template


def _credentials(settings: OpenSearchConfig) -> tuple[dict[str, str], list[str]]:
    """The header that lets in, and what of it is secret."""
    if settings.api_key_variable:
        key = required_credential(settings.api_key_variable, "an API key")
        return {"Authorization": f"ApiKey {key}"}, [key]
    if settings.user_variable:
        user = required_credential(settings.user_variable, "the name of a user")
        password = required_credential(settings.password_variable, "the user's password")
        both = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"Authorization": f"Basic {both}"}, [user, password, both]
    return {}, []


def _field(hit: dict[str, Any], name: str) -> Any:
    """A hit's id: its own, or a field of its source, nested or named with dots."""
    if name == "_id":
        return hit.get("_id")
    value: Any = hit.get("_source")
    if isinstance(value, dict) and name in value:
        return value[name]
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
