"""Asking every engine and every chat judge once, before thousands of questions depend on it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import polars as pl

from trivium.adapters.channels import build_channel
from trivium.foundation.config import Config
from trivium.foundation.engine_config import EngineSection, QdrantConfig
from trivium.foundation.errors import ConfigError, collect
from trivium.foundation.judge_config import ChatConfig
from trivium.foundation.tables import ITEMS, empty

if TYPE_CHECKING:
    from trivium.adapters.channels.engines.channel import EngineChannel
    from trivium.stages.inputs import Inputs

_ATTEMPTS = 2
_ANY_QUERY = "red shoes"


def ask_engines(config: Config, stages: Sequence[str], made: Inputs | None = None) -> list[str]:
    """Ask each channel that is an engine one query.

    Args:
        config: The configuration.
        stages: The stages that will run; the queries of `mine` and `judges` are searched.
        made: The tables; without them a word of ours is asked, and no id is checked.

    Returns:
        A line for each engine.

    Raises:
        TriviumError: With every fault found.
    """
    if not {"mine", "judges"} & {*stages}:
        return []
    engines = (c for c in config.mine.channels if isinstance(c, EngineSection))
    return collect([partial(_ask, config, engine, made) for engine in engines])


def ask_chat_judges(config: Config, stages: Sequence[str]) -> list[str]:
    """Ask each judge behind an endpoint about one pair.

    Args:
        config: The configuration.
        stages: The stages that will run; `judges` asks them about many pairs.

    Returns:
        A line for each of them.

    Raises:
        TriviumError: With every fault found.
    """
    if "judges" not in stages:
        return []
    chats = (judge for judge in config.annotate.judges if isinstance(judge, ChatConfig))
    return collect([partial(_ask_judge, judge) for judge in chats])


def _ask_judge(settings: ChatConfig) -> str:
    from trivium.adapters.judges.chat import ChatJudge

    settings = settings.model_copy(update={"attempts": min(_ATTEMPTS, settings.attempts)})
    started = time.monotonic()
    mode = ChatJudge.asked(settings).mode
    return f"judge {settings.name}: answers with {mode}, {time.monotonic() - started:.2f} s"


def _ask(config: Config, settings: EngineSection, made: Inputs | None) -> str:
    if isinstance(settings, QdrantConfig) and settings.path and config.run.workers > 1:
        raise ConfigError.of(
            f"channel '{settings.name}' at {settings.path}",
            got=f"run.workers = {config.run.workers}",
            expected="1: the local mode of Qdrant serves one process",
            fix="set run.workers = 1, or use a server",
        )
    settings = settings.model_copy(update={"attempts": min(_ATTEMPTS, settings.attempts)})
    items = made.items if made else empty(ITEMS)
    text = made.queries["text"][0] if made else _ANY_QUERY
    channel = cast("EngineChannel", build_channel(settings, items, config.mine, config.data))
    started = time.monotonic()
    try:
        if made:
            queries = pl.DataFrame({"query_id": ["q"], "text": [text]})
            found = channel.search(queries, config.mine.depth)
        else:
            found = channel.hits([text], config.mine.depth).rows
    finally:
        channel.close()
    seconds = time.monotonic() - started
    return f"channel {settings.name}: {found.height} items for {text!r}, {seconds:.2f} s"
