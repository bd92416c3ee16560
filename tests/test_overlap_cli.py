"""`trivium overlap` on runs of the pipeline, and on runs whose lists are known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import trivium
from merged_runs import merge_runs
from trivium.domain.disagreement import (
    depths_down_to,
    found_by,
    overlap,
    overlap_sums,
    pool_overlaps,
)
from trivium.foundation.errors import InputError
from trivium.foundation.tables import RUNS
from trivium.foundation.workspace import Plan, Workspace, write_table

CHANNELS = ("bm25", "dense")
QUERIES = [f"q{n}" for n in range(8)]
SHALLOW = ("--set", "mine.depth=20", "--set", "run.shard=7", "--set", "mine.channels.bm25.b=0.1")


# --- Runs of the pipeline ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mined(market, cli, tmp_path_factory):
    """Two runs, the later one shallower, in other shards, with another BM25."""
    folder = tmp_path_factory.mktemp("runs")
    lexical = ("--set", 'mine.channels=["dictionary", "bm25"]')
    for name, more in (("first", ("--set", "mine.depth=30")), ("second", SHALLOW)):
        done = cli("mine", folder / name, "-c", market / "trivium.toml", *lexical, *more)
        assert done.code == 0, done.err
    return folder


def candidates_of(run):
    return Workspace(run).stage("mine").read("candidates")


def test_a_run_says_what_its_candidates_say(mined, cli):
    shown = cli("overlap", mined / "second", "--json")
    assert shown.code == 0, shown.err
    printed = json.loads(shown.out)
    candidates, channels = candidates_of(mined / "second"), ("dictionary", "bm25")
    segments = Workspace(mined / "second").stage("inputs").read("queries")
    expected = overlap(candidates, channels, (10, 20), segments)
    assert printed["overlap"] == expected.to_dicts()
    assert {row["segment"] for row in printed["overlap"]} == {"all", "head", "torso", "tail"}
    assert printed["found_by"] == found_by(candidates, channels, segments).to_dicts()


def test_the_tables_show_segments_only_when_asked(mined, cli):
    plain, all_ = (cli("overlap", mined / "first", *more).out for more in ((), ("--by-segment",)))
    assert "dictionary, bm25" in plain
    assert "RBO" in plain
    assert "tail" not in plain
    assert all(name in all_ for name in ("all", "head", "torso", "tail"))


def test_two_runs_are_compared_down_to_the_shallower_depth(mined, cli):
    shown = cli("overlap", mined / "first", mined / "second", "--json")
    assert shown.code == 0, shown.err
    printed = json.loads(shown.out)
    kept = pl.DataFrame(printed["kept"])
    assert kept["depth"].unique().sort().to_list() == [10, 20]
    same = kept.filter(channel="dictionary")
    assert (same["unchanged"] == 1).all()
    changed = kept.filter(channel="bm25", segment="all", depth=20).row(0, named=True)
    first, second = (candidates_of(mined / name) for name in ("first", "second"))
    pairs = [
        set(run.filter(pl.col("rank_bm25") <= 20).select("query_id", "item_id").rows())
        for run in (first, second)
    ]
    assert changed["kept"] == len(pairs[0] & pairs[1])
    assert changed["gone"] == len(pairs[0] - pairs[1])
    assert changed["new"] == len(pairs[1] - pairs[0]) > 0
    assert 0 < changed["rbo"] < 1
    assert printed["queries"]["common"] == first["query_id"].n_unique()
    assert printed["items"] == {"before": 250, "after": 250, "common": 250}


def test_runs_are_compared_as_the_functions_compare_their_candidates(mined, cli):
    first, second = (candidates_of(mined / name) for name in ("first", "second"))
    made = trivium.compare_runs(first, second, depths=[10, 20])
    printed = json.loads(cli("overlap", mined / "first", mined / "second", "--json").out)
    for name in ("kept", "between"):
        table = pl.DataFrame(printed[name], schema=made[name].schema).filter(segment="all")
        assert_frame_equal(table, made[name])


def test_nothing_is_written_but_the_picture(mined, cli, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in mined.rglob("*")}
    picture = tmp_path / "pictures" / "sets.svg"
    drawn = cli("overlap", mined / "first", "--svg", picture)
    assert drawn.code == 0, drawn.err
    assert str(picture) in drawn.err
    root = ElementTree.fromstring(picture.read_text(encoding="utf-8"))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in picture.read_text(encoding="utf-8")
    assert {path: path.stat().st_mtime_ns for path in mined.rglob("*")} == before
    first = picture.read_bytes()
    refused = cli("overlap", mined / "first", "--svg", picture)
    refused.explains(5, ["--overwrite"])
    assert cli("overlap", mined / "first", "--svg", picture, "--overwrite").code == 0
    assert picture.read_bytes() == first


# --- Runs whose lists are known ------------------------------------------------------------------


def write_run(
    root: Path,
    lists: dict[tuple[str, str], list[str]],
    *,
    shard: int = 3,
    texts: dict[str, str] | None = None,
    items: range = range(40),
    depth: int = 10,
    channels: tuple[str, ...] = CHANNELS,
) -> Path:
    """A run in which `mine` is done, of these lists by query and channel."""
    texts = texts or {query: f"words of {query}" for query in QUERIES}
    queries = pl.DataFrame({"query_id": list(texts), "query": list(texts.values())}).sort(
        "query_id"
    )
    segments = [("head", "tail")[n % 2] for n in range(queries.height)]
    inputs, mine = Workspace(root).stage("inputs"), Workspace(root).stage("mine")
    write_table(inputs.table_path("items"), pl.DataFrame({"item_id": [f"i{n:02}" for n in items]}))
    write_table(inputs.table_path("queries"), queries.with_columns(segment=pl.Series(segments)))
    settings = {"mine.depth": depth, "run.shard": shard}
    plan = Plan("mine", settings | {"mine.lexical": ["bm25"], "mine.dense": ["dense"]})
    mine.begin(plan, overwrite=False)
    write_table(mine.table_path("queries"), queries)
    parts = []
    for number, piece in enumerate(queries.iter_slices(shard)):
        rows = [
            (query, item, channel, rank, 1 / rank)
            for query in piece["query_id"]
            for channel in channels
            for rank, item in enumerate(lists.get((query, channel), []), start=1)
        ]
        runs = pl.DataFrame(rows, schema=dict(RUNS.columns), orient="row")
        candidates = merge_runs(runs, channels)
        write_table(mine.shard_path("candidates", number), candidates)
        parts.append((candidates, overlap_sums(candidates, channels, depths_down_to(depth))))
    write_table(mine.table_path("overlap"), pool_overlaps([sums for _, sums in parts]))
    found = found_by(pl.concat([made for made, _ in parts]), channels)
    write_table(mine.table_path("found_by"), found)
    mine.finish(plan, {})
    return root


def lists(dense_like_bm25):
    """BM25 finds items 0-9; the dense channel shares the first so many of them."""
    made = {}
    for n, query in enumerate(QUERIES):
        shared = dense_like_bm25 + n % 2
        made[query, "bm25"] = [f"i{i:02}" for i in range(10)]
        made[query, "dense"] = [f"i{i:02}" for i in [*range(shared), *range(20, 30 - shared)]]
    return made


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    write_run(folder / "before", lists(2))
    write_run(folder / "after", lists(6), shard=5)
    return folder


def test_the_loop_in_which_a_model_mines_for_its_successor_is_visible(known, cli):
    shown = cli("overlap", known / "before", known / "after")
    assert shown.code == 0, shown.err
    line = next(line for line in shown.out.splitlines() if line.startswith("bm25 and dense"))
    assert "25.0% -> 65.0% of their top 10 in common, +40.0 points" in line
    assert line.endswith("more alike than before")
    back = cli("overlap", known / "after", known / "before")
    assert "less alike than before" in back.out
    assert "no clear change" in cli("overlap", known / "before", known / "before").out


def test_segments_of_two_runs(known, cli):
    printed = json.loads(cli("overlap", known / "before", known / "after", "--json").out)
    rows = {row["segment"]: row for row in printed["between"] if row["measure"] == "overlap"}
    assert {name: row["queries"] for name, row in rows.items()} == {"all": 8, "head": 4, "tail": 4}
    assert (rows["head"]["before"], rows["tail"]["before"]) == pytest.approx((0.2, 0.3))
    assert (rows["head"]["after"], rows["tail"]["after"]) == pytest.approx((0.6, 0.7))


def test_queries_that_were_numbered_anew_are_matched_by_their_words(known, cli, tmp_path):
    texts = {f"n{n}": f"Words  of {query}" for n, query in enumerate(reversed(QUERIES))}
    ids = dict(zip(reversed(QUERIES), texts, strict=True))
    anew = {(ids[query], channel): found for (query, channel), found in lists(6).items()}
    write_run(tmp_path / "anew", anew, texts=texts | {"n99": "something else"})
    shown = cli("overlap", known / "before", tmp_path / "anew", "--json")
    printed, expected = (
        json.loads(text)
        for text in (shown.out, cli("overlap", known / "before", known / "after", "--json").out)
    )
    everything = [row for row in expected["between"] if row["segment"] == "all"]
    assert [row for row in printed["between"] if row["segment"] == "all"] == everything
    assert printed["queries"] == {
        "common": 8,
        "by_text": 8,
        "renamed": 0,
        "only_before": 0,
        "only_after": 1,
    }
    said = cli("overlap", known / "before", tmp_path / "anew").err
    assert "8 queries in common, 8 of them by their words" in said
    assert "1 of the later one" in said


def test_channels_of_other_names(known, cli, tmp_path):
    renamed = {(q, {"dense": "tower"}.get(c, c)): found for (q, c), found in lists(6).items()}
    run = write_run(tmp_path / "renamed", renamed, channels=("bm25", "tower"))
    plain = cli("overlap", known / "before", run)
    assert "channels not compared: dense (earlier run), tower (later run)" in plain.err
    named = cli("overlap", known / "before", run, "--channel", "dense=tower", "--json")
    printed = json.loads(named.out)
    assert printed["channels"] == {"bm25": ["bm25", "bm25"], "dense=tower": ["dense", "tower"]}
    assert printed["left_out"] == []


def test_other_catalogs_are_said(known, cli, tmp_path):
    run = write_run(tmp_path / "other", lists(6), items=range(10, 60))
    said = cli("overlap", known / "before", run).err
    assert "catalogs of 40 and 50 items, 30 in common" in said


def test_runs_with_nothing_in_common_are_refused(known, cli, tmp_path):
    strange = write_run(tmp_path / "queries", {}, texts={"x1": "mug", "q1": "hose"})
    cli("overlap", known / "before", strange).explains(3, ["queries of the two runs", "none"])
    strange = write_run(tmp_path / "items", lists(2), items=range(100, 120))
    cli("overlap", known / "before", strange).explains(3, ["items of the two runs"])
    strange = write_run(tmp_path / "channels", {}, channels=("http",))
    cli("overlap", known / "before", strange).explains(3, ["--channel bm25=http"])


def test_runs_that_have_not_mined_are_refused(known, cli, tmp_path):
    cli("overlap", tmp_path / "nowhere").explains(5, ["no such run folder", "trivium mine"])
    unfinished = shutil.copytree(known / "before", tmp_path / "unfinished")
    (unfinished / "mine" / "manifest.json").unlink()
    for words in ((unfinished,), (known / "before", unfinished), (unfinished, known / "before")):
        cli("overlap", *words).explains(5, ["no finished stage 'mine'"])
    earlier = shutil.copytree(known / "before", tmp_path / "earlier")
    path = earlier / "mine" / "overlap.parquet"
    pl.read_parquet(path, memory_map=False).drop("rbo").write_parquet(path)
    cli("overlap", earlier).explains(5, ["of another release", "rbo"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("{0}", "--channel", "a=b"), ["--channel", "two runs"]),
        (("{0}", "{1}", "--svg", "x.svg"), ["--svg", "a single run"]),
        (("{0}", "{1}", "--channel", "dense"), ["'dense'", "dense=new_dense"]),
        (("{0}", "{1}", "--channel", "dense="), ["'dense='"]),
        (("{0}", "{1}", "--channel", "dense=bm25", "--channel", "dense=dense"), ["named twice"]),
        (("{0}", "{1}", "--channel", "tower=dense"), ["no such channel in the earlier run"]),
    ],
)
def test_faulty_words_are_explained(known, cli, words, expected):
    given = [word.format(known / "before", known / "after") for word in words]
    cli("overlap", *given).explains(3, expected)


def test_a_run_that_found_nothing(cli, tmp_path):
    run = write_run(tmp_path / "nothing", {})
    shown = cli("overlap", run)
    assert shown.code == 0, shown.err
    cli("overlap", run, "--svg", tmp_path / "x.svg").explains(3, ["found nothing"])
    compared = cli("overlap", run, run)
    assert compared.code == 0, compared.err


# --- The functions -------------------------------------------------------------------------------


def test_functions_take_pandas_and_say_segments(known):
    candidates = candidates_of(known / "before")
    queries = Workspace(known / "before").stage("inputs").read("queries")
    made = trivium.overlap(candidates.to_pandas(), queries.to_pandas())
    assert_frame_equal(
        pl.from_pandas(made), overlap(candidates, CHANNELS, (10,), queries), check_dtypes=False
    )
    assert set(made["segment"]) == {"all", "head", "tail"}


def test_functions_refuse_what_they_cannot_compare(known):
    candidates = candidates_of(known / "before")
    with pytest.raises(InputError, match="ranks from 1"):
        trivium.overlap(candidates, depths=[10, 0])
    with pytest.raises(InputError, match="none in common"):
        trivium.compare_runs(
            candidates, candidates.with_columns(query_id=pl.lit("x") + pl.col("query_id"))
        )
    with pytest.raises(InputError, match="no such channel"):
        trivium.compare_runs(candidates, candidates, channels={"dense": "tower"})
