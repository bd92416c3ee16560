"""What annotating would cost, before anything is paid for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from trivium.adapters.judges.panel import Panel
from trivium.adapters.ledger import Prices
from trivium.adapters.store import LabelStore, pair_keys
from trivium.domain.costs import JudgeCost, predicted, relative_costs
from trivium.domain.teaching import with_texts
from trivium.foundation.config import Config
from trivium.foundation.workspace import Workspace
from trivium.pipeline.annotating import YIELDS, drawn_queries
from trivium.pipeline.judging import costs_of, panel_of, store_of


def forecast(workspace: Workspace, config: Config) -> pl.DataFrame:
    """Predict what the stage `annotate` will ask and cost.

    How many pairs each judge passes on is taken from the human-graded pairs that no judge learned
    from, and so are the tokens of a pair; seconds, and which of the tokens are written, are those
    of every answer in the store; what the store knows already is counted exactly, or, before a
    pilot has said which pairs follow it, as if those were spread evenly.

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
    return predicted(_as_asked(costs, panel, store, config), asked, known, pairs)


def _as_asked(
    costs: Mapping[str, JudgeCost], panel: Panel, store: LabelStore, config: Config
) -> dict[str, JudgeCost]:
    """Costs with the seconds and the price that each judge's answers had when it was asked."""
    seen = {row["identity"]: row for row in store.judges().to_dicts()}
    asked = dict(costs)
    for judge in config.annotate.judges:
        row, cost = seen.get(panel[judge.name].identity), costs[judge.name]
        if row is None:
            continue
        usd = Prices.of(judge).usd(row["read"], row["written"], 0.0)
        a_token = usd / max(row["read"] + row["written"], 1)
        seconds = row["seconds"] / row["answers"]
        asked[judge.name] = replace(cost, usd=cost.tokens * a_token, seconds=seconds)
    return asked


def _pairs(workspace: Workspace, config: Config) -> Iterator[pl.DataFrame]:
    """The pairs to label with their texts, shard by shard."""
    items = workspace.stage("inputs").read("items").select("item_id", "judge_text")
    queries = workspace.stage("inputs").read("queries").select("query_id", "judge_text")
    folder, yields = workspace.stage("mine"), _learned(workspace, config)
    config = config.for_catalog(len(items))
    drawn = drawn_queries(workspace, config)
    shards = -(-folder.read("queries").height // config.run.shard)
    for number in range(shards):
        candidates = pl.read_parquet(folder.shard_path("candidates", number), memory_map=False)
        for part in _phases(candidates, drawn, config, yields):
            yield with_texts(part, items, queries)


def _phases(
    candidates: pl.DataFrame, drawn: pl.DataFrame, config: Config, yields: pl.DataFrame | None
) -> Iterator[pl.DataFrame]:
    """The pairs of the pilot, then those of the other queries."""
    from trivium.stages.annotate.selection import select

    first = candidates.join(drawn, on="query_id", how="semi", maintain_order="left")
    others = candidates.join(drawn, on="query_id", how="anti", maintain_order="left")
    for some, known in ((first, None), (others, yields)):
        sections = (config.annotate, config.examples, config.mine)
        yield select(some, *sections, yields=known, seed=config.run.seed).pairs


def _learned(workspace: Workspace, config: Config) -> pl.DataFrame | None:
    """The yields that the run's pilot has taught, if it has had one under these settings."""
    from trivium.pipeline.plans import Planner

    folder = workspace.stage("annotate")
    state, _why = folder.state(Planner(config).plans["annotate"])
    known = config.annotate.pilot and state in {"done", "unfinished"}
    return folder.read(YIELDS) if known and folder.table_path(YIELDS).exists() else None


def _known(store: LabelStore, identity: str, texts: pl.DataFrame) -> int:
    keys = pair_keys(identity, texts)
    distinct, counts = np.unique(np.array(keys, dtype=object), return_counts=True)
    return int(counts[store.get(distinct.tolist()).rows].sum())
