"""What the method must beat: the baselines, their examples and their stage, on an equal budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from trivium.foundation.errors import ConfigError, InputError
from trivium.foundation.tables import EXAMPLES
from trivium.foundation.train_config import StageConfig

BASELINES: Mapping[str, str] = {
    "start": "the starting tower, untrained",
    "click": "MNR on clicked pairs, the other items of the batch as negatives",
    "offshelf": "MNR on human positives, each with a negative that sentence-transformers mined",
    "seed": "MNR on human positives, the other items of the batch as negatives",
    "mixed": "MNR on the recipe's own examples, all its stages in one",
}
"""Name to what it is trained on."""

_LEVELS: Mapping[str, tuple[list[str], list[str]]] = {
    "click": (["click_positive"], []),
    "offshelf": (["seed_positive"], ["mined_negative"]),
    "seed": (["seed_positive"], []),
}
_FIX = {
    "click_positive": "give clicks: your own log, or what `trivium clicks` simulates",
    "seed_positive": "give judgments, and a share of them to split.seed",
    "mined_negative": "mine negatives for the human positives first",
}
_FLOORS = ("min_grade", "min_p_relevant", "min_p_irrelevant", "min_confidence")


def baseline_examples(
    name: str,
    examples: pl.DataFrame,
    clicks: pl.DataFrame | None = None,
    mined: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The examples that a baseline may see, and no others.

    What a row must not have as a negative is known from these examples alone: the click baseline
    has the other clicked items of a query, not the human grades, which a shop that trains on clicks
    does not have; the off-the-shelf and the seed baseline have the human positives.

    Args:
        name: One of `BASELINES`.
        examples: The recipe's examples, `tables.EXAMPLES`.
        clicks: Examples that `clicks.click_positives` made.
        mined: Examples of level `mined_negative`.

    Returns:
        `tables.EXAMPLES`, each pair once, sorted by query and item.

    Raises:
        ConfigError: If there is no such baseline.
        InputError: If it lacks examples of a level.
    """
    _check(name)
    if name == "mixed":
        return examples
    if name == "start":
        return examples.clear()
    given = [table for table in (examples, clicks, mined) if table is not None]
    pool = pl.concat([table.select(list(EXAMPLES.columns)) for table in given])
    levels = [level for side in _LEVELS[name] for level in side]
    taken = pool.filter(pl.col("level").is_in(levels))
    for level in levels:
        if level not in taken["level"]:
            raise InputError.of(
                f"baseline '{name}'",
                got=f"no example of level {level}",
                expected="some",
                fix=_FIX[level],
            )
    return taken.sort("query_id", "item_id", "level", descending=[False, False, True]).unique(
        ["query_id", "item_id"], keep="first", maintain_order=True
    )


def baseline_stages(name: str, recipe: Sequence[StageConfig]) -> list[StageConfig]:
    """The one stage of a baseline, on the budget of a recipe; none for the starting tower.

    As many rows as all the recipe's stages have together, in its largest batch, at its highest
    learning rate, with the warm-up of its first stage and the schedule of its last, by which the
    rate falls in the end. A row with a mined negative holds three texts in place of two: budgets
    are equal in rows.

    Args:
        name: One of `BASELINES`.
        recipe: The stages that the baseline competes with, their steps settled.

    Raises:
        ConfigError: If there is no such baseline, the recipe has no stage, or one of its stages is
            counted in epochs, whose rows depend on the examples.
    """
    _check(name)
    if not recipe or any(stage.epochs is not None for stage in recipe):
        raise ConfigError.of(
            f"baseline '{name}'",
            got="a stage counted in epochs" if recipe else "no stage",
            expected="stages counted in steps, for an equal budget",
            fix="set train.stages.steps in place of epochs",
        )
    if name == "start":
        return []
    batch = max(stage.batch for stage in recipe)
    rows = sum(stage.steps * stage.batch for stage in recipe)
    levels = _mixed(recipe) if name == "mixed" else _own(name)
    return [
        StageConfig(
            name=name,
            loss="mnr",
            steps=max(1, round(rows / batch)),
            batch=batch,
            cached=any(stage.cached for stage in recipe),
            learning_rate=max(stage.learning_rate for stage in recipe),
            schedule=recipe[-1].schedule,
            warmup=recipe[0].warmup,
            **levels,
        )
    ]


def _check(name: str) -> None:
    if name not in BASELINES:
        raise ConfigError.of(
            "baseline",
            got=repr(name),
            expected=f"one of {', '.join(BASELINES)}",
            fix="name one of these",
        )


def _own(name: str) -> dict[str, object]:
    positives, negatives = _LEVELS[name]
    return {"positives": positives, "negatives": negatives}


def _mixed(recipe: Sequence[StageConfig]) -> dict[str, object]:
    """All levels of a recipe's stages, each at the lowest of their floors."""
    return {
        "positives": list(dict.fromkeys(level for s in recipe for level in s.positives)),
        "negatives": list(dict.fromkeys(level for s in recipe for level in s.negatives)),
        "columns": max(stage.columns for stage in recipe),
        "human_share": _human_share(recipe),
        **{floor: min(getattr(stage, floor) for stage in recipe) for floor in _FLOORS},
    }


def _human_share(recipe: Sequence[StageConfig]) -> float | None:
    """The share over all rows, or none if some stage takes positives as they are found."""
    shares = [stage.human_share for stage in recipe]
    if any(share is None for share in shares):
        return None
    rows = [stage.steps * stage.batch for stage in recipe]
    return sum(s * n for s, n in zip(shares, rows, strict=True) if s is not None) / sum(rows)
