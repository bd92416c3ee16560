"""A judge that is a decoder reading a filled prompt, with a head of five classes at its last token.

In: pairs of texts, and grades to learn from. Out: probabilities of the five grades, (pairs, 5).
The decoder stays as it is; low-rank adapters (Hu et al., 2021, arXiv 2106.09685) and the head
learn.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.hardware import bf16_is_fast, device_name
from trivium.adapters.judges import Answers, Judge
from trivium.adapters.judges.classifier import classify, load_classifier, quiet
from trivium.adapters.judges.prompts import Prompt, load_prompt
from trivium.adapters.judges.tokens import TokenTable, tokenise_prompts
from trivium.adapters.judges.trainer import train
from trivium.adapters.models import model_fingerprint
from trivium.foundation.errors import ConfigError, DependencyError
from trivium.foundation.judge_config import LoraLlmConfig

_SETTINGS, _PROMPT = "judge.json", "prompt.txt"


class LoraLlmJudge:
    """A decoder with adapters and a head of five classes.

    Attributes:
        model: The decoder with its adapters, a `peft.PeftModel`.
        tokenizer: Its tokenizer.
        prompt: The template that it reads.
        max_length: Tokens of a filled template that it reads.
    """

    def __init__(
        self, model: Any, tokenizer: Any, prompt: Prompt, max_length: int, fingerprint: str
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.prompt = prompt
        self.max_length = max_length
        self._fingerprint = fingerprint

    @classmethod
    def fit(
        cls,
        pairs: pl.DataFrame,
        grades: NDArray[np.int64],
        config: LoraLlmConfig,
        *,
        seed: int,
        folder: Path,
        earlier: Mapping[str, Judge],
    ) -> Self:
        """Train new adapters and a new head; a fit that was killed goes on from its checkpoint.

        Args:
            pairs: Columns query_text and item_text.
            grades: Their grades, (pairs,).
            config: Decoder, prompt, adapters, loss, number of pairs and the rest.
            seed: Seed of the adapters, the head, the choice of pairs and their order.
            folder: Where checkpoints are kept until the fit is done.
            earlier: Not used.

        Raises:
            ConfigError: If the prompt is faulty, or longer than `max_length`.
            DependencyError: If the decoder cannot be loaded as asked.
        """
        judge = cls.untrained(config, seed)
        rows = _sample(len(pairs), config.pairs, seed)
        table = judge._read(pairs[rows])
        bf16 = _number_type(config) != "fp32"
        train(judge.model, table, grades[rows], config, seed=seed, folder=folder, bf16=bf16)
        return judge

    @classmethod
    def untrained(cls, config: LoraLlmConfig, seed: int) -> Self:
        """The decoder with adapters that do nothing yet and a head of random weights."""
        import torch

        torch.manual_seed(seed)
        prompt = load_prompt(config.prompt, "lora")
        base, tokenizer = _base(config)
        from peft import LoraConfig, TaskType, get_peft_model

        adapters = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=config.rank,
            lora_alpha=cast(int, config.alpha),
            target_modules=config.targets,
        )
        with quiet():
            model: Any = get_peft_model(base, adapters)
        return cls(model, tokenizer, prompt, config.max_length, model_fingerprint(config.model))

    def answers(self, pairs: pl.DataFrame) -> Iterator[Answers]:
        """Grade pairs; what a pair gets does not depend on the pairs it comes with.

        Args:
            pairs: Columns query_text and item_text.

        Yields:
            Answers, a batch of pairs of like length at a time.
        """
        yield from classify(self.model, self._read(pairs), bf16=self._bf16)

    @property
    def parameters(self) -> int:
        """Weights that every token passes."""
        return sum(weights.numel() for weights in self.model.parameters())

    def tokens(self, pairs: pl.DataFrame) -> NDArray[np.int32]:
        """Tokens read for each pair, the prompt's included, int32, (pairs,)."""
        return self._read(pairs).lengths.astype(np.int32)

    def save(self, folder: Path) -> None:
        """Write adapters, head, prompt and settings, and what the decoder is, not its weights."""
        for adapters in self.model.peft_config.values():
            adapters.base_model_name_or_path = self._fingerprint
            adapters.target_modules = sorted(adapters.target_modules)  # a set has no fixed order
            adapters.modules_to_save = sorted(set(adapters.modules_to_save))
        self.model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)
        (folder / _PROMPT).write_text(self.prompt.text, encoding="utf-8")
        settings = {"max_length": self.max_length, "base": self._fingerprint}
        (folder / _SETTINGS).write_text(json.dumps(settings), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, config: LoraLlmConfig, earlier: Mapping[str, Judge]) -> Self:
        """Read back a judge that `save` wrote, onto the decoder that `config` names.

        Raises:
            DependencyError: If that is not the decoder which the adapters were trained on.
        """
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        found = model_fingerprint(config.model)
        if found != settings["base"]:
            raise DependencyError.of(
                f"model '{config.model}'",
                got=f"another model: its fingerprint is {found}",
                expected=f"the one that the judge '{config.name}' was trained on, fingerprint "
                f"{settings['base']}",
                fix="name that model, or train the judge again",
            )
        base, tokenizer = _base(config)
        from peft import PeftModel

        with quiet():
            model = PeftModel.from_pretrained(base, folder)
        prompt = load_prompt(folder / _PROMPT, "lora")
        return cls(model, tokenizer, prompt, settings["max_length"], found)

    @property
    def _bf16(self) -> bool:
        import torch

        return self.model.get_input_embeddings().weight.dtype is not torch.float32

    def _read(self, pairs: pl.DataFrame) -> TokenTable:
        return tokenise_prompts(self.tokenizer, self.prompt, pairs, self.max_length)


def _sample(count: int, most: int | None, seed: int) -> NDArray[np.int64]:
    """Rows to learn from; the sample of a smaller cap is part of that of a larger one."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _number_type(config: LoraLlmConfig) -> str:
    if config.load != "auto":
        return config.load
    return "bf16" if bf16_is_fast() else "fp32"


def _base(config: LoraLlmConfig) -> tuple[Any, Any]:
    """The decoder with a new head, and its tokenizer."""
    import torch

    _require("peft", f"the judge '{config.name}'", "pip install 'trivium[llm]'")
    number_type = _number_type(config)
    dtype = torch.float32 if number_type == "fp32" else torch.bfloat16
    extra = _eight_bits(config) if number_type == "int8" else {}
    model, tokenizer = load_classifier(config.model, dtype=dtype, **extra)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    model.config.use_cache = False
    model.score.float()  # small steps of learning vanish in bfloat16
    return model, tokenizer


def _eight_bits(config: LoraLlmConfig) -> dict[str, Any]:
    """Arguments that load the frozen weights as 8-bit integers."""
    where = f"load = 'int8' of the judge '{config.name}'"
    if config.model.endswith(".gguf"):
        raise ConfigError.of(
            where,
            got=f"the GGUF file {config.model}",
            expected="a hub name or a folder: a GGUF file has a number type of its own",
            fix="load = 'bf16', or name the model that the file was made from",
        )
    _require("bitsandbytes", where, "pip install bitsandbytes, or load = 'bf16'")
    from transformers import BitsAndBytesConfig

    make: Any = BitsAndBytesConfig
    quantization = make(load_in_8bit=True, llm_int8_skip_modules=["score"])
    return {"quantization_config": quantization, "device_map": {"": device_name()}}


def _require(package: str, where: str, fix: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise DependencyError.of(
            where, got=f"no installed package '{package}'", expected="that package", fix=fix
        )
