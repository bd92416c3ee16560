from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from test_training import CONFIG, MODEL, stage_of, train
from tiny_towers import static_tower
from trivium.adapters.frozen_layers import freeze_layers
from trivium.adapters.tower_models import build_tower
from trivium.foundation.errors import ConfigError
from trivium.foundation.tower_config import TowerConfig


def test_frozen_layers_stay_and_the_others_learn(tmp_path):
    config = CONFIG.model_copy(update={"tower": TowerConfig(freeze=3)})
    trained = train(tmp_path, stage_of("mnr", steps=4), -1.0, config)
    before = load_file(Path(MODEL) / "model.safetensors")
    after = load_file(Path(trained.model) / "model.safetensors")
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert not [name for name in moved if name.startswith("embeddings")]
    layers = {name.split(".")[2] for name in moved if name.startswith("encoder")}
    assert layers == {"3", "4", "5"}


def test_both_encoders_of_two_are_frozen():
    model = build_tower(MODEL, TowerConfig(kind="two", freeze=2))
    learning = [name for name, weights in model.named_parameters() if weights.requires_grad]
    assert {name.split(".layer.")[1][0] for name in learning if ".layer." in name} == set("2345")
    assert not [name for name in learning if "embeddings" in name]
    assert {name.split(".")[2] for name in learning} == {"query", "document"}


def test_no_more_is_frozen_than_there_is():
    with pytest.raises(ConfigError, match="less than 6, the layers"):
        build_tower(MODEL, TowerConfig(freeze=6))
    with pytest.raises(ConfigError, match="the tower has no layers"):
        freeze_layers(static_tower(), 1)
