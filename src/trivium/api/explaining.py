"""What each channel does with a query, on frames."""

from __future__ import annotations

from typing import Any

from trivium.api.arguments import Frame, as_given, as_polars, configure
from trivium.foundation import tables
from trivium.stages.inputs.checks import with_texts


def explain(items: Frame, query: str, *, top: int = 10, **settings: Any) -> dict[str, Frame]:
    """Say what each channel does with a query, which items it finds, and why.

    Args:
        items: item_id, title and any further fields.
        query: Any text.
        top: Items of each channel to explain.
        **settings: Settings of `[mine]`, such as channels and model; item_text and synonyms of
            `[data]`.

    Returns:
        `steps`: channel, part of the query, became, weight, why; none for a channel that cannot
        explain itself. `found`: channel, rank, item_id, title, score, rank_<channel>. `matches`:
        channel, item_id, part, score: what each part gave of an item's score.

    Raises:
        InputError: If the table is faulty.
        ConfigError: If a setting is.
        DependencyError: If a model or an engine is not there.
    """
    from trivium.stages.explain import explain as asked

    config = configure("explain", 0, settings)
    catalog = with_texts(tables.validate(as_polars(items), tables.ITEMS), config.data, "item")
    made = asked(query, catalog.drop("judge_text"), config.mine, config.data, top=top)
    return {
        "steps": as_given(items, made.steps),
        "found": as_given(items, made.found),
        "matches": as_given(items, made.matches),
    }
