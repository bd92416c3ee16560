"""Runs of other systems as channels: every format, every fault, any size, two channels or seven."""

from __future__ import annotations

import gzip
import json
import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import trivium
from trivium.adapters.channels import build_channel, run_blocks, run_store
from trivium.adapters.channels.run_files import RunFilesChannel, check_run_files
from trivium.foundation.channel_config import RunFilesConfig
from trivium.foundation.config import DataConfig, parse_config
from trivium.foundation.errors import ConfigError, InputError
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import RUNS, validate
from trivium.pipeline.plans import Planner
from trivium.stages.mine import mine

N_ITEMS, N_QUERIES = 60, 40
ITEMS = pl.DataFrame({"item_id": [f"i{k:02}" for k in range(N_ITEMS)]}).with_columns(
    title=pl.format("thing {} of colour {}", "item_id", pl.col("item_id").str.tail(1)),
    text=pl.format("thing {} of colour {}", "item_id", pl.col("item_id").str.tail(1)),
)
QUERIES = pl.DataFrame({"query_id": [f"q{k}" for k in range(N_QUERIES)]}).with_columns(
    text=pl.format("thing {}", "query_id")
)

Row = tuple[str, str, int, float]


def results(seed: int = 0, queries: int = N_QUERIES) -> list[Row]:
    """Queries in no order, some with ties, ranks as another system would number them."""
    rng = random.Random(seed)
    rows = []
    for query in rng.sample(range(queries), queries):
        items = rng.sample(ITEMS["item_id"].to_list(), rng.randint(1, 30))
        scores = sorted((rng.choice([1.5, 2.25, rng.random() * 9]) for _ in items), reverse=True)
        places = enumerate(zip(items, scores, strict=True), 1)
        rows += [(f"q{query}", item, rank, score) for rank, (item, score) in places]
    return rows


def plain(rows: list[Row], query_ids: list[str], k: int) -> list[tuple[str, str, int]]:
    found = []
    for query_id in sorted(query_ids):
        own = sorted((-score, item) for query, item, _, score in rows if query == query_id)
        found += [(query_id, item, place) for place, (_, item) in enumerate(own[:k], 1)]
    return found


def write(path: Path, rows: list[Row]) -> Path:
    """A file of results, in the format of its ending."""
    table = pl.DataFrame(rows, schema=["query_id", "item_id", "rank", "score"], orient="row")
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        table.write_parquet(path)
        return path
    if name.endswith((".csv", ".tsv")):
        separator = "\t" if name.endswith(".tsv") else ","
        raw = table.write_csv(separator=separator).encode()
    elif name.endswith(".jsonl"):
        raw = table.write_ndjson().encode()
    else:
        blanks = [" ", "\t", "  ", " \t "]
        lines = (
            blanks[at % 4].join([query, "Q0", item, str(rank), repr(score), "tag"])
            for at, (query, item, rank, score) in enumerate(rows)
        )
        raw = ("\r\n".join(lines) + "\n\n").encode()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def channel(files: list[Path] | Path, cache: Path | None = None, **settings) -> RunFilesChannel:
    section = RunFilesConfig(name="prod", files=files, **settings)
    return build_channel(section, ITEMS, MineConfig(), DataConfig(), cache)


def faults(files: list[Path] | Path, **settings) -> list:
    with pytest.raises(InputError) as error:
        channel(files, **settings)
    return error.value.faults


ENDINGS = ["trec", "trec.gz", "run", "parquet", "csv", "csv.gz", "tsv", "tsv.gz", "jsonl.gz"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("cached", [True, False])
def test_every_format_gives_the_ranking_of_a_plain_sort(tmp_path, ending, cached):
    rows = results()
    made = channel(write(tmp_path / f"prod.{ending}", rows), tmp_path if cached else None)
    asked = QUERIES.head(25)
    for k in (1, 7, 500):
        found = made.search(asked, k)
        assert validate(found, RUNS).equals(found)
        assert found.select("query_id", "item_id", "rank").rows() == plain(
            rows, asked["query_id"].to_list(), k
        )
    scores = {(query, item): score for query, item, _, score in rows}
    for query, item, score in found.select("query_id", "item_id", "score").rows():
        assert score == np.float32(scores[query, item])
    assert set(found["channel"]) == {"prod"}


def test_scores_that_are_one_float_of_32_bits_keep_the_order_of_the_file(tmp_path):
    rows = [("q1", "i01", 2, 0.987654321), ("q1", "i02", 1, 0.987654322)]
    found = channel(write(tmp_path / "r.csv", rows)).search(QUERIES, 9)
    assert found["item_id"].to_list() == ["i02", "i01"]
    assert found["score"].n_unique() == 1


def test_several_files_and_patterns_are_one_run_whatever_is_cut_where(tmp_path, monkeypatch):
    rows = results()
    cuts = {"a.trec": rows[:50], "b.trec.gz": rows[50:333], "c.csv": rows[333:400]}
    for name, part in (cuts | {"d.parquet": rows[400:]}).items():
        write(tmp_path / name, part)
    patterns = [tmp_path / "*.trec*", tmp_path / "[cd].*"]
    whole = channel(patterns).search(QUERIES, 500)
    assert whole.select("query_id", "item_id", "rank").rows() == plain(
        rows, QUERIES["query_id"].to_list(), 500
    )
    monkeypatch.setattr(run_blocks, "BLOCK", 200)
    monkeypatch.setattr(run_blocks, "ROWS", 7)
    monkeypatch.setattr(run_store, "PART", 60)
    monkeypatch.setattr(run_store, "_GROUP", 16)
    cache = tmp_path / "cache"
    made = channel(patterns, cache)
    assert made.search(QUERIES, 500).equals(whole)
    parts = sorted(cache.glob("run-*/part-*.parquet"))
    assert len(parts) > 3
    assert sum(pl.read_parquet(part).height for part in parts) == len(rows)
    shards = [made.search(piece, 500) for piece in QUERIES.sort("query_id").iter_slices(7)]
    assert pl.concat(shards).equals(whole)


def test_a_search_reads_only_the_parts_of_its_queries(tmp_path, monkeypatch):
    monkeypatch.setattr(run_store, "PART", 60)
    made = channel(write(tmp_path / "r.trec", results()), tmp_path / "cache")
    read = []
    scan = pl.scan_parquet
    monkeypatch.setattr(pl, "scan_parquet", lambda paths: read.append(paths) or scan(paths))
    some = QUERIES.sort("query_id").head(3)
    assert set(made.search(some, 500)["query_id"]) == set(some["query_id"])
    assert len(read[0]) <= 2
    assert made.search(pl.DataFrame({"query_id": ["zzz"]}), 5).is_empty()
    assert made.search(QUERIES.clear(), 5).is_empty()
    assert dict(made.search(QUERIES.clear(), 5).schema) == dict(RUNS.columns)


def test_ranks_alone_make_scores_of_one_over_the_rank(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("query_id,item_id,rank\nq1,i03,3\nq1,i01,1\nq1,i05,2\nq1,i04,2.0\n")
    found = channel(path).search(QUERIES, 9)
    assert found.select("item_id", "rank").rows() == [
        ("i01", 1),
        ("i04", 2),
        ("i05", 3),
        ("i03", 4),
    ]
    assert found["score"].to_list() == [np.float32(1 / r) for r in (1, 2, 2, 3)]


def test_columns_are_mapped_and_ids_stay_text(tmp_path):
    path = tmp_path / "r.parquet"
    ids = pl.DataFrame({"item_id": ["7", "007", "8"], "text": "a", "title": "a"})
    pl.DataFrame({"q": [1, 1, 2], "sku": [7, 8, 7], "s": [1, 2, 3]}).write_parquet(path)
    section = RunFilesConfig(
        name="prod", files=path, columns={"query_id": "q", "item_id": "sku", "score": "s"}
    )
    made = build_channel(section, ids, MineConfig(), DataConfig())
    found = made.search(pl.DataFrame({"query_id": ["1", "2"]}), 5)
    assert found.select("query_id", "item_id").rows() == [("1", "8"), ("1", "7"), ("2", "7")]
    path = tmp_path / "zeros.csv"
    path.write_text("query_id,item_id,score\n01,007,1\n")
    made = build_channel(RunFilesConfig(files=path), ids, MineConfig(), DataConfig())
    assert made.search(pl.DataFrame({"query_id": ["01"]}), 5)["item_id"].to_list() == ["007"]


def test_a_quoted_line_break_is_no_end_of_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(run_blocks, "BLOCK", 50)
    rows = results()[:300]
    lines = [f'{q},{i},{s!r},"a, ""b""\nc\n{r}"' for q, i, r, s in rows]
    path = tmp_path / "r.csv"
    path.write_text("query_id,item_id,score,title\n" + "\n".join(lines))
    found = channel(path).search(QUERIES, 500)
    assert found.select("query_id", "item_id", "rank").rows() == plain(
        rows, QUERIES["query_id"].to_list(), 500
    )
    monkeypatch.setattr(run_blocks, "_LONGEST", 100)
    path.write_text('query_id,item_id,score,title\nq1,i01,1,"open\n' + "q1,i02,2,shut\n" * 99)
    assert "not closed" in faults(path)[0].got


def test_ranks_that_contradict_scores_are_counted_and_the_scores_count(tmp_path):
    rows = [("q1", "i01", 1, 5.0), ("q1", "i02", 2, 7.0), ("q1", "i03", 3, 5.0), ("q2", "i1", 1, 1)]
    made = channel(write(tmp_path / "r.trec", rows[:3]))
    assert made.search(QUERIES, 9)["item_id"].to_list() == ["i02", "i01", "i03"]
    (line,) = made.check(QUERIES)
    assert "1 ranks contradict scores" in line
    assert "3 results, of 1 of 40 queries" in line
    (line,) = channel(write(tmp_path / "t.trec", results())).check(QUERIES)
    assert "contradict" not in line


def test_terrier_counts_from_nought_and_is_taken_by_its_scores(tmp_path):
    path = tmp_path / "r.trec"
    path.write_text("q1 Q0 i02 0 3.5 t\nq1 Q0 i01 1 3 t\n")
    assert channel(path).search(QUERIES, 9)["rank"].to_list() == [1, 2]


# Faults


def test_all_faults_of_all_files_are_reported_at_once_with_their_places(tmp_path):
    (tmp_path / "a.trec").write_text(
        "q1 Q0 i01 1 9.5 t\n\nq1 Q0 i02 2\nq1 Q0 i03 x nan t\nq1 Q0 i04 4 high t\n"
        "q1 Q0 i05 5 inf t\nq1 Q0 i06 6 1e300 t\nfive words are too few\nq2 Q0 zzz 1 1 t\n"
    )
    (tmp_path / "b.csv").write_text("query_id,item_id,score\n,i01,1\nq1,,2\nq1,i07,\n")
    (tmp_path / "c.csv").write_text("query_id,sku,score\nq1,i01,1\n")
    (tmp_path / "d.trec").write_text("")
    (tmp_path / "e.jsonl").write_text('{"query_id": "q1", "item_id": "i01"}\n')
    (tmp_path / "f.trec.gz").write_bytes(gzip.compress(b"q1 Q0 i09 1 1 t\n" * 999)[:40])
    (tmp_path / "g.trec").write_bytes("q1 Q0 \xfc 1 1 t\n".encode("latin1"))
    found = {fault.where.removeprefix(f"{tmp_path}/"): fault for fault in faults(tmp_path / "*.*")}
    assert {place: fault.got.split(", such")[0] for place, fault in found.items()} == {
        "a.trec: line 3": "2 lines that are not 'query Q0 item rank score tag'",
        "a.trec: line 4": "3 lines whose score is NaN or infinite",
        "a.trec: line 5": "1 line whose score is not a number",
        "a.trec: line 9": "1 line of items that the catalog does not have",
        "b.csv: row 1": "1 row without query_id",
        "b.csv: row 2": "1 row without item_id",
        "b.csv: row 3": "1 row whose score is not a number",
        "c.csv: column 'item_id'": "columns query_id, sku, score",
        "d.trec": "no rows",
        "e.jsonl: column 'score' or 'rank'": "columns query_id, item_id",
        "f.trec.gz": found["f.trec.gz"].got,
        "g.trec": found["g.trec"].got,
    }
    assert "cannot be read" in found["f.trec.gz"].got
    assert "UTF-8" in found["g.trec"].got
    assert found["a.trec: line 5"].got.endswith("such as 'high'")
    assert found["a.trec: line 9"].got.endswith("such as 'zzz'")
    assert not list(tmp_path.glob("run-*"))


@pytest.mark.parametrize("rank", ["0", "-3", "1.5", "first", ""])
def test_ranks_that_count_are_whole_numbers_from_one(tmp_path, rank):
    path = tmp_path / "r.csv"
    path.write_text(f"query_id,item_id,rank\nq1,i01,1\nq1,i02,{rank}\n")
    (fault,) = faults(path)
    assert fault.where == f"{path}: row 2"
    assert "rank is not a whole number" in fault.got


def test_an_item_twice_for_a_query_is_refused_also_across_files(tmp_path):
    rows = results()
    write(tmp_path / "a.trec", rows[:200])
    write(tmp_path / "b.csv", rows[197:])
    (fault,) = faults([tmp_path / "a.trec", tmp_path / "b.csv"])
    first = min((query, item) for query, item, *_ in rows[197:200])
    assert fault.got.startswith("6 rows that share query and item")
    assert f"query {first[0]!r} and item {first[1]!r}" in fault.got
    at = next(n for n, row in enumerate(rows) if row[:2] == first)
    assert f"a.trec line {at + 1} and b.csv row {at - 196}" in fault.got


def test_scores_in_one_file_and_ranks_in_another_are_no_one_run(tmp_path):
    write(tmp_path / "a.trec", [("q1", "i01", 1, 2.0)])
    (tmp_path / "b.csv").write_text("query_id,item_id,rank\nq2,i01,1\n")
    (fault,) = faults([tmp_path / "a.trec", tmp_path / "b.csv"])
    assert fault.where == str(tmp_path / "b.csv")
    assert "ranks alone" in fault.got


@pytest.mark.parametrize("name", ["absent.trec", "*.nothing", "folder"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (fault,) = faults(tmp_path / name)
    assert fault.where == str(tmp_path / name)
    assert fault.got in {"no such file", "a folder"}


def test_unknown_items_are_dropped_and_counted_where_that_is_asked(tmp_path):
    rows = [("q1", "gone", 1, 9.0), ("q1", "i02", 2, 8.0), ("q3", "old", 1, 1.0)]
    path = write(tmp_path / "r.trec", rows)
    (fault,) = faults(path)
    assert "2 lines of items" in fault.got
    assert 'unknown_items = "drop"' in fault.fix
    made = channel(path, unknown_items="drop")
    assert made.search(QUERIES, 9).select("item_id", "rank").rows() == [("i02", 1)]
    assert "2 left out, of items not in the catalog" in made.check(QUERIES)[0]
    path = write(tmp_path / "s.trec", rows[:1])
    (fault,) = faults(path, unknown_items="drop")
    assert "none of an item of the catalog" in fault.got


def test_ids_that_do_not_match_those_of_the_queries_are_an_error(tmp_path):
    path = write(tmp_path / "r.trec", [("MSM-1", "i01", 1, 2.0)])
    with pytest.raises(InputError, match="'MSM-1', for none of the 40 queries") as error:
        channel(path).check(QUERIES)
    assert "'q0'" in str(error.value)
    config = MineConfig(channels=[{"kind": "run", "name": "prod", "files": [str(path)]}])
    with pytest.raises(InputError, match="'MSM-1'"):
        mine(ITEMS, QUERIES, config)


def test_the_check_reads_small_files_whole_and_large_ones_at_their_beginning(tmp_path, monkeypatch):
    rows = [("q1", f"i{k:02}", k + 1, 50.0 - k) for k in range(50)]
    path = write(tmp_path / "r.trec", [*rows, rows[0]])
    settings = RunFilesConfig(name="prod", files=path)
    with pytest.raises(InputError, match="share query and item"):
        check_run_files(settings, ITEMS, QUERIES)
    monkeypatch.setattr("trivium.adapters.channels.run_files.CHECKED_WHOLE", 100)
    (line,) = check_run_files(settings, ITEMS, QUERIES)
    assert "beginnings" in line
    path.write_text("one two\n" + path.read_text())
    with pytest.raises(InputError, match="line 1"):
        check_run_files(settings, ITEMS, QUERIES)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"files": []}, "at least 1"),
        ({}, "required"),
        ({"files": ["a"], "columns": {"sku": "item_id"}}, "pattern"),
        ({"files": ["a"], "unknown_items": "ignore"}, "'refuse' or 'drop'"),
        ({"files": ["a"], "file": "b"}, "columns, files, kind"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ConfigError) as error:
        parse_config({"mine": {"channels": [{"kind": "run", "name": "prod"} | settings]}})
    assert words in str(error.value)


# The cache


def test_converted_files_are_found_again_until_something_changes(tmp_path, monkeypatch):
    path, cache = write(tmp_path / "r.trec", results()), tmp_path / "cache"
    first = channel(path, cache).search(QUERIES, 500)
    kept = sorted(cache.glob("run-*/"))
    monkeypatch.setattr(run_store, "_convert", None)
    assert channel(path, cache).search(QUERIES, 500).equals(first)
    monkeypatch.undo()
    write(path, results(seed=1))
    assert not channel(path, cache).search(QUERIES, 500).equals(first)
    fewer = build_channel(
        RunFilesConfig(files=path, unknown_items="drop"),
        ITEMS.head(30),
        MineConfig(),
        DataConfig(),
        cache,
    )
    assert set(fewer.search(QUERIES, 500)["item_id"]) <= set(ITEMS["item_id"][:30])
    assert len(sorted(cache.glob("run-*/"))) == len(kept) + 2
    assert not list(cache.glob(".run-*"))


def test_a_killed_conversion_leaves_nothing_that_counts(tmp_path, monkeypatch):
    path, cache = write(tmp_path / "r.trec", results()), tmp_path / "cache"

    def killed(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_store, "_write_parts", killed)
        with pytest.raises(KeyboardInterrupt):
            channel(path, cache)
    assert not [found for found in cache.iterdir() if found.is_dir()]
    (cache / ".run-x.partial").mkdir()
    assert channel(path, cache).search(QUERIES, 1).height


def _height(path: Path, cache: Path) -> int:
    return channel(path, cache).search(QUERIES, 500).height


def test_processes_that_start_at_once_share_one_conversion(tmp_path):
    rows = results()
    path, cache = write(tmp_path / "r.trec", rows), tmp_path / "cache"
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        heights = list(pool.map(_height, [path] * 6, [cache] * 6))
    assert heights == [len(rows)] * 6
    assert len([found for found in cache.iterdir() if found.is_dir()]) == 1


def test_a_changed_file_behind_a_pattern_is_another_plan(tmp_path):
    raw = {"mine": {"channels": [{"kind": "run", "name": "prod", "files": ["*.trec"]}]}}
    write(tmp_path / "a.trec", results())

    def key() -> str:
        return Planner(parse_config(raw, base=tmp_path)).plans["mine"].key

    first = key()
    assert key() == first
    write(tmp_path / "b.trec", results(seed=1))
    second = key()
    write(tmp_path / "b.trec", results(seed=2))
    assert len({first, second, key()}) == 3


# Two channels, and seven


@pytest.mark.parametrize("runs", [2, 7])
def test_two_channels_and_seven_go_all_the_way_to_examples(tmp_path, runs):
    names = [f"engine{k}" for k in range(runs)]
    lexical, dense = names[: runs // 2 + runs % 2], names[runs // 2 + runs % 2 :]
    channels = [
        {"kind": "run", "name": name, "files": [str(write(tmp_path / f"{name}.trec", results(k)))]}
        for k, name in enumerate(names)
    ]
    settings = {"channels": channels, "lexical": lexical, "dense": dense, "depth": 20}
    mined = trivium.mine(
        ITEMS.drop("text"), QUERIES.rename({"text": "query"}), fold=False, **settings
    )
    for k, name in enumerate(names):
        own = mined.filter(pl.col(f"rank_{name}").is_not_null())
        ranks = own.select("query_id", "item_id", f"rank_{name}").sort("query_id", f"rank_{name}")
        assert ranks.rows() == plain(results(k), QUERIES["query_id"].to_list(), 20)
    p = np.zeros((mined.height, 5), dtype=np.float32)
    grades = np.random.default_rng(0).integers(0, 5, mined.height)
    p[np.arange(mined.height), grades] = 1
    labels = mined.select("query_id", "item_id").with_columns(
        pl.Series("grade", grades, dtype=pl.Int8),
        pl.lit(1.0, pl.Float32).alias("confidence"),
        pl.lit("j").alias("judge"),
        pl.Series("p_j", p, dtype=pl.Array(pl.Float32, 5)),
    )
    tables = (mined, labels, ITEMS, QUERIES.rename({"text": "query"}))
    nothing = pl.DataFrame(schema={"query_id": pl.String, "item_id": pl.String, "grade": pl.Int8})
    caps = {"max_positives": 999, "max_negatives": 999, "lexical": lexical, "dense": dense}
    made = trivium.build_examples(*tables, nothing, **caps)
    joined = made.join(mined, on=["query_id", "item_id"], how="left")
    hard = joined.filter(level="hard_positive")
    assert hard.height
    assert (
        hard.select(pl.all_horizontal(pl.col(f"rank_{n}").is_null() for n in dense))
        .to_series()
        .all()
    )
    assert hard.select(pl.min_horizontal(f"rank_{n}" for n in lexical)).to_series().max() <= 50
    assert (joined.filter(level="hard_negative")["channels"] == 1).all()
    assert (joined.filter(level="easy_positive")["channels"] == runs).all()
    rules = {"hard_positive": f"rank_{names[0]} <= 5 AND dense = 0", "hard_negative": "false"}
    other = trivium.build_examples(*tables, nothing, rules=rules, **caps)
    first = other.filter(level="hard_positive").join(mined, on=["query_id", "item_id"])
    assert first.height
    assert first[f"rank_{names[0]}"].max() <= 5
    assert "hard_negative" not in set(other["level"])


def test_a_run_is_mined_beside_built_in_channels_on_the_command_line(shop, cli):
    train, items = shop.table("queries"), shop.table("items")["item_id"]
    rng = np.random.default_rng(0)
    rows = [
        (query, item, rank, 1.0 / rank)
        for query in train["query_id"].sort()[::2]
        for rank, item in enumerate(rng.choice(items.to_numpy(), 30, replace=False), 1)
    ]
    write(shop.folder / "prod.trec.gz", rows)
    shop.edit(
        "[mine]\n",
        '[mine]\nlexical = ["bm25"]\ndense = ["prod"]\nchannels = ["bm25", {kind = "run", '
        'name = "prod", files = ["prod.trec.gz"]}]\n',
    )
    shop.edit("[annotate]\n", '[examples.rules]\nhard_negative = "rank_prod <= 3"\n[annotate]\n')
    assert cli("check", "--config", shop.config).code == 0
    done = cli("run", "--config", shop.config, "--until", "mine", shop.run)
    assert done.code == 0, done.err
    mined = pl.concat([pl.read_parquet(p) for p in sorted(shop.run.rglob("candidates/*.parquet"))])
    asked = pl.read_parquet(shop.run / "mine" / "queries.parquet")["query_id"]
    silent = set(asked) - {row[0] for row in rows}
    assert silent
    assert f"channel 'prod' has nothing for {len(silent)} of {len(asked)} queries" in done.err
    own = mined.filter(pl.col("rank_prod").is_not_null())
    wanted = [(q, i, r) for q, i, r, _ in rows if q in set(asked)]
    assert sorted(own.select("query_id", "item_id", "rank_prod").rows()) == sorted(wanted)
    manifest = json.loads((shop.run / "mine" / "manifest.json").read_text())
    assert manifest["rows"]["queries"] == len(asked)
    shop.edit("rank_prod <= 3", "rank_pro <= 3")
    cli("check", "--config", shop.config).explains(4, ["examples.rules.hard_negative", "rank_prod"])
    shop.edit("rank_pro <= 3", "rank_prod <= 4")
    write(shop.folder / "prod.trec.gz", [("other", items[0], 1, 1.0)])
    for words in (("check",), ("run", shop.run)):
        cli(*words, "--config", shop.config).explains(3, ["channel 'prod'", "'other'"])
