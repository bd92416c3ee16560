"""What annotating would cost, before anything is paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import polars as pl

from trivium.adapters.store import LabelStore, pair_keys
from trivium.domain.costs import predicted, relative_costs
from trivium.domain.teaching import with_texts
from trivium.foundation.config import Config
from trivium.foundation.workspace import Workspace
from trivium.pipeline.judging import costs_of, panel_of, store_of


def forecast(workspace: Workspace, config: Config) -> pl.DataFrame:
    """Predict what the stage `annotate` will ask and cost.

    How many pairs each judge passes on is taken from the human-graded pairs that no judge learned
    from; tokens and seconds of a pair are those of the held-out pairs; what the store knows
    already is counted exactly.

    Returns:
        What `domain.costs.predicted` gives.

    Raises:
        WorkspaceError: If the stages before `annotate` are not done.
    """
    from trivium.stages.annotate.cascading import fit_cascade

    answers = workspace.stage("judges").read("answers")
    costs = costs_of(workspace, config)
    fitted, _tuned = fit_cascade(answers, config.annotate, relative_costs(costs), config.run.seed)
    seen = answers.filter(pl.col("part").is_in(["tuning", "agreement"]))
    asked = fitted.asked(seen.filter(pl.col("source") == "human"))
    panel, store = panel_of(workspace, config), store_of(workspace, config)
    pairs, known = 0, Counter[str]()
    for texts in _pairs(workspace, config):
        pairs += len(texts)
        for name, judge in panel.items():
            known[name] += _known(store, judge.identity, texts)
    return predicted(costs, asked, known, pairs)


def _pairs(workspace: Workspace, config: Config) -> Iterator[pl.DataFrame]:
    """The pairs to label with their texts, shard by shard."""
    from trivium.stages.annotate.selection import select

    items = workspace.stage("inputs").read("items").select("item_id", "judge_text")
    queries = workspace.stage("inputs").read("queries").select("query_id", "judge_text")
    folder = workspace.stage("mine")
    shards = -(-folder.read("queries").height // config.run.shard)
    for number in range(shards):
        candidates = pl.read_parquet(folder.shard_path("candidates", number), memory_map=False)
        chosen = select(candidates, config.annotate, config.examples, config.mine)
        yield with_texts(chosen.pairs, items, queries)


def _known(store: LabelStore, identity: str, texts: pl.DataFrame) -> int:
    keys = pair_keys(identity, texts)
    distinct, counts = np.unique(np.array(keys, dtype=object), return_counts=True)
    return int(counts[store.get(distinct.tolist()).rows].sum())
