"""Pairs as flat arrays of token ids, and batches of them whose shapes repeat.

In: texts of pairs, as they are or in a template. Out: padded arrays of token ids. Lengths are
padded to multiples of eight with at least one pad in every row: a batch without padding takes
another path through attention, with other rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.judges.prompts import Prompt
from trivium.foundation.errors import ConfigError

Ints = NDArray[np.int64]

_BUCKET = 8
_CHUNK = 4096


@dataclass(frozen=True)
class TokenTable:
    """The token ids of many pairs.

    Attributes:
        fields: What the model takes (input_ids, token_type_ids), each flat, int32.
        pads: The value that pads each field.
        starts: Where each pair begins, (pairs + 1,).
    """

    fields: Mapping[str, NDArray[np.int32]]
    pads: Mapping[str, int]
    starts: Ints

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> Ints:
        """Tokens of each pair, (pairs,)."""
        return np.diff(self.starts)

    @property
    def buckets(self) -> Ints:
        """The padded length of each pair, (pairs,)."""
        return (self.lengths // _BUCKET + 1) * _BUCKET

    def batch(self, rows: Ints) -> dict[str, Ints]:
        """Padded arrays of some pairs, each (rows, longest bucket), attention_mask among them."""
        width = int(self.buckets[rows].max())
        mask = np.arange(width) < self.lengths[rows][:, None]  # (rows, width)
        at = self.starts[rows][:, None] + np.arange(width)
        padded = {
            name: np.where(mask, flat[np.minimum(at, len(flat) - 1)], self.pads[name])
            for name, flat in self.fields.items()
        }
        return padded | {"attention_mask": mask.astype(np.int64)}


def tokenise(tokenizer: Any, pairs: pl.DataFrame, max_length: int) -> TokenTable:
    """Tokenise pairs once.

    Args:
        tokenizer: A transformers tokenizer.
        pairs: Columns query_text and item_text.
        max_length: Tokens to keep of a pair; the longer text is cut first.
    """
    pads = {"input_ids": int(tokenizer.pad_token_id)}
    if "token_type_ids" in tokenizer.model_input_names:
        pads["token_type_ids"] = int(tokenizer.pad_token_type_id)

    def encode(chunk: pl.DataFrame) -> Mapping[str, list[list[int]]]:
        encoded: Mapping[str, list[list[int]]] = tokenizer(
            chunk["query_text"].to_list(),
            chunk["item_text"].to_list(),
            truncation="longest_first",
            max_length=max_length,
        )
        return encoded

    return _table(encode, pairs, pads)


def tokenise_prompts(
    tokenizer: Any, prompt: Prompt, pairs: pl.DataFrame, max_length: int
) -> TokenTable:
    """Tokenise filled templates once, each text cut to the room that the template leaves it.

    A decoder answers at its last token, so the template has to survive whole, its end above all:
    the item is cut first, and the query only where it fills more than half of the room.

    Args:
        tokenizer: A transformers tokenizer.
        prompt: The template.
        pairs: Columns query_text and item_text.
        max_length: Tokens to keep of a filled template.

    Raises:
        ConfigError: If the template alone has more tokens.
    """
    pieces = _pieces(tokenizer, prompt.text)
    names = [piece.name for piece in pieces if piece.name]
    room = max_length - sum(len(piece.ids) for piece in pieces)
    if room < 2 * len(names):
        raise ConfigError.of(
            "max_length of the judge",
            got=str(max_length),
            expected=f"at least {max_length - room + 2 * len(names)}, for this template and texts",
            fix="raise max_length, or shorten the template",
        )

    def encode(chunk: pl.DataFrame) -> Mapping[str, list[list[int]]]:
        texts = []
        for piece in (piece for piece in pieces if piece.name):
            filled = [piece.lead + text for text in chunk[f"{piece.name}_text"]]
            texts.append(tokenizer(filled, add_special_tokens=False)["input_ids"])
        kept = _kept(np.array([[len(ids) for ids in row] for row in texts]).T, names, room)
        return {
            "input_ids": [
                _joined(pieces, row, cut)
                for row, cut in zip(zip(*texts, strict=True), kept, strict=True)
            ]
        }

    return _table(encode, pairs, {"input_ids": int(tokenizer.pad_token_id)})


@dataclass(frozen=True)
class _Piece:
    """A stretch of a template, and the text that follows it.

    Attributes:
        ids: Tokens of the stretch.
        name: Of the text, "" where none follows.
        lead: White space before the text, which most tokenizers join to its first word.
    """

    ids: list[int]
    name: str
    lead: str


def _pieces(tokenizer: Any, template: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    for literal, name, *_ in Formatter().parse(template):
        text = literal.rstrip(" ") if name else literal
        ids = tokenizer(text, add_special_tokens=not pieces)["input_ids"]
        pieces.append(_Piece(list(ids), name or "", literal[len(text) :]))
    return pieces


def _kept(lengths: Ints, names: list[str], room: int) -> Ints:
    """Tokens to keep of each text, (pairs, texts)."""
    query = np.array(names) == "query"  # (texts,)
    items = lengths[:, ~query].sum(axis=1)
    most = np.maximum(room // 2, room - items) // query.sum()
    kept: Ints = np.minimum(lengths, most[:, None])
    most = (room - kept[:, query].sum(axis=1)) // (~query).sum()
    kept[:, ~query] = np.minimum(lengths[:, ~query], most[:, None])
    return kept


def _joined(pieces: list[_Piece], texts: tuple[list[int], ...], kept: Ints) -> list[int]:
    ids: list[int] = []
    left = iter(zip(texts, kept.tolist(), strict=True))
    for piece in pieces:
        ids += piece.ids
        if piece.name:
            text, count = next(left)
            ids += text[:count]
    return ids


def _table(
    encode: Callable[[pl.DataFrame], Mapping[str, list[list[int]]]],
    pairs: pl.DataFrame,
    pads: Mapping[str, int],
) -> TokenTable:
    """Encode pairs chunk by chunk."""
    flat: dict[str, list[NDArray[np.int32]]] = {name: [np.zeros(0, np.int32)] for name in pads}
    lengths: list[int] = [0]
    for chunk in pairs.select("query_text", "item_text").iter_slices(_CHUNK):
        encoded = encode(chunk)
        for name in pads:
            flat[name].append(np.concatenate([np.array(ids, np.int32) for ids in encoded[name]]))
        lengths += [len(ids) for ids in encoded["input_ids"]]
    fields = {name: np.concatenate(parts) for name, parts in flat.items()}
    return TokenTable(fields, pads, np.cumsum(lengths, dtype=np.int64))


def fixed_batches(table: TokenTable, tokens: int) -> Iterator[tuple[Ints, int]]:
    """Cut pairs into batches whose shape depends on the padded length alone.

    A matrix product rounds by its shape; with one shape for a length, a pair's result does not
    depend on the pairs beside it. The last batch of a length repeats its first row.

    Args:
        table: The pairs.
        tokens: Tokens, padding included, that a batch holds at most.

    Yields:
        Rows of the table, and how many of the first of them count.
    """
    buckets = table.buckets
    for width in np.unique(buckets).tolist():
        size = max(1, tokens // width)
        members = np.flatnonzero(buckets == width)
        for start in range(0, len(members), size):
            rows = members[start : start + size]
            filler = np.full(size - len(rows), rows[0])
            yield np.concatenate([rows, filler]), len(rows)


def training_order(lengths: Ints, batch: int, epochs: float, seed: int) -> Ints:
    """The order in which training sees pairs: batches of similar length, in random order.

    Each epoch is shuffled, cut into pools of sixteen batches, sorted by length within each pool,
    and its batches are shuffled again. The order is made before the training starts, so resuming
    only has to skip.

    Returns:
        Rows, (steps * batch,); the last part of an epoch that does not fill a batch is topped up
        from its start.
    """
    rng = np.random.default_rng(seed)
    steps = max(1, round(epochs * len(lengths) / batch))
    batches: list[Ints] = []
    while sum(len(b) for b in batches) < steps:
        batches.append(_epoch_batches(lengths, batch, rng))
    return np.concatenate(batches)[:steps].ravel()


def _epoch_batches(lengths: Ints, batch: int, rng: np.random.Generator) -> Ints:
    order = rng.permutation(len(lengths))
    order = np.resize(order, -(-len(order) // batch) * batch)
    pool = 16 * batch
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        order[start : start + pool] = part[np.argsort(lengths[part], kind="stable")]
    return rng.permutation(order.reshape(-1, batch))  # (batches, batch)
