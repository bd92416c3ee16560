"""Keep the libraries' own chatter off the terminal."""

from __future__ import annotations

import logging
import os
import warnings


def quieten() -> None:
    """Silence progress bars and notes of the libraries that models are made with."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    for library in ("sentence_transformers", "transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.filterwarnings(
        "ignore", module=r"(torch|transformers|sentence_transformers|peft)(\..*)?"
    )
