"""Progress of a transformers trainer, shown the way all long work is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trivium.foundation.console import counter

if TYPE_CHECKING:
    from transformers import TrainerCallback


@contextmanager
def training_progress(what: str, steps: int) -> Iterator[TrainerCallback]:
    """Give a callback that counts a trainer's steps, those before a resume included."""
    from transformers import TrainerCallback

    with counter(what, steps) as advance:

        class Progress(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                advance(state.global_step)

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                advance(1)

        yield Progress()
