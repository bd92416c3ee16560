"""Overlap of the channels of a finished run, and what changed between two runs.

Runs are compared shard by shard of the later one; of the earlier one, only the shards that hold
the same queries are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trivium.domain.disagreement import FOUND_BY, OVERLAP, depths_down_to
from trivium.domain.rank_overlap import ALL
from trivium.domain.run_drift import RunDrift, drift_sums, pool_drift
from trivium.domain.run_match import QueryMatch, match_channels, match_queries
from trivium.foundation.console import progress
from trivium.foundation.errors import InputError, WorkspaceError
from trivium.foundation.tables import channels_of
from trivium.foundation.workspace import StageFolder, Workspace
from trivium.pipeline.shards import shard_of


@dataclass(frozen=True)
class MinedRun:
    """A run whose channels were searched.

    Attributes:
        workspace: Its folder.
        settings: What `mine` was planned with, by dotted name.
    """

    workspace: Workspace
    settings: Mapping[str, Any]

    @classmethod
    def open(cls, root: Path) -> MinedRun:
        """Open a run.

        Raises:
            WorkspaceError: If there is none, or the stage `mine` has not finished in it.
        """
        workspace = Workspace(root)
        manifest = workspace.stage("mine").manifest()
        if manifest is None:
            raise WorkspaceError.of(
                str(root),
                got="no finished stage 'mine'" if root.is_dir() else "no such run folder",
                expected="a run whose channels were searched",
                fix=f"trivium mine {root}",
            )
        return cls(workspace, manifest["plan"]["settings"])

    @property
    def mined(self) -> StageFolder:
        """The folder of the stage."""
        return self.workspace.stage("mine")

    @property
    def depth(self) -> int:
        """Items kept from each channel."""
        return int(self.settings["mine.depth"])

    @property
    def shard(self) -> int:
        """Queries in a shard."""
        return int(self.settings["run.shard"])

    @property
    def queries(self) -> pl.DataFrame:
        """The queries mined, in the order of the shards, with their segment."""
        return _with_segment(self.workspace, self.mined.read("queries"))

    @property
    def item_ids(self) -> pl.Series:
        """The catalog's ids."""
        items = pl.scan_parquet(self.workspace.stage("inputs").table_path("items"))
        return items.select("item_id").collect()["item_id"]

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels searched, in order."""
        first = self.mined.shard_path("candidates", 0)
        return channels_of(pl.DataFrame(schema=pl.read_parquet_schema(first)))

    def table(self, name: str, columns: Sequence[str]) -> pl.DataFrame:
        """A table of the stage.

        Raises:
            WorkspaceError: If an earlier release made it, with other columns.
        """
        table = self.mined.read(name)
        if list(columns) != table.columns:
            raise WorkspaceError.of(
                str(self.mined.table_path(name)),
                got=f"columns {', '.join(table.columns)}, of another release",
                expected=f"columns {', '.join(columns)}",
                fix=f"trivium mine {self.workspace.root} --overwrite",
            )
        return table


@dataclass(frozen=True)
class RunComparison:
    """What two runs have in common, and what changed.

    Attributes:
        queries: The queries of both.
        items: Items of the earlier run's catalog, of the later one's, and of both.
        channels: Name to the channel before and the channel after.
        left_out: Channels of one run alone, as `name (earlier run)`.
        depths: Ranks down to which results count.
        drift: What changed.
        roles: Which of the channels are lexical and which dense, as the later run has it.
    """

    queries: QueryMatch
    items: tuple[int, int, int]
    channels: Mapping[str, tuple[str, str]]
    left_out: Sequence[str]
    depths: Sequence[int]
    drift: RunDrift
    roles: Mapping[str, Sequence[str]]

    @property
    def notes(self) -> list[str]:
        """What to know before the figures are believed, a line each."""
        old, new, both = self.items
        matched, lines = self.queries, []
        lines.append(
            f"{matched.queries.height:,} queries in common, {matched.by_text:,} of them by their "
            f"words; {matched.only_before:,} of the earlier run alone, {matched.only_after:,} of "
            "the later one"
        )
        if matched.renamed:
            lines.append(f"{matched.renamed:,} ids name another query in the later run")
        if both < max(old, new):
            lines.append(
                f"catalogs of {old:,} and {new:,} items, {both:,} in common: what only one has "
                "counts as gone or new"
            )
        if self.left_out:
            lines.append(f"channels not compared: {', '.join(self.left_out)}")
        return lines

    @property
    def loop(self) -> list[str]:
        """Whether dense channels agree more with lexical ones than before, a line a pair."""
        rows = self.drift.between.filter(
            pl.col("difference").is_not_null(),
            segment=ALL,
            depth=max(self.depths),
            measure="overlap",
        )
        return [
            _in_words(row)
            for row in rows.iter_rows(named=True)
            if {self._role(row["a"]), self._role(row["b"])} == {"lexical", "dense"}
        ]

    def _role(self, name: str) -> str:
        own = self.channels[name][1]
        return next((role for role, names in self.roles.items() if own in names), "")


def compare_runs(
    before: Path, after: Path, named: Mapping[str, str] | None = None
) -> RunComparison:
    """Compare what two runs mined for the queries that both have.

    Args:
        before: Folder of the earlier run.
        after: Folder of the later run.
        named: A channel of the earlier run to the one of the later run that it is compared with;
            channels of the same name need none.

    Raises:
        WorkspaceError: If a run is not there or has not mined.
        InputError: If they have no query, item or channel in common.
    """
    old, new = MinedRun.open(before), MinedRun.open(after)
    channels = match_channels(old.channels, new.channels, named or {})
    old_queries, new_queries = old.queries, new.queries
    matched = match_queries(old_queries, new_queries)
    items = _items_of(old, new)
    _refuse_strangers(matched, items)
    depths = depths_down_to(min(old.depth, new.depth))
    used = tuple(zip(*channels.values(), strict=True))
    left_out = [f"{name} (earlier run)" for name in old.channels if name not in used[0]]
    left_out += [f"{name} (later run)" for name in new.channels if name not in used[1]]
    parts = (
        drift_sums(earlier, later, channels, depths, queries, new_queries)
        for earlier, later, queries in _shards(old, new, old_queries, new_queries, matched.queries)
    )
    roles = {role: new.settings[f"mine.{role}"] for role in ("lexical", "dense")}
    drift = pool_drift(parts)
    return RunComparison(matched, items, channels, left_out, depths, drift, roles)


def overlap_of(root: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The tables overlap and found_by of a run.

    Raises:
        WorkspaceError: If the run is not there or has not mined.
    """
    run = MinedRun.open(root)
    return run.table("overlap", list(OVERLAP)), run.table("found_by", list(FOUND_BY))


def _items_of(old: MinedRun, new: MinedRun) -> tuple[int, int, int]:
    before, after = old.item_ids, new.item_ids
    return len(before), len(after), int(before.is_in(after.implode()).sum())


def _shards(
    old: MinedRun,
    new: MinedRun,
    old_queries: pl.DataFrame,
    new_queries: pl.DataFrame,
    matched: pl.DataFrame,
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]]:
    """Candidates before and after of the matched queries of each shard of the later run."""
    lies = old_queries.select(before="query_id").with_row_index("at")
    matched = matched.join(lies, on="before").with_columns(shard=pl.col("at") // old.shard)
    shards = -(-new_queries.height // new.shard)
    for number in progress(range(shards), "comparing, shards", shards):
        asked = shard_of(new_queries, number, new.shard).select(after="query_id")
        queries = matched.join(asked, on="after", how="semi")
        if queries.is_empty():
            continue
        yield (
            _read(old, queries["shard"].unique().sort().to_list(), queries["before"]),
            _read(new, [number], queries["after"]),
            queries.select("before", "after"),
        )


def _read(run: MinedRun, shards: Sequence[int], query_ids: pl.Series) -> pl.DataFrame:
    """The ranks of some queries, from the shards that hold them."""
    ranks = [f"rank_{channel}" for channel in run.channels]
    paths = [run.mined.shard_path("candidates", number) for number in shards]
    asked = pl.col("query_id").is_in(query_ids.implode())
    found = pl.scan_parquet(paths).select("query_id", "item_id", *ranks)
    return found.filter(asked, pl.any_horizontal(pl.col(ranks).is_not_null())).collect()


def _refuse_strangers(matched: QueryMatch, items: tuple[int, int, int]) -> None:
    for what, common, sizes in (
        ("queries", matched.queries.height, (matched.only_before, matched.only_after)),
        ("items", items[2], items[:2]),
    ):
        if not common:
            raise InputError.of(
                f"{what} of the two runs",
                got=f"{sizes[0]:,} and {sizes[1]:,}, none in common",
                expected=f"{what} that both runs have",
                fix="compare runs on the same catalog and with some of the same queries",
            )


def _in_words(row: Mapping[str, Any]) -> str:
    low, high = row["ci_low"], row["ci_high"]
    if low is None or low <= 0 <= high:
        change = "no clear change"
    else:
        change = "more alike than before" if low > 0 else "less alike than before"
    interval = "" if low is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return (
        f"{row['a']} and {row['b']}: {row['before']:.1%} -> {row['after']:.1%} of their top "
        f"{row['depth']} in common, {100 * row['difference']:+.1f} points{interval}: {change}"
    )


def _with_segment(workspace: Workspace, queries: pl.DataFrame) -> pl.DataFrame:
    """The queries with the segment that they have there or in the inputs, null if in neither."""
    if "segment" in queries.columns:
        return queries
    known = workspace.stage("inputs").read("queries").select("query_id", "segment")
    return queries.join(known, on="query_id", how="left", maintain_order="left")
