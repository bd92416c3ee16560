"""How a tower's model takes the texts of its two sides: prompts, routes, tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, Literal, Protocol

from trivium.foundation.errors import DependencyError

Side = Literal["queries", "items"]

BUCKET = 8
"""Padded lengths are multiples of it."""

TASKS: Mapping[Side, str] = {"queries": "query", "items": "document"}
"""What sentence-transformers calls the sides: its names of routes and of prompts."""

PROMPTS: Mapping[Side, tuple[str, ...]] = {
    "queries": ("query",),
    "items": ("document", "passage", "corpus"),
}
"""Names under which models keep a side's prompt; those of its `encode_query`, `encode_document`."""

_UNSTATED = 512
_UNLIMITED = 1 << 20


class Reader(Protocol):
    """Turns texts of one side into what the model's first module reads."""

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, its prompt before it, cut to the tower's length."""

    def width(self, tokens: Sequence[int]) -> int:
        """Length that such a text is padded to; texts of one width may share a batch."""

    def features(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Tensors of texts of one width."""


def prompt_of(model: Any, side: Side) -> str:
    """What a sentence-transformers model puts before each text of a side.

    The first of a side's names that holds a text counts. sentence-transformers itself takes the
    empty `document` that it gives every model for an answer, and so passes over the `passage`
    prompt of E5 models.
    """
    found = (model.prompts.get(name) for name in PROMPTS[side])
    return next((str(prompt) for prompt in found if prompt), "")


def is_routed(model: Any) -> bool:
    """Whether queries and items may take different ways through a model."""
    return hasattr(model[0], "sub_modules")


def trainer_sides(model: Any, columns: Iterable[str]) -> dict[str, dict[str, str]]:
    """Arguments of the sentence-transformers trainer that give each text column its side.

    Args:
        model: The model to be trained.
        columns: Names of the text columns; `query` holds queries, all others items.

    Returns:
        Its `prompts`, and its `router_mapping` if the model has two encoders.
    """
    sides: dict[str, Side] = {name: "queries" if name == "query" else "items" for name in columns}
    prompts = {name: prompt_of(model, side) for name, side in sides.items()}
    if not is_routed(model):
        return {"prompts": prompts}
    mapping = {name: TASKS[side] for name, side in sides.items()}
    return {"prompts": prompts, "router_mapping": mapping}


def text_limit(model: Any) -> int:
    """Tokens of a text that a model reads; of both sides the more."""
    return max(_limit(_first_module(model, side)) for side in TASKS)


def limit_texts(model: Any, max_length: int) -> None:
    """Let a model read no more than some tokens of a text, wherever it is used or saved."""
    for module in {id(m): m for m in (_first_module(model, side) for side in TASKS)}.values():
        length = min(max_length, _limit(module))
        if _is_static(module):
            module.tokenizer.enable_truncation(length)
        else:
            module.max_seq_length = length


def reader_of(model: Any, side: Side, max_length: int) -> Reader:
    """The reader of a side's texts.

    Args:
        model: A sentence-transformers model.
        side: Whose texts.
        max_length: Tokens that are read at most; fewer if the side's encoder takes fewer.

    Raises:
        DependencyError: If the model is neither a transformer nor static embeddings.
    """
    from transformers import PreTrainedTokenizerBase

    module = _first_module(model, side)
    prompt, length = prompt_of(model, side), min(max_length, _limit(module))
    if _is_static(module):
        return _StaticReader(module.tokenizer, prompt, length)
    tokenizer = getattr(module, "tokenizer", None)
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return _TransformerReader(tokenizer, prompt, length)
    raise DependencyError.of(
        "tower",
        got=f"a model whose texts are read by {type(module).__name__}",
        expected="a transformer, or static embeddings",
        fix="name another model",
    )


class _TransformerReader:
    """Texts of a tokenizer of transformers, padded to a multiple of `BUCKET`."""

    def __init__(self, tokenizer: Any, prompt: str, max_length: int) -> None:
        self._tokenizer, self._prompt, self._max_length = tokenizer, prompt, max_length

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        read = self._tokenizer(
            [self._prompt + text for text in texts], truncation=True, max_length=self._max_length
        )
        ids: list[list[int]] = read["input_ids"]
        return ids

    def width(self, tokens: Sequence[int]) -> int:
        return min(-(-len(tokens) // BUCKET) * BUCKET, self._max_length)

    def features(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        width = self.width(rows[0])
        padded = self._tokenizer.pad(
            {"input_ids": rows}, padding="max_length", max_length=width, return_tensors="pt"
        )
        # Some models leave the prompt out of the mean of their tokens.
        return {**padded, "prompt_length": self._prompt_length()} if self._prompt else {**padded}

    def _prompt_length(self) -> int:
        """Tokens before the text, as sentence-transformers counts them."""
        ids = self.__class__(self._tokenizer, "", self._max_length).tokens([self._prompt])[0]
        return len(ids) - (ids[-1] in self._tokenizer.all_special_ids)


class _StaticReader:
    """Texts of a static embedding, each a bag of tokens: nothing is padded."""

    def __init__(self, tokenizer: Any, prompt: str, max_length: int) -> None:
        self._tokenizer, self._prompt, self._max_length = tokenizer, prompt, max_length

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        prompted = [self._prompt + text for text in texts]
        read = self._tokenizer.encode_batch(prompted, add_special_tokens=False)
        return [encoding.ids[: self._max_length] for encoding in read]

    def width(self, _tokens: Sequence[int]) -> int:
        return 0

    def features(self, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
        import torch

        starts = accumulate((len(row) for row in rows[:-1]), initial=0)
        ids = torch.tensor(list(chain.from_iterable(rows)), dtype=torch.long)
        return {"input_ids": ids, "offsets": torch.tensor(list(starts), dtype=torch.long)}


def _first_module(model: Any, side: Side) -> Any:
    """The module that reads the texts of a side."""
    first = model[0]
    if not is_routed(model):
        return first
    routes = first.sub_modules
    return routes[TASKS[side] if TASKS[side] in routes else first.default_route][0]


def _limit(module: Any) -> int:
    if _is_static(module):
        truncation = module.tokenizer.truncation
        return int(truncation["max_length"]) if truncation else _UNLIMITED
    return int(getattr(module, "max_seq_length", None) or _UNSTATED)


def _is_static(module: Any) -> bool:
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    return isinstance(module, StaticEmbedding)
