"""What judges that are transformers classifiers share: loading one, and asking it.

In: tokenised pairs. Out: answers, a batch at a time.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from trivium.adapters.hardware import device_name
from trivium.adapters.judges import Answers
from trivium.adapters.judges.tokens import TokenTable, fixed_batches
from trivium.adapters.models import resolve_model
from trivium.foundation.errors import DependencyError
from trivium.foundation.tables import GRADES

# Padded tokens in a batch of inference: the fastest size on a processor, enough for a card.
_TOKENS = {"cpu": 1024, "cuda": 8192}


def load_classifier(name: str, **settings: Any) -> tuple[Any, Any]:
    """Read a model as a classifier of grades, and its tokenizer.

    A model without a head of five classes gets a new one, of random weights.

    Args:
        name: A model as `resolve_model` takes it, a GGUF file included.
        settings: Further arguments of the model's `from_pretrained`.

    Raises:
        DependencyError: If the model cannot be found or read.
    """
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, GgufConfig

    source, file = resolve_model(name), {}
    if source.endswith(".gguf"):
        file = {"gguf_file": Path(source).name}
        source = str(Path(source).parent)
        settings["quantization_config"] = GgufConfig(dequantize=True)
    try:
        with quiet():
            model = AutoModelForSequenceClassification.from_pretrained(
                source,
                num_labels=len(GRADES),
                ignore_mismatched_sizes=True,
                **file,
                **settings,
            )
            return model, AutoTokenizer.from_pretrained(source, **file)
    except (OSError, ValueError, ImportError) as error:
        raise DependencyError.of(
            f"model '{name}'",
            got=str(error).splitlines()[0],
            expected="a hub name that can be reached, a folder, or package:NAME/FOLDER",
            fix="download the model, or name a folder or a packaged model as the judge's model",
        ) from None


def classify(model: Any, table: TokenTable, *, bf16: bool) -> Iterator[Answers]:
    """Grade pairs; what a pair gets does not depend on the pairs it comes with.

    Args:
        model: A transformers classifier with five classes.
        table: The pairs.
        bf16: Whether matrix products are made in bfloat16.
    """
    import torch

    device = device_name()
    model.to(device).eval()
    lengths = table.lengths.astype(np.int32)
    for rows, count in fixed_batches(table, _TOKENS[device]):
        batch = {k: torch.from_numpy(v).to(device) for k, v in table.batch(rows).items()}
        with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            logits = model(**batch).logits.float()  # (rows, 5)
        kept = rows[:count]
        probabilities = torch.softmax(logits, dim=1)[:count].cpu().numpy()
        yield Answers(kept, probabilities, lengths[kept], np.zeros(count, np.int32))


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the bars of transformers, its notes on new heads, and its own deprecations."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(transformers|peft)\b")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
