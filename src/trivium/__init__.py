"""Trivium trains a dense retriever from what your search systems disagree about.

The stages are functions on polars or pandas DataFrames, each usable alone:

    import trivium

    candidates = trivium.mine(items, queries)
    labels = trivium.annotate(candidates, items, queries, judgments)
    examples = trivium.build_examples(candidates, labels, items, queries, judgments)
    model = trivium.train(examples, items, queries, judgments, output="model")
    metrics = trivium.evaluate({"start": start, "trained": model}, items, queries, judgments)

Nothing heavy is imported before a function is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trivium.api import (
        annotate,
        build_examples,
        compare_runs,
        evaluate,
        explain,
        export_examples,
        export_model,
        mine,
        overlap,
        simulate,
        split,
        train,
    )

    __version__: str

__all__ = [
    "__version__",
    "annotate",
    "build_examples",
    "compare_runs",
    "evaluate",
    "explain",
    "export_examples",
    "export_model",
    "mine",
    "overlap",
    "simulate",
    "split",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("trivium")
    if name in __all__:
        return getattr(import_module("trivium.api"), name)
    raise AttributeError(f"module 'trivium' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
