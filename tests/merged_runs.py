"""Runs as the stage merges them: a candidates table of a few lists."""

import polars as pl

from trivium.domain.found_pairs import FoundPairs
from trivium.domain.ids import Ids


def merge_runs(runs, channels):
    """What every channel found for a pair in one row (`tables.candidates_schema`)."""
    queries, items = (Ids(runs[name].unique().sort()) for name in ("query_id", "item_id"))
    found = {name: runs.filter(pl.col("channel") == name) for name in channels}
    return FoundPairs.of(found, queries, items).table()
