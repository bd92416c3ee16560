"""A run with an engine among its channels: checked first, killed in the middle, carried on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conftest import Shop
from engine_servers import SECRET, Request, SearchServer
from trivium.adapters import pacing

CONFIG, DEPENDENCY, INPUT = 4, 6, 3


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_BACKOFF_S", 0.01)
    monkeypatch.setenv("SEARCH_AUTH", SECRET)


class Titles:
    """Finds items of which the title shares words with the query."""

    def __init__(self, items: pl.DataFrame) -> None:
        self._words = {row[0]: {*row[1].lower().split()} for row in items.iter_rows()}

    def __call__(self, request: Request) -> Any:
        asked = {*request.parameters["q"].lower().split()}
        shared = [(item_id, len(asked & words)) for item_id, words in self._words.items()]
        found = [{"id": item_id, "score": score} for item_id, score in shared if score]
        return {"hits": found}


@pytest.fixture
def server(shop: Shop):
    with SearchServer(Titles(shop.table("items").select("item_id", "title"))) as started:
        yield started


def settings(server: SearchServer, **rest: Any) -> tuple[str, ...]:
    engine = {
        "kind": "http",
        "name": "titles",
        "url": f"{server.url}/?q={{query}}&n={{k}}",
        "score": "score",
        "attempts": 2,
        "header_variables": {"Authorization": "SEARCH_AUTH"},
    } | rest
    inner = ", ".join(f"{key} = {toml(value)}" for key, value in engine.items())
    chosen = [f"mine.channels=['dictionary', {{{inner}}}]", "mine.lexical=['dictionary', 'titles']"]
    chosen += ["mine.dense=[]", "run.shard=5", "mine.depth=30"]
    return tuple(word for setting in chosen for word in ("--set", setting))


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)


def candidates(run: Path) -> pl.DataFrame:
    parts = sorted((run / "mine" / "candidates").glob("*.parquet"))
    return pl.concat([pl.read_parquet(part, memory_map=False) for part in parts])


def test_an_engine_that_dies_is_asked_only_for_the_missing_shards(shop, server, cli):
    words = ("-c", shop.config, *settings(server))
    whole = cli("mine", shop.folder / "whole", *words)
    assert whole.code == 0, whole.err
    undisturbed = candidates(shop.folder / "whole")
    assert undisturbed["rank_titles"].drop_nulls().max() <= 30
    asked = [request.parameters["q"] for request in server.requests]

    server.requests.clear()
    server.steps = [""] * 18 + ["500"] * 99
    cli("mine", shop.run, *words).explains(DEPENDENCY, ["channel 'titles'", "what is done stays"])
    done = {*(shop.run / "mine" / "candidates").glob("*.json")}
    assert len(done) >= 2

    server.steps.clear()
    server.requests.clear()
    again = cli("mine", shop.run, *words)
    assert again.code == 0, again.err
    assert candidates(shop.run).equals(undisturbed)
    # One query of the check, and those of the shards that were not done.
    assert len(server.requests) == len(asked) - 5 * len(done)

    server.requests.clear()
    server.steps = ["500"] * 99
    assert cli("mine", shop.run, *words).code == 0
    assert not server.requests  # nothing is left to ask
    written = b"".join(shop.files().values())
    assert b"s3ntinel" not in written


@pytest.mark.slow
def test_the_rows_do_not_depend_on_shards_or_workers(shop, server):
    command = [str(Path(sys.executable).with_name("trivium")), "mine"]
    tables = []
    for name, size, workers in (("a", 5, 1), ("b", 7, 2)):
        more = ["--set", f"run.shard={size}", "--set", f"run.workers={workers}"]
        words = [shop.folder / name, "-c", shop.config, *settings(server), *more]
        done = subprocess.run(
            [*command, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"SEARCH_AUTH": SECRET},
        )
        assert done.returncode == 0, done.stderr
        assert "s3ntinel" not in done.stdout + done.stderr
        tables.append(candidates(shop.folder / name).sort("query_id", "item_id"))
    assert tables[0].equals(tables[1])


def test_a_check_asks_one_query_and_says_what_came(shop, server, cli):
    checked = cli("check", "-c", shop.config, *settings(server))
    assert checked.code == 0, checked.err
    assert "channel titles: " in checked.out
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("step", "rest", "code", "words"),
    [
        ("401", {}, DEPENDENCY, ["status 401"]),
        ("echo:404", {}, DEPENDENCY, ["status 404", "***"]),
        ({"hits": [{"id": "no such item", "score": 1}]}, {}, INPUT, ["'no such item'"]),
        ({"hits": [{"score": 1}]}, {}, DEPENDENCY, ["whose id is None"]),
        ({"found": []}, {"attempts": 1}, DEPENDENCY, ["the setting `hits`"]),
        ("", {"url": "http://127.0.0.1:9/{query}/{k}"}, DEPENDENCY, ["no connection"]),
        ("", {"url": "http://127.0.0.1:9/{query}"}, CONFIG, ["no {k}"]),
        ("", {"hits": "a..b"}, CONFIG, ["JMESPath"]),
    ],
    ids=str,
)
def test_a_check_names_what_is_wrong_with_an_engine(shop, server, cli, step, rest, code, words):
    server.steps = [step]
    result = cli("check", "-c", shop.config, *settings(server, **rest))
    result.explains(code, ["channel 'titles'", *words])
    assert "s3ntinel" not in result.err


def test_a_check_names_all_faults_at_once(shop, server, cli):
    shop.change("items", lambda frame: frame.drop("title"))
    server.steps = ["401"]
    result = cli("check", "-c", shop.config, *settings(server))
    result.explains(INPUT, ["column 'title'", "channel 'titles'", "status 401"])


def test_a_run_is_checked_before_anything_is_written(shop, server, cli):
    server.steps = ["401"]
    result = cli("mine", shop.run, "-c", shop.config, *settings(server))
    result.explains(DEPENDENCY, ["status 401"])
    assert not (shop.run / "mine").exists()


def test_the_local_mode_of_qdrant_is_for_one_worker(shop, cli):
    channel = "{kind = 'qdrant', path = 'q', collection = 'c'}"
    words = ("--set", f"mine.channels=['dictionary', {channel}]", "--set", "run.workers=2")
    result = cli("check", "-c", shop.config, *words)
    result.explains(CONFIG, ["run.workers = 2", "one process"])
