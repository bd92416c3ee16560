from __future__ import annotations

from trivium.domain.curriculum import PUBLISHED, stages_of
from trivium.foundation.tables import POSITIVE_LEVELS
from trivium.foundation.train_config import StageConfig, TrainConfig


def stage_of(**settings) -> StageConfig:
    given = {"name": "s", "loss": "mnr", "positives": list(POSITIVE_LEVELS)}
    return StageConfig(**(given | {"steps": 5, "batch": 8} | settings))


def test_the_published_recipe_is_as_published():
    table = [(stage.loss, stage.positives, stage.negatives, stage.min_grade) for stage in PUBLISHED]
    assert table == [
        ("bce", ["easy_positive"], ["random_negative"], 4),
        ("mnr", ["hard_positive"], ["hard_negative"], 0),
        ("triplet", ["easy_positive", "hard_positive"], ["token_similar_negative"], 0),
    ]
    assert PUBLISHED[0].temperature == 20.0
    assert PUBLISHED[2].margin == 0.3
    assert all(stage.human_share is None and stage.min_p_relevant == 0 for stage in PUBLISHED)
    assert stages_of(TrainConfig(recipe="published")) == list(PUBLISHED)


def test_stages_are_scaled_and_ones_own_replace_the_recipe():
    assert [s.steps for s in stages_of(TrainConfig())] == [300, 150, 50]
    assert [s.steps for s in stages_of(TrainConfig(scale=0.1))] == [30, 15, 5]
    assert [s.steps for s in stages_of(TrainConfig(scale=0.001))] == [1, 1, 1]
    own = stage_of(steps=8)
    assert stages_of(TrainConfig(recipe="published", stages=[own], scale=0.5)) == [
        own.model_copy(update={"steps": 4})
    ]
