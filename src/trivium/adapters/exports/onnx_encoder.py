"""Encode texts with an exported folder, by tokenizers and onnxruntime alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from trivium.adapters.tower_texts import Side
from trivium.foundation.console import counter
from trivium.foundation.workspace import read_json

Vectors = NDArray[np.float32]

DESCRIPTION = "export.json"
BATCH = 32


class OnnxEncoder:
    """An exported tower.

    Texts are encoded in batches of about one length. The int8 graph scales its numbers by the
    largest of a batch, so its vectors depend a little on what is encoded with them.

    Args:
        folder: The folder with `export.json`.
        graph: Name of the graph's file, fp32 or int8.
    """

    def __init__(self, folder: Path, graph: str) -> None:
        described = read_json(folder / DESCRIPTION) or {}
        self._prompts: dict[str, str] = described["prompts"]
        self._parts: dict[str, tuple[Tokenizer, Any]] = {}
        loaded: dict[str, tuple[Tokenizer, Any]] = {}
        for side, place in described["folders"].items():
            if place not in loaded:
                tokenizer = Tokenizer.from_file(str(folder / place / "tokenizer.json"))
                loaded[place] = (tokenizer, _session(folder / place / graph))
            self._parts[side] = loaded[place]

    def encode(self, texts: Sequence[str], side: Side = "items") -> Vectors:
        """Encode the texts of a side.

        Args:
            texts: One or more texts, without prompts.
            side: Whether they are queries or items.

        Returns:
            Unit vectors, float32 of shape (texts, dimensions).
        """
        tokenizer, session = self._parts[side]
        names = [entry.name for entry in session.get_inputs()]
        order = sorted(range(len(texts)), key=lambda row: (len(texts[row]), row))
        parts = []
        with counter(f"encoding {side}", len(texts)) as advance:
            for begin in range(0, len(order), BATCH):
                batch = [self._prompts[side] + texts[row] for row in order[begin : begin + BATCH]]
                encoded = tokenizer.encode_batch(batch)
                feed = {
                    "input_ids": np.array([e.ids for e in encoded], dtype=np.int64),
                    "attention_mask": np.array([e.attention_mask for e in encoded], np.int64),
                    "token_type_ids": np.array([e.type_ids for e in encoded], dtype=np.int64),
                }
                parts.append(session.run(None, {name: feed[name] for name in names})[0])
                advance(len(batch))
        vectors: Vectors = np.concatenate(parts)
        return vectors[np.argsort(order)]


def _session(graph: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 0)  # 0 = all cores
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
