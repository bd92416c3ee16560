"""Memory and speed of the three indexes of the dense channel, over random unit vectors.

Random vectors are the worst case of approximate indexes: no two of them are near. So each index is
also measured on vectors near a space of 32 dimensions, as those of texts are. Each runs in a
process of its own, on one thread; the vectors lie in a file. The last line of stdout is one JSON
object: for each index its recall at 500, milliseconds of processor time a query, seconds of it to
build, megabytes of its file, and the most memory of the process (`peak`), of which `private` is not
the mapped file. Flat search is measured beside faiss's, both in turn.

Example: bench/dense.py --quick
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.adapters.indexes.kept import open_index, recall
from trivium.domain.nearest import VectorTable
from trivium.foundation.channel_config import DenseConfig

DIMENSION, K, BLOCK = 384, 500, 1 << 16
INDEXES = ("flat", "hnsw", "ivf_pq")
KINDS = ("random", "near")
Vectors = NDArray[np.float32]


def units(n: int, seed: int, kind: str) -> Vectors:
    """Unit vectors in no order, or near a space of few dimensions as those of texts are."""
    rng = np.random.default_rng(seed)
    made = rng.standard_normal((n, DIMENSION), dtype=np.float32)
    if kind == "near":
        few = np.random.default_rng(0).standard_normal((32, DIMENSION), dtype=np.float32)
        few /= np.float32(32**0.5)
        made = rng.standard_normal((n, 32), dtype=np.float32) @ few + np.float32(0.2) * made
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def write(path: Path, n: int, kind: str) -> None:
    """Write vectors, a block at a time."""
    with path.open("wb") as file:
        for begin in range(0, n, BLOCK):
            units(min(BLOCK, n - begin), 1 + begin, kind).tofile(file)


def memory_mb() -> dict[str, float]:
    """The most this process has held, and what it now holds besides mapped files."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = dict(re.findall(r"^(VmHWM|RssAnon):\s+(\d+) kB", status, re.MULTILINE))
    return {"peak_mb": int(found["VmHWM"]) / 1024, "private_mb": int(found["RssAnon"]) / 1024}


def milliseconds(work: Callable[[], Any], queries: int, runs: int) -> float:
    """Median processor time of some runs, after one that warms up."""
    work()
    times = []
    for _ in range(runs):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return 1000 * statistics.median(times) / queries


def measure(path: Path, index: str, queries: int, runs: int, kind: str) -> dict[str, float]:
    """Build an index over a file of vectors, search it, and say what that took."""
    vectors = np.memmap(path, dtype=np.float32, mode="r").reshape(-1, DIMENSION)
    table = VectorTable.of(vectors, np.arange(len(vectors)))
    asked = units(queries, 0, kind)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        opened = open_index(table, "bench", DenseConfig(index=index), K, Path(folder))
        figures = {"open_s": time.process_time() - begin}
        figures["file_mb"] = sum(p.stat().st_size for p in Path(folder).glob("*.faiss")) / 1e6
        nearest = opened.index.nearest
        figures["query_ms"] = milliseconds(lambda: nearest(asked, K), queries, runs)
        figures |= memory_mb()
        figures["recall"] = recall(table, opened.index, K)
        if index == "flat":
            figures |= beside_faiss(vectors, asked, nearest, runs)
    return figures


def beside_faiss(
    vectors: Vectors, asked: Vectors, nearest: Callable[..., Any], runs: int
) -> dict[str, float]:
    """Speed of faiss's flat index over ours, in turn, and whether they find the same."""
    import faiss

    bare = faiss.IndexFlatIP(DIMENSION)
    bare.add(vectors)
    ours, theirs = [], []
    for _ in range(runs):
        theirs.append(milliseconds(lambda: bare.search(asked, K), len(asked), 1))
        ours.append(milliseconds(lambda: nearest(asked, K), len(asked), 1))
    scores = nearest(asked, K).scores.reshape(len(asked), -1)
    equal = np.allclose(scores, bare.search(asked, K)[0], atol=1e-5)
    own, other = statistics.median(ours), statistics.median(theirs)
    return {"faiss_ms": other, "vs_faiss": other / own, "equal": float(equal)}


def main() -> None:
    """Measure each index in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kind", choices=KINDS, nargs="*", default=list(KINDS))
    parser.add_argument("--index", choices=INDEXES, nargs="*", default=list(INDEXES))
    parser.add_argument("--quick", action="store_true", help="20,000 vectors, under a minute")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.file:
        made = measure(given.file, given.index[0], given.queries, given.runs, given.kind[0])
        print(json.dumps(made))
        return
    items = 20_000 if given.quick else given.items
    runs = 1 if given.quick else given.runs
    results: dict[str, float] = {"items": items, "dimension": DIMENSION, "k": K}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.f32"
        for kind in given.kind:
            write(file, items, kind)
            for index in given.index:
                results |= one(file, index, kind, given.queries, runs)
    print(json.dumps({key: round(value, 4) for key, value in results.items()}))


def one(file: Path, index: str, kind: str, queries: int, runs: int) -> dict[str, float]:
    """Run this script anew for one index, and print a line of what it measured."""
    own = [sys.executable, __file__, "--file", str(file), "--index", index, "--kind", kind]
    own += ["--queries", str(queries), "--runs", str(runs)]
    done = subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    told = "  ".join(f"{key} {value:,.3f}" for key, value in figures.items())
    print(f"{kind:<8} {index:<7} {told}", flush=True)
    return {f"{kind}_{index}_{key}": value for key, value in figures.items()}


if __name__ == "__main__":
    main()
