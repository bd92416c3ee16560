"""The run channel: what another system has found already, read from files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl

from trivium.adapters.channels.run_blocks import blocks, matching_files
from trivium.adapters.channels.run_rows import RowCheck
from trivium.adapters.channels.run_store import run_store
from trivium.foundation.channel_config import RunFilesConfig
from trivium.foundation.channel_section import ChannelSection
from trivium.foundation.config import DataConfig
from trivium.foundation.errors import Fault, InputError, TriviumError, collect
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import RUNS

CHECKED_WHOLE = 1 << 26
"""Bytes of files up to which `check_run_files` reads all of them; ours, some seconds' worth."""


class RunFilesChannel:
    """Results of another system, by query_id: the texts of the queries are not read.

    Ranks are counted anew by (-score, item_id) among the items of the catalog, so where ranks and
    scores of a file contradict each other the scores count, as in trec_eval.
    """

    def __init__(
        self,
        *,
        items: pl.DataFrame,
        settings: RunFilesConfig,
        config: MineConfig,
        data: DataConfig,
        cache: Path | None,
    ) -> None:
        self.name = settings.name
        self._scratch = None if cache else tempfile.TemporaryDirectory(prefix="trivium-run-")
        place = cache or Path(self._scratch.name)  # type: ignore[union-attr]
        self._store = run_store(settings, items["item_id"], place)

    def search(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Look the results of each query up; see `Channel.search`."""
        found = self._store.read(queries["query_id"], k)
        return found.with_columns(channel=pl.lit(self.name)).select(list(RUNS.columns))

    def check(self, queries: pl.DataFrame) -> list[str]:
        """Say what the files hold for some queries, and what was left out of them.

        Args:
            queries: Column query_id.

        Raises:
            InputError: If they hold nothing for any of the queries.
        """
        facts, held = self._store.facts, self._store.queries()["query_id"]
        asked = queries["query_id"]
        common = int(asked.is_in(held.implode()).sum())
        if not common and len(asked):
            raise InputError.of(
                f"channel '{self.name}'",
                got=f"results for {len(held):,} queries such as {held[0]!r}, for none of the "
                f"{len(asked):,} queries asked, such as {asked[0]!r}",
                expected="the query_id of data.queries",
                fix="map the ids, or name their column in the channel's columns",
            )
        lines = [
            f"channel '{self.name}': {facts['rows']:,} results, of {common:,} of "
            f"{len(asked):,} queries"
        ]
        if facts["unknown_items"]:
            lines.append(f"{facts['unknown_items']:,} left out, of items not in the catalog")
        if facts["contradicting"]:
            lines.append(f"{facts['contradicting']:,} ranks contradict scores, which count")
        return ["; ".join(lines)]


def check_channels(
    channels: Sequence[ChannelSection],
    items: pl.DataFrame,
    queries: pl.DataFrame,
    cache: Path | None,
) -> list[str]:
    """Convert the files of all run channels, and say what they hold; see `RunFilesChannel.check`.

    Args:
        channels: Of any kind.
        items: Column item_id.
        queries: Column query_id.
        cache: Where the converted files are kept.

    Raises:
        InputError: With every fault of every channel.
    """

    def checked(settings: RunFilesConfig) -> list[str]:
        channel = RunFilesChannel(
            items=items, settings=settings, config=MineConfig(), data=DataConfig(), cache=cache
        )
        return channel.check(queries)

    runs = (settings for settings in channels if isinstance(settings, RunFilesConfig))
    return [line for lines in collect([partial(checked, run) for run in runs]) for line in lines]


def check_run_files(
    settings: RunFilesConfig, items: pl.DataFrame, queries: pl.DataFrame
) -> list[str]:
    """Check files before anything is mined: small ones whole, the beginning of large ones.

    Args:
        settings: The channel's.
        items: Column item_id.
        queries: Column query_id, the queries to mine.

    Raises:
        InputError: With every fault found.
    """
    files = matching_files(settings.files)
    if sum(path.stat().st_size for path in files if path.is_file()) <= CHECKED_WHOLE:
        return check_channels([settings], items, queries, None)
    check, faults = RowCheck(settings, items["item_id"]), list[Fault]()
    for path in files:
        try:
            check.sound(next(blocks(path, settings.columns)).rows, path)
        except TriviumError as error:
            faults += error.faults
    if faults := [*faults, *check.faults]:
        raise InputError(*faults)
    return [f"channel '{settings.name}': {len(files)} file(s), their beginnings checked"]
