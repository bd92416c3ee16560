"""Losses of the cross-encoder on three shops with human grades: which ranks and agrees best.

python bench/losses.py --data DIR [--pairs 8000] [--seeds 2]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascade import HELD_OUT, TOWER_MODEL, limited, taught_by
from graded_sets import NAMES, load, without_leaks
from trivium.adapters.judges import collect
from trivium.adapters.judges.cross_encoder import CrossEncoderJudge
from trivium.adapters.libraries import quieten
from trivium.domain.agreement import agreement
from trivium.domain.rerank import rerank
from trivium.foundation.judge_config import CrossEncoderConfig

LOSSES = ("cross_entropy", "weighted", "rps")
MEASURES = ("accuracy", "kappa", "spearman", "rmse")


def agreeing(pairs: pl.DataFrame, p: NDArray[np.float64]) -> dict[str, float]:
    """How probabilities of the grades, (pairs, 5), agree with human grades: `MEASURES`."""
    human = pairs["grade"].cast(pl.Int64).to_numpy()
    scores = p @ np.arange(5.0)
    table = agreement(pairs["query_id"], human, p.argmax(axis=1), scores, resamples=2, seed=0)
    found = dict(table.measures.select("measure", "value").iter_rows())
    return {measure: found[measure] for measure in MEASURES}


def measured(judge: CrossEncoderJudge, pairs: pl.DataFrame) -> dict[str, float]:
    """Agreement and reranking of a judge on human-graded pairs, uncalibrated."""
    p = collect(judge, pairs).probabilities.astype(np.float64)
    ranked = rerank(pairs, {"judge": p @ np.arange(5.0)}).per_query.filter(system="judge")
    return agreeing(pairs, p) | {"ndcg10": ranked["value"].mean()}


def main() -> None:
    """Print progress on stderr and one JSON object as the last line of stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, default=os.environ.get("TRIVIUM_DATA"))
    parser.add_argument("--pairs", type=int, default=8000, help="graded pairs to learn from")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="500 pairs, one seed")
    chosen = parser.parse_args()
    if chosen.data is None:
        parser.error("name the folder of real data with --data or TRIVIUM_DATA")
    quieten()
    count, seeds = (500, 1) if chosen.quick else (chosen.pairs, chosen.seeds)
    sets = without_leaks([load(Path(chosen.data), name, 0) for name in NAMES])
    each = {one.name: limited(taught_by(one)) for one in sets}
    teaching = pl.concat([made.of("seed") for made in each.values()])
    figures: dict[str, Any] = {"pairs": count, "seeds": seeds, "queries": HELD_OUT["agreement"]}
    for loss in LOSSES:
        runs: dict[str, list[float]] = {}
        for seed in range(seeds):
            pairs = teaching.sample(min(count, len(teaching)), seed=seed)
            config = CrossEncoderConfig(
                model=TOWER_MODEL, loss=loss, epochs=1.0, learning_rate=1e-4, max_length=64
            )
            grades = pairs["grade"].cast(pl.Int64).to_numpy()
            with tempfile.TemporaryDirectory() as folder:
                judge = CrossEncoderJudge.fit(
                    pairs, grades, config, seed=seed, folder=Path(folder), earlier={}
                )
            for name, made in each.items():
                for measure, value in measured(judge, made.of("agreement")).items():
                    runs.setdefault(f"{name}_{loss}_{measure}", []).append(value)
            print(f"{loss}, seed {seed}: done", file=sys.stderr, flush=True)
        figures |= {name: round(float(np.mean(values)), 4) for name, values in runs.items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
