"""A shop of forty things in five colours, and human grades: 3 for the thing, 1 for the colour."""

from __future__ import annotations

import numpy as np
import polars as pl

THINGS = ("mug", "kettle", "hose", "lamp", "hammer", "curtain", "chair", "fan")
COLOURS = ("red", "blue", "green", "black", "white")
PARTS = (
    *["seed"] * 8,
    *["calibration"] * 4,
    *["tuning"] * 4,
    *["agreement"] * 4,
    *["train"] * 4,
)
CHANNELS = ("dictionary", "bm25", "dense")


def items() -> pl.DataFrame:
    names = [f"{thing} {colour}" for thing in THINGS for colour in COLOURS]
    ids = [f"i{k:02}" for k in range(len(names))]
    return pl.DataFrame({"item_id": ids, "title": names, "text": names, "judge_text": names})


def queries() -> pl.DataFrame:
    texts = [f"{COLOURS[k % 5]} {THINGS[k % 8]}" for k in range(len(PARTS))]
    ids = [f"q{k:02}" for k in range(len(PARTS))]
    return pl.DataFrame(
        {"query_id": ids, "query": texts, "text": texts, "judge_text": texts, "part": PARTS}
    )


def judgments(
    parts: tuple[str, ...] = ("seed", "calibration", "tuning", "agreement"),
) -> pl.DataFrame:
    catalog, rng, rows = items(), np.random.default_rng(0), []
    for query_id, text, part in queries().select("query_id", "text", "part").iter_rows():
        colour, thing = text.split()
        alike = catalog.filter(pl.col("text").str.starts_with(thing))["item_id"].to_list()
        others = rng.choice(catalog["item_id"].to_numpy(), 10, replace=False).tolist()
        for item_id in sorted({*alike, *others}) if part in parts else []:
            name = catalog["text"][int(item_id[1:])].split()
            rows.append((query_id, item_id, 3 * (name[0] == thing) + (name[1] == colour)))
    schema = {"query_id": pl.String, "item_id": pl.String, "grade": pl.Int8}
    return pl.DataFrame(rows, schema=schema, orient="row")


def random_candidates(catalog: pl.DataFrame, query_ids: list[str], seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    pairs = pl.DataFrame({"query_id": query_ids}).join(catalog.select("item_id"), how="cross")
    ranks = []
    for name in CHANNELS:
        present = rng.random(len(pairs)) < 0.45
        rank = rng.integers(1, 130, len(pairs))
        ranks.append(pl.Series(f"rank_{name}", rank, dtype=pl.Int32).set(pl.Series(~present), None))
    pairs = pairs.with_columns(ranks)
    return pairs.with_columns(
        channels=pl.sum_horizontal(pl.col(f"rank_{c}").is_not_null() for c in CHANNELS).cast(
            pl.Int8
        ),
        tfidf=pl.Series(rng.choice([0.1, 0.2, 0.3, 0.45, 0.6, 0.7], len(pairs)), dtype=pl.Float32),
    )
