"""Where the weights of a stacked judge should start: nothing, or a share of the mean of the judges.

Reads what the judges of finished runs answered to held-out pairs with human grades, teaches a
stacked judge with those of some queries, and measures it on the others; means over draws.

    python bench/stacking.py RUN [RUN ...] [--queries 8,20,40,100] [--draws 8]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from losses import agreeing
from trivium.adapters.judges import stacked

POOLS = {"nothing": 0.0, "half": 0.5, "three quarters": 0.75, "the mean": 1.0}


def numbers_of(pairs: pl.DataFrame, names: list[str]) -> NDArray[np.float64]:
    """What a stacked judge reads of some pairs."""
    return stacked.numbers_of([pairs[f"p_{name}"].to_numpy() for name in names])


def measured(
    taught: pl.DataFrame, asked: pl.DataFrame, names: list[str], pool: float
) -> dict[str, float]:
    """Agreement on some pairs of a judge that learned from others."""
    stacked._POOL = pool
    numbers, grades = numbers_of(taught, names), taught["grade"].cast(pl.Int64).to_numpy()
    queries = taught["query_id"].rank("dense").to_numpy()
    strength = stacked._strength(numbers, grades, queries)
    fitted = stacked._regression(numbers, grades, strength)
    p = stacked._weigh(numbers_of(asked, names), *fitted)
    human = asked["grade"].cast(pl.Int64).to_numpy()
    loss = -np.log(p[np.arange(len(human)), human]).mean()
    return {"log_loss": float(loss)} | agreeing(asked, p)


def compared(run: Path, counts: list[int], draws: int) -> dict[str, Any]:
    """The figures of one run, for each number of queries to learn from."""
    pairs = pl.read_parquet(run / "judges" / "answers.parquet").filter(source="human")
    # A stacked judge of the run is not asked: it has learned already.
    names = [c[2:] for c in pairs.columns if c.startswith("p_") and "stacked" not in c]
    queries, figures = pairs["query_id"].unique().sort(), {}
    for count in (count for count in counts if count < len(queries)):
        for name, pool in POOLS.items():
            each = []
            for draw in range(draws):
                some = queries.sample(count, seed=draw)
                inside = pl.col("query_id").is_in(some.implode())
                each.append(measured(pairs.filter(inside), pairs.filter(~inside), names, pool))
            means = {key: round(float(np.mean([e[key] for e in each])), 4) for key in each[0]}
            print(f"{run}: {count} queries, from {name}: {means}", file=sys.stderr, flush=True)
            figures |= {f"{count}_{name.replace(' ', '_')}_{k}": v for k, v in means.items()}
    return figures


def main() -> None:
    """Print progress on stderr and one JSON object as the last line of stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("runs", type=Path, nargs="+", help="with two judges or more")
    parser.add_argument("--queries", default="8,20,40,100", help="to learn from")
    parser.add_argument("--draws", type=int, default=8)
    chosen = parser.parse_args()
    counts = [int(count) for count in chosen.queries.split(",")]
    found = {str(run): compared(run, counts, chosen.draws) for run in chosen.runs}
    print(json.dumps({f"{run}_{key}": v for run, each in found.items() for key, v in each.items()}))


if __name__ == "__main__":
    main()
