"""Checkpoints that are known to be whole, so that a killed training goes on from the last of them.

A checkpoint is complete when it holds a manifest, written last and renamed into place, and every
file that the manifest names is there in its full size. The second condition also finds a checkpoint
whose removal was cut short.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import TrainerCallback

MANIFEST = "complete.json"
_PREFIX = "checkpoint-"


def last_checkpoint(folder: Path) -> Path | None:
    """Find the newest complete checkpoint, and remove the incomplete ones.

    Args:
        folder: The trainer's output folder; it need not exist.

    Returns:
        The checkpoint to resume from, or nothing.
    """
    found = [p for p in folder.glob(f"{_PREFIX}*") if p.name.removeprefix(_PREFIX).isdigit()]
    complete = []
    for path in found:
        if _is_complete(path):
            complete.append(path)
        else:
            shutil.rmtree(path)
    return max(complete, key=_step, default=None)


def seal(checkpoint: Path) -> None:
    """Write the manifest that makes a checkpoint complete."""
    sizes = {name: size for name, size in _sizes(checkpoint).items() if name != MANIFEST}
    draft = checkpoint / f"{MANIFEST}.draft"
    draft.write_text(json.dumps(sizes, sort_keys=True), encoding="utf-8")
    draft.replace(checkpoint / MANIFEST)


def sealing_callback() -> TrainerCallback:
    """A callback that seals each checkpoint that a transformers trainer has saved.

    Keep at least two checkpoints (`save_total_limit`): the trainer removes old ones before the
    newest is sealed.
    """
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

    class Sealing(TrainerCallback):
        def on_save(
            self,
            args: TrainingArguments,
            state: TrainerState,
            control: TrainerControl,
            **_kwargs: object,
        ) -> None:
            seal(Path(str(args.output_dir)) / f"{_PREFIX}{state.global_step}")

    return Sealing()


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(_PREFIX))


def _sizes(checkpoint: Path) -> dict[str, int]:
    return {
        path.relative_to(checkpoint).as_posix(): path.stat().st_size
        for path in checkpoint.rglob("*")
        if path.is_file()
    }


def _is_complete(checkpoint: Path) -> bool:
    manifest = checkpoint / MANIFEST
    if not manifest.exists():
        return False
    expected = json.loads(manifest.read_text(encoding="utf-8"))
    sizes = _sizes(checkpoint)
    return all(sizes.get(name) == size for name, size in expected.items())
