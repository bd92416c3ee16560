"""The channel of any HTTP endpoint, and what all engines share, against a server that fails."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from engine_servers import ITEMS, QUERIES, SECRET, Request, SearchServer, hits_of, plain_runs
from trivium.adapters import pacing
from trivium.adapters.channels import build_channel
from trivium.adapters.channels.engines.channel import EngineChannel
from trivium.foundation.config import DataConfig, parse_config
from trivium.foundation.engine_config import HttpConfig
from trivium.foundation.errors import ConfigError, DependencyError, InputError
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import RUNS, validate


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_BACKOFF_S", 0.01)


@pytest.fixture
def server():
    with SearchServer() as started:
        yield started


def channel(server: SearchServer, **rest: Any) -> EngineChannel:
    usual: dict[str, Any] = {
        "url": f"{server.url}/search?q={{query}}&n={{k}}",
        "score": "score",
        "attempts": 3,
        "timeout_s": 10,
    }
    settings = HttpConfig(**(usual | rest))
    made = build_channel(settings, ITEMS, MineConfig(), DataConfig())
    assert isinstance(made, EngineChannel)
    return made


def search(server: SearchServer, k: int = 10, **rest: Any) -> pl.DataFrame:
    made = channel(server, **rest)
    try:
        return validate(made.search(QUERIES, k), RUNS)
    finally:
        made.close()


def one(server: SearchServer, answer: Any, **rest: Any) -> list[tuple[Any, ...]]:
    """Item, rank and score of a single query that is answered so."""
    server.answer = lambda _: answer
    made = channel(server, **rest)
    try:
        return made.search(QUERIES[:1], 10).select("item_id", "rank", "score").rows()
    finally:
        made.close()


@pytest.mark.parametrize("k", [1, 2, 10])
def test_it_finds_what_a_plain_search_finds(server, k):
    assert search(server, k).rows() == plain_runs("http", k)
    assert {request.parameters["n"] for request in server.requests} == {str(k)}


def test_a_body_is_posted_with_every_query_as_it_is(server, tmp_path):
    (tmp_path / "body.json").write_text('{"q": "{query}", "n": "{k}", "x": ["{k} of {{query}}"]}')
    settings = {"method": "POST", "body": tmp_path / "body.json", "url": server.url}
    assert search(server, **settings).rows() == plain_runs("http", 10)
    texts = ['"}, {"q": "', "{k} {query}", "back\\slash\n\ttab", "Größe ½ ☃", "'; DROP"]
    asked = pl.DataFrame({"query_id": list("abcde"), "text": texts})
    server.requests.clear()
    for where in (settings, {}):
        made = channel(server, **where)
        made.search(asked, 7)
        made.close()
    posted = [request.json for request in server.requests if request.body]
    assert sorted(body["q"] for body in posted) == sorted(texts)
    assert {(body["n"], *body["x"]) for body in posted} == {(7, "7 of {query}")}
    got = [request.parameters["q"] for request in server.requests if not request.body]
    assert sorted(got) == sorted(texts)


def test_hits_are_read_by_expressions(server):
    answer = {"result": {"docs": [{"doc": {"sku": 3, "rank": {"bm": 2}}}]}}
    catalog = ITEMS.with_columns(item_id=pl.col("item_id").str.strip_prefix("i"))
    server.answer = lambda _: answer
    settings = {"hits": "result.docs[].doc", "item_id": "sku", "score": "rank.bm"}
    config = HttpConfig(url=f"{server.url}/{{query}}/{{k}}", **settings)
    made = build_channel(config, catalog, MineConfig(), DataConfig())
    assert made.search(QUERIES[:1], 5).rows() == [("q1", "3", "http", 1, 2.0)]


def test_without_scores_the_order_given_counts(server):
    answer = {"hits": [{"id": "i5"}, {"id": "i0"}, {"id": "i5"}, {"id": "i3"}]}
    found = one(server, answer, score=None)
    assert found == [("i5", 1, -1.0), ("i0", 2, -2.0), ("i3", 3, -4.0)]


def test_an_item_found_twice_counts_once_and_ties_are_broken_by_id(server):
    hits = [("i5", 1.0), ("i7", 2.0), ("i5", 3.0), ("i2", 2.0), ("i1", 2.0 + 1e-12)]
    found = one(server, {"hits": [{"id": i, "score": s} for i, s in hits]})
    assert found == [("i5", 1, 3.0), ("i1", 2, 2.0), ("i2", 3, 2.0), ("i7", 4, 2.0)]


def test_no_hits_are_no_rows(server):
    assert one(server, {"hits": []}) == []


WHOLE = ["429:0.05", "429", "500", "503", "408", "hang", "reset", "half", "torn", "html"]
SHAPES = [{"error": "overloaded"}, [1], None, {"hits": {"id": 1}}]


@pytest.mark.parametrize("step", [*WHOLE, *SHAPES], ids=str)
def test_what_may_pass_is_asked_again(server, step):
    server.steps = [step, "", step]
    wait = 0.3 if step == "hang" else 10
    found = search(server, concurrency=1, timeout_s=wait)
    assert found.rows() == plain_runs("http", 10)
    assert len(server.requests) == QUERIES.height + 2


@pytest.mark.parametrize("step", [*WHOLE, *SHAPES], ids=str)
def test_what_does_not_pass_is_explained(server, step):
    server.steps = [step] * 99
    with pytest.raises(DependencyError, match="no answer in 3 attempts: 3 x") as caught:
        search(server, concurrency=1, timeout_s=0.2 if step == "hang" else 10)
    assert f"channel 'http' at {server.url}/search" in str(caught.value)
    assert "?q=" not in str(caught.value)
    # The other queries are not asked on when one is given up.
    assert len(server.requests) <= 3 * QUERIES.height


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("400", "status 400"),
        ("401", "environment variables of the credentials"),
        ("403", "may search"),
        ("404", "correct the address"),
        ("429:9999", "to be tried again in 9999 s"),
    ],
)
def test_what_cannot_pass_is_asked_once(server, step, words):
    server.steps = [step] * 99
    with pytest.raises(DependencyError, match=words):
        search(server, concurrency=1)
    assert len(server.requests) == 1


def test_a_server_that_is_not_there_is_explained():
    with SearchServer() as gone:
        pass
    with pytest.raises(DependencyError, match="3 x no connection"):
        search(gone)


@pytest.mark.parametrize(
    ("hit", "words"),
    [
        ({"id": None, "score": 1}, "whose id is None"),
        ({"score": 1}, "whose id is None"),
        ({"id": "", "score": 1}, "whose id is ''"),
        ({"id": True, "score": 1}, "whose id is True"),
        ({"id": 1.5, "score": 1}, "whose id is 1.5"),
        ("i1", "whose id is None"),
        ({"id": "i1"}, "whose score is None"),
        ({"id": "i1", "score": "3"}, "whose score is '3'"),
        ({"id": "i1", "score": True}, "whose score is True"),
        ({"id": "i1", "score": float("nan")}, "whose score is nan"),
        ({"id": "i1", "score": 1e300}, r"whose score is 1e\+300"),
        ({"id": "i1", "score": 10**400}, "whose score is 1000"),
    ],
)
def test_hits_without_an_id_or_a_score_are_refused(server, hit, words):
    good = {"id": "i0", "score": 1.0}
    with pytest.raises(DependencyError, match=words):
        one(server, {"hits": [good, hit]})


def test_items_that_the_catalog_does_not_have(server, capsys):
    hits = [{"id": i, "score": s} for i, s in (("x1", 9), ("i3", 8), ("x2", 7), ("x2", 6))]
    with pytest.raises(InputError, match=r"3 hits of items .* such as 'x1', 'x2'"):
        one(server, {"hits": hits})
    assert one(server, {"hits": hits}, unknown_items="drop") == [("i3", 1, 8.0)]
    assert (
        "channel 'http': 3 hits left out, of items not in the catalog, such as 'x1', 'x2'"
        in capsys.readouterr().err
    )


def test_as_many_requests_are_in_flight_as_allowed(server):
    server.delay_s = 0.1
    search(server, concurrency=2)
    assert server.most == 2


def test_requests_are_spaced(server):
    search(server, requests_per_second=5)
    came = sorted(request.came for request in server.requests)
    assert came[-1] - came[0] > (len(came) - 1) / 5 - 0.3


def test_retry_after_holds_all_requests(server):
    server.steps = ["429:0.4"]
    search(server, concurrency=1)
    first, *rest = [request.came for request in server.requests]
    assert min(rest) - first > 0.37


def test_a_channel_can_be_closed_and_asked_again(server):
    made = channel(server)
    first = made.search(QUERIES, 3)
    made.close()
    made.close()
    assert made.search(QUERIES, 3).equals(first)
    made.close()


def test_it_works_inside_a_loop(server):
    async def inside() -> pl.DataFrame:
        return search(server)

    assert asyncio.run(inside()).rows() == plain_runs("http", 10)


def test_what_is_found_does_not_depend_on_the_other_queries(server):
    made = channel(server)
    parts = [made.search(part, 5) for part in QUERIES.iter_slices(1)]
    assert pl.concat(parts).equals(made.search(QUERIES, 5))
    assert made.search(QUERIES[:0], 5).schema == dict(RUNS.columns)
    made.close()


def test_it_explains_its_request(server):
    explained = channel(server).explain("red & mug", ["i1"])
    assert explained.steps["became"].to_list() == [
        f"GET {server.url}/search?q=red%20%26%20mug&n=500"
    ]
    assert explained.matches.is_empty()
    assert not server.requests


# Credentials


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    """A secret in the environment, and a look at all that was logged at the end."""
    monkeypatch.setenv("SEARCH_AUTH", f"Bearer {SECRET}")
    caplog.set_level(logging.DEBUG)
    yield {"header_variables": {"Authorization": "SEARCH_AUTH"}}
    assert SECRET not in caplog.text
    assert "sentinel" not in caplog.text.replace(SECRET, "")


@pytest.mark.parametrize(
    "step", ["echo:401", "echo:400", "echo:500", "echo:429", "echo:200", "reset"]
)
def test_no_error_repeats_credentials(server, secret, step, capsys):
    server.steps = [step] * 99
    with pytest.raises(DependencyError) as caught:
        search(server, **secret)
    assert server.requests[0].headers["Authorization"] == f"Bearer {SECRET}"
    shown = repr(caught.value) + str(caught.value) + str(caught.value.__cause__)
    assert "s3ntinel" not in shown + capsys.readouterr().err
    assert base64.b64encode(SECRET.encode()).decode() not in shown
    if "echo" in step and "200" not in step:
        assert "***" in shown


def test_a_redirect_takes_no_credentials_elsewhere(server, secret):
    with SearchServer() as other:
        server.steps = [f"leads:{other.url.replace('//', '//u:s3ntinel@')}/search"] * 9
        with pytest.raises(DependencyError, match=r"307, which leads to 127\.0\.0\.1") as caught:
            search(server, **secret)
    assert "s3ntinel" not in str(caught.value)
    assert not other.requests


def test_credentials_that_are_not_set_are_asked_for(server, monkeypatch):
    monkeypatch.delenv("SEARCH_AUTH", raising=False)
    with pytest.raises(DependencyError, match="environment variable SEARCH_AUTH"):
        channel(server, header_variables={"Authorization": "SEARCH_AUTH"})
    monkeypatch.setenv("SEARCH_AUTH", "s3ntinel\u00e9")
    with pytest.raises(DependencyError, match="characters that no key holds") as caught:
        channel(server, header_variables={"Authorization": "SEARCH_AUTH"})
    assert "s3ntinel" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://user:s3ntinel@host/{query}/{k}"},
        {"url": "http://user:s3n@tinel/x@host/{query}/{k}"},
        {"url": "http://user:s3ntinel" + "x" * 99 + "@host/{query}/{k}"},
        {"url": "user:s3ntinel@host:9200"},
        {"url": "http://host/{query}/{k}?api_key=s3ntinel"},
        {"header_variables": {"Authorization": "Bearer s3ntinel"}},
        {"header_variables": {"Authorization": "s3ntinel-key"}},
    ],
    ids=lambda wrong: str(wrong)[:50],
)
def test_credentials_in_the_settings_are_refused_and_not_repeated(wrong):
    raw = {"kind": "http", "url": "http://host/{query}/{k}", "role": "lexical"} | wrong
    with pytest.raises(ConfigError) as caught:
        parse_config({"mine": {"channels": [raw]}})
    assert "s3n" not in str(caught.value)
    assert "environment variable" in str(caught.value)


# Settings


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"url": "ftp://host/{query}/{k}"}, "an address such as"),
        ({"url": "http:///{query}/{k}"}, "an address such as"),
        ({"url": "http://host:port/{query}/{k}"}, "an address such as"),
        ({"attempts": 0}, "greater than or equal to 1"),
        ({"timeout_s": 0}, "greater than 0"),
        ({"requests_per_second": 0}, "greater than 0"),
        ({"body": "body.json"}, "method = 'POST'"),
        ({"header_variables": {"My Header": "X"}}, "pattern"),
        ({"batch": 3}, "unknown key 'batch'"),
    ],
    ids=str,
)
def test_settings_of_no_use_are_refused(wrong, words):
    raw = {"kind": "http", "url": "http://host/{query}/{k}"} | wrong
    with pytest.raises(ConfigError, match=words):
        parse_config({"mine": {"channels": [raw]}})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"q": "{query}"}', r"no \{k\}"),
        ('{"n": "{k}"}', r"no \{query\}"),
        ('{"q": "{query}", "n": {k}}', "no JSON"),
        ('{"q": "{querry}", "n": "{k}"}', r"unknown \{querry\}"),
        ('{"q": "{query}", "n": "{k}"', "no JSON"),
        (b"\xff", "no JSON"),
        (None, "no such file"),
    ],
    ids=str,
)
def test_templates_of_no_use_are_refused(server, tmp_path, body, words):
    path: Path = tmp_path / "body.json"
    if body is not None:
        path.write_bytes(body if isinstance(body, bytes) else body.encode())
    with pytest.raises(ConfigError, match=words) as caught:
        channel(server, url=server.url, method="POST", body=path)
    assert "body.json" in str(caught.value)


def test_expressions_and_addresses_of_no_use_are_refused(server):
    for setting in ("hits", "item_id", "score"):
        with pytest.raises(ConfigError, match=f"{setting} = 'a..b'"):
            channel(server, **{setting: "a..b"})
    with pytest.raises(ConfigError, match=r"no \{k\}"):
        channel(server, url=f"{server.url}/{{query}}")


@pytest.mark.parametrize("package", ["httpx", "jmespath"])
def test_a_package_that_is_missing_is_named(server, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError, match=r"pip install 'trivium\[engines\]'"):
        channel(server)


def test_the_plain_server_answers_as_the_reference_says(server):
    request = Request("GET", "/search?q=red+mug&n=3", {}, "")
    assert json.loads(json.dumps(hits_of(request)))["hits"]
