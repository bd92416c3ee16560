"""A judge behind an OpenAI-compatible endpoint, asked with a prompt, never trained.

In: pairs of texts. Out: probabilities of the five grades, one pair at a time, as replies come.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.judges import Answers, Judge
from trivium.adapters.judges.chat_answers import Malformed, Mode, distribution, estimated_tokens
from trivium.adapters.judges.chat_endpoint import Endpoint, Refused
from trivium.adapters.judges.prompts import Prompt, load_prompt
from trivium.foundation.errors import ConfigError, DependencyError
from trivium.foundation.judge_config import ChatConfig

_SETTINGS = "chat.json"
_PAIR = pl.DataFrame(
    {"query_text": ["red running shoes"], "item_text": ["Red running shoes for men, size 9"]}
)
_SLICE = 1024


class ChatJudge:
    """A model behind an endpoint.

    Attributes:
        config: Where and how it is asked.
        prompt: What it is asked.
        mode: Where the probabilities come from: token log-probabilities, or JSON.
    """

    def __init__(self, config: ChatConfig, prompt: Prompt, mode: Mode) -> None:
        self.config = config
        self.prompt = prompt
        self.mode: Mode = mode

    @classmethod
    def fit(
        cls,
        pairs: pl.DataFrame,
        grades: NDArray[np.int64],
        config: ChatConfig,
        *,
        seed: int,
        folder: Path,
        earlier: Mapping[str, Judge],
    ) -> Self:
        """Learn nothing; see `asked` for the mode and the errors."""
        return cls.asked(config)

    @classmethod
    def asked(cls, config: ChatConfig) -> Self:
        """Ask about one pair, to see that the endpoint answers, and in which mode.

        With `answer = "auto"` the mode is `logprobs` if the reply states a grade together with its
        log-probabilities, else `json`.

        Raises:
            ConfigError: If the prompt or the address is faulty.
            DependencyError: If the endpoint does not answer, refuses the request, or gives no
                log-probabilities where they were asked for.
        """
        _check_url(config.url)
        prompt = load_prompt(config.prompt, "chat")
        return cls(config, prompt, _mode(config, prompt.fill(_PAIR)[0]))

    def answers(self, pairs: pl.DataFrame) -> Iterator[Answers]:
        """Ask about pairs, `concurrency` at a time; each answer holds one pair.

        A pair that gets no usable grade within `attempts` has NaN and the trouble `unanswered`; the
        other troubles are `rate_limit`, `server_error`, `timeout`, `connection`, `empty`,
        `malformed` and `no_logprobs`, counted by attempt.

        Args:
            pairs: Columns query_text and item_text.

        Yields:
            Answers as they come. At most `concurrency` pairs are under way when it is stopped.

        Raises:
            DependencyError: If the endpoint refuses a request (a status of 4xx that no retry
                mends), asks for a wait of over ten minutes, or no longer answers.
        """
        with Endpoint(self.config, self.mode) as endpoint:
            yield from endpoint.answers(self._texts(pairs))

    @property
    def parameters(self) -> int:
        """Not known: a model behind an endpoint has a price instead."""
        return 0

    def tokens(self, pairs: pl.DataFrame) -> NDArray[np.int32]:
        """Tokens read for each pair if the first attempt succeeds, estimated from characters."""
        counts = [estimated_tokens(text) for _, text in self._texts(pairs)]
        return np.array(counts, dtype=np.int32)

    def save(self, folder: Path) -> None:
        """Write what decides the answers: address, model, prompt and mode; never the key."""
        settings = {
            "url": self.config.url,
            "model": self.config.model,
            "prompt": self.prompt.text,
            "mode": self.mode,
        }
        text = json.dumps(settings, indent=2, ensure_ascii=False)
        (folder / _SETTINGS).write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, config: ChatConfig, earlier: Mapping[str, Judge]) -> Self:
        """Read back a judge that `save` wrote; pace, patience and key are the configuration's."""
        kept = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        config = config.model_copy(update={"url": kept["url"], "model": kept["model"]})
        return cls(config, Prompt(kept["prompt"]), kept["mode"])

    def _texts(self, pairs: pl.DataFrame) -> Iterator[tuple[int, str]]:
        for start in range(0, len(pairs), _SLICE):
            yield from enumerate(self.prompt.fill(pairs.slice(start, _SLICE)), start)


def _mode(config: ChatConfig, text: str) -> Mode:
    if config.answer != "json" and _gives_logprobs(config, text):
        return "logprobs"
    if config.answer == "logprobs":
        raise DependencyError.of(
            f"model '{config.model}' at {config.url}",
            got="an answer without log-probabilities of its tokens",
            expected="log-probabilities, as answer = 'logprobs' needs them",
            fix="set answer = 'auto' or 'json'",
        )
    with Endpoint(config, "json") as endpoint:
        endpoint.reply(text)
    return "json"


def _gives_logprobs(config: ChatConfig, text: str) -> bool:
    """Whether a grade can be read from log-probabilities, or some come where they are a must."""
    must = config.answer == "logprobs"
    try:
        with Endpoint(config, "logprobs") as endpoint:
            reply = endpoint.reply(text)
        distribution(reply, "logprobs")
    except Refused:
        if must:
            raise
        return False
    except Malformed:
        return must and bool(reply.tokens)
    return True


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc:
        return
    raise ConfigError.of(
        "url of a chat judge",
        got="a name or password in it" if "@" in parts.netloc else repr(url),
        expected="http(s)://HOST:PORT/v1",
        fix="correct the url; a key belongs in the environment variable of api_key_variable",
    )
