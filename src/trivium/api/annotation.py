"""Judges as a function: fit them on human grades, and let them grade candidates."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from trivium.api.arguments import (
    Frame,
    as_given,
    as_polars,
    candidates_table,
    check_known,
    configure,
    with_model_texts,
)
from trivium.domain.splits import with_parts, with_segments
from trivium.foundation import tables
from trivium.foundation.config import Config
from trivium.foundation.console import say
from trivium.foundation.errors import ConfigError

if TYPE_CHECKING:
    from trivium.adapters.judges.panel import Desk


def annotate(
    candidates: Frame,
    items: Frame,
    queries: Frame,
    judgments: Frame,
    *,
    seed: int = 0,
    folder: Path | str | None = None,
    **settings: Any,
) -> Frame:
    """Fit judges on human grades and let their cascade grade candidates that some level could use.

    Args:
        candidates: From `mine`.
        items: item_id, title and any further fields.
        queries: query_id, query, and part; without parts every judged query belongs to the seed.
        judgments: query_id, item_id, grade, and rater where a pair has several.
        seed: Seed of the judges' training.
        folder: Keeps the fitted judges and every answer that they gave: a call with the same
            judgments and settings fits nothing again, and no answer is paid for twice; forgotten
            when absent.
        **settings: Settings of `[annotate]`, such as judges, a list of tables as under
            `[[annotate.judges]]`; judge_query_text, judge_item_text and the segments' shares of
            `[data]`; lexical and dense of `[mine]`, and its model, for the features; the rules,
            depths and band of `[examples]`.

    Returns:
        Labels: query_id, item_id, grade, confidence, judge, settled, tokens, cost_usd and
        p_<judge> for each judge.

    Raises:
        InputError: If a table is faulty, a candidate names an unknown item or query, or there are
            too few judged queries.
        ConfigError: If a setting is faulty.
        DependencyError: If a judge's model or endpoint is not there.
    """
    config = configure("annotate", seed, settings, candidates)
    if settings.get("deep"):
        raise ConfigError.of(
            "trivium.annotate: deep",
            got=f"{settings['deep']}",
            expected="0, since it needs the candidates of judged queries too",
            fix="leave it out, or run the pipeline on a workspace: trivium run",
        )
    catalog, asked = with_model_texts(items, queries, config)
    pairs = check_known(candidates_table(candidates), "candidates", catalog, asked)
    graded = tables.validate(as_polars(judgments), tables.JUDGMENTS)
    if "part" not in asked.columns:
        asked = _all_seed(asked, graded, config, seed)
    with tempfile.TemporaryDirectory() as scratch:
        labels = _annotated(pairs, catalog, asked, graded, config, Path(folder or scratch))
    return as_given(candidates, labels)


def _all_seed(
    queries: pl.DataFrame, judgments: pl.DataFrame, config: Config, seed: int
) -> pl.DataFrame:
    everything = config.split.model_copy(
        update={"seed": 1.0, "train": 0.0, "validation": 0.0, "test": 0.0}
    )
    segmented = with_segments(queries, config.data.head_share, config.data.torso_share)
    return with_parts(segmented, judgments["query_id"].unique(), everything, seed)


def _desk(folder: Path, config: Config) -> Desk:
    from trivium.adapters.judges.panel import Desk
    from trivium.adapters.ledger import Budget
    from trivium.adapters.store import LabelStore

    store = LabelStore(config.annotate.store or folder / "labels.sqlite")
    return Desk(folder, store, str(folder.absolute()), Budget(config.annotate.max_budget))


def _annotated(
    pairs: pl.DataFrame,
    items: pl.DataFrame,
    queries: pl.DataFrame,
    judgments: pl.DataFrame,
    config: Config,
    folder: Path,
) -> pl.DataFrame:
    from trivium.adapters.ledger import Prices
    from trivium.domain.costs import judge_costs, relative_costs
    from trivium.domain.teaching import teaching, with_texts
    from trivium.domain.yields import add_up
    from trivium.stages.annotate.buying import bought_line, buy_all
    from trivium.stages.annotate.cascading import fit_cascade, of_humans
    from trivium.stages.annotate.labelling import label
    from trivium.stages.judges import fit_judges, hold_out

    config = config.for_catalog(len(items))
    section, tower, seed = config.annotate, config.mine.model, config.run.seed
    made = teaching(
        judgments,
        items,
        queries,
        tables.empty(tables.TEACHING),
        pairs.clear(),
        background=section.background,
        deep=0.0,
        seed=seed,
    )
    panel = fit_judges(made, section, tower, _desk(folder, config), seed).panel
    held_out = hold_out(panel, made, items, queries, tower)
    sizes = {name: judge.parameters for name, judge in panel.items()}
    costs = judge_costs(section.judges, held_out.answers, sizes, held_out.seconds_per_pair)
    fitted, _tuned = fit_cascade(held_out.answers, section, relative_costs(costs), seed)
    measuring = of_humans(held_out.answers, "agreement")
    agreed = fitted.replay(measuring)["grade"] == measuring["grade"]
    say(f"agreement with {len(agreed)} human grades: {agreed.sum() / len(agreed):.1%}")
    if fitted.promise:
        say(fitted.promise)
    prices = {judge.name: Prices.of(judge) for judge in section.judges}
    bought = buy_all(
        pairs, lambda some: label(with_texts(some, items, queries), panel, fitted, prices), config
    )
    labels = pl.concat([part.labels for part in bought]).sort("query_id", "item_id")
    unanswered = sum(part.left_out["no judge answered"] for part in bought)
    say(f"labelled {len(labels)} of {len(pairs)} candidates, {unanswered} without an answer")
    say(bought_line(add_up([part.counts for part in bought]), [part.foreseen for part in bought]))
    return labels
