"""A seed from a judge that needs none: a chat model rates what humans would have rated."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from trivium.adapters.judges import collect
from trivium.adapters.judges.panel import Desk, fit_panel
from trivium.foundation.errors import Fault, InputError
from trivium.foundation.judge_config import ChatConfig

MODEL_RATER = "chat "
"""How the name of a rater begins that is a model."""

_UNTAUGHT = pl.DataFrame(schema={"query_text": pl.String, "item_text": pl.String, "grade": pl.Int8})


def rate(
    sheet: pl.DataFrame, config: ChatConfig, desk: Desk
) -> tuple[pl.DataFrame, Mapping[str, int]]:
    """Let a chat model rate a sheet of pairs.

    Args:
        sheet: Columns query_id, item_id, query and title.
        config: The model and its endpoint.
        desk: Where its answers are kept: a second call asks about nothing again.

    Returns:
        A judgments table whose rater names the model, without the pairs that it gave no usable
        answer to; and what went wrong on the way, counted.

    Raises:
        InputError: If a row lacks an id or a text.
        DependencyError: If the endpoint does not answer.
        BudgetReached: If the budget is spent; what was answered is kept.
    """
    _refuse_without_texts(sheet)
    panel = fit_panel([config], lambda _config: _UNTAUGHT, desk, seed=0).panel
    texts = sheet.select(query_text="query", item_text="title")
    said = collect(panel[config.name], texts)
    answered = ~np.isnan(said.probabilities).any(axis=1)
    grades = np.where(answered, np.nan_to_num(said.probabilities).argmax(axis=1), -1)
    judgments = sheet.select(
        "query_id",
        "item_id",
        pl.Series("grade", grades, dtype=pl.Int8),
        pl.lit(MODEL_RATER + config.model).alias("rater"),
    )
    return judgments.filter(pl.col("grade") >= 0), said.troubles


def _refuse_without_texts(sheet: pl.DataFrame) -> None:
    names = ("query_id", "item_id", "query", "title")
    blank = {n: sheet[n].null_count() if n in sheet.columns else len(sheet) for n in names}
    faults = [
        Fault(
            f"sheet: column '{name}'",
            got=f"nothing in {count} of {len(sheet)} rows",
            expected="what `trivium seed pick` wrote there",
            fix="put it back, or drop these rows",
        )
        for name, count in blank.items()
        if count
    ]
    if faults:
        raise InputError(*faults)
