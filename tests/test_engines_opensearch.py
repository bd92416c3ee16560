"""OpenSearch: a real server, and one that answers parts of a request wrongly."""

from __future__ import annotations

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from osmem_server import OsmemServer

from engine_servers import ITEMS, QUERIES, SECRET, Request, SearchServer, plain_runs, word_scores
from trivium.adapters import pacing
from trivium.adapters.channels import build_channel
from trivium.adapters.channels.engines.channel import EngineChannel
from trivium.foundation.config import DataConfig, parse_config
from trivium.foundation.engine_config import OpenSearchConfig
from trivium.foundation.errors import ConfigError, DependencyError, InputError
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import RUNS, validate


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_BACKOFF_S", 0.01)


@pytest.fixture(scope="session")
def cluster():
    """A server with an index of the items, under other ids of its own."""
    with OsmemServer.start() as server, server.clone() as clone:
        lines: list[Any] = []
        for number, (item_id, title) in enumerate(ITEMS.iter_rows()):
            lines += [{"index": {"_id": item_id}}, {"title": title, "item": {"sku": number}}]
        put(f"{clone.url}/shop/_bulk?refresh=true", "".join(json.dumps(x) + "\n" for x in lines))
        yield clone.url


def put(url: str, body: str) -> Any:
    headers = {"Content-Type": "application/x-ndjson"}
    request = urllib.request.Request(url, body.encode(), headers)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def channel(url: str, items: pl.DataFrame = ITEMS, **rest: Any) -> EngineChannel:
    raw = {"kind": "opensearch", "url": url, "index": "shop", "attempts": 3} | rest
    settings = OpenSearchConfig.model_validate(raw)
    made = build_channel(settings, items, MineConfig(), DataConfig())
    assert isinstance(made, EngineChannel)
    return made


def search(url: str, k: int = 10, items: pl.DataFrame = ITEMS, **rest: Any) -> pl.DataFrame:
    made = channel(url, items, **rest)
    try:
        return validate(made.search(QUERIES, k), RUNS)
    finally:
        made.close()


def one_by_one(url: str, k: int) -> list[tuple[Any, ...]]:
    """What plain `_search` requests find."""

    def found(text: str) -> list[tuple[str, float]]:
        body = {"query": {"multi_match": {"query": text, "fields": ["title"]}}, "size": 100}
        hits = put(f"{url}/shop/_search", json.dumps(body))["hits"]["hits"]
        return [(hit["_id"], hit["_score"]) for hit in hits]

    return plain_runs("opensearch", k, found)


def as_rows(found: pl.DataFrame) -> list[Any]:
    return [(*row[:4], pytest.approx(row[4], rel=1e-6)) for row in found.rows()]


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_many_searches_in_one_request_find_what_single_ones_find(cluster, batch):
    found = search(cluster, batch=batch)
    assert one_by_one(cluster, 10) == as_rows(found)
    assert found["query_id"].n_unique() == 3
    assert search(cluster, k=1, batch=batch).height == 3


def test_elasticsearch_is_asked_in_the_same_way(cluster):
    found = search(cluster, kind="elasticsearch")
    assert found["channel"].unique().to_list() == ["elasticsearch"]
    assert found.drop("channel").equals(search(cluster).drop("channel"))


def test_a_template_says_what_is_searched(cluster, tmp_path):
    body = {"query": {"bool": {"filter": {"match": {"title": "{query}"}}, "must": MATCH}}}
    (tmp_path / "all.json").write_text(json.dumps(body | {"size": "{k}"}))
    found = search(cluster, template=tmp_path / "all.json")
    assert found.filter(pl.col("query_id") == "q1")["item_id"].to_list() == ["i0", "i4"]


MATCH = {"match": {"title": {"query": "{query}", "operator": "and"}}}


def test_the_id_may_be_a_field_of_the_source(cluster):
    catalog = ITEMS.with_columns(item_id=pl.col("item_id").str.strip_prefix("i"))
    found = search(cluster, items=catalog, id_field="item.sku")
    assert found["item_id"].to_list() == [
        row[1].removeprefix("i") for row in search(cluster).rows()
    ]
    with pytest.raises(DependencyError, match="a hit whose id is None"):
        search(cluster, id_field="item.nothing")
    with pytest.raises(InputError, match="that the catalog does not have"):
        search(cluster, items=catalog)


def test_an_index_that_is_not_there_is_explained_at_once(cluster):
    with pytest.raises(DependencyError, match="status 404") as caught:
        search(cluster, index="nowhere")
    for words in (f"channel 'opensearch' at {cluster}, index 'nowhere'", "index_not_found"):
        assert words in str(caught.value)


def test_a_template_that_the_server_refuses_is_explained_at_once(cluster, tmp_path):
    (tmp_path / "t.json").write_text('{"query": {"mach": {"title": "{query}"}}, "size": "{k}"}')
    with pytest.raises(DependencyError, match="unknown query"):
        search(cluster, template=tmp_path / "t.json")
    (tmp_path / "t.json").write_text('{"query": {"match": {"title": "{query}"}}}')
    with pytest.raises(ConfigError, match=r"t\.json\n +got: +no \{k\}"):
        channel(cluster, template=tmp_path / "t.json")
    (tmp_path / "t.json").write_text('["{query}", "{k}"]')
    with pytest.raises(ConfigError, match="no JSON object"):
        channel(cluster, template=tmp_path / "t.json")


# A server that answers parts of a request wrongly


def responses(request: Request) -> Any:
    """What `_msearch` answers."""
    bodies = [json.loads(line) for line in request.body.splitlines()[1::2]]
    texts = [body["query"]["multi_match"]["query"] for body in bodies]
    return {"responses": [good(text) for text in texts]}


def good(text: str) -> dict[str, Any]:
    hits = [{"_id": item_id, "_score": score} for item_id, score in word_scores(text)]
    shards = {"total": 2, "successful": 2, "skipped": 0, "failed": 0}
    return {"timed_out": False, "_shards": shards, "hits": {"hits": hits}, "status": 200}


@pytest.fixture
def server():
    with SearchServer(responses) as started:
        yield started


BUSY = {"error": {"type": "es_rejected_execution_exception", "reason": "queue is full"}}
PASSING: list[Any] = [
    BUSY | {"status": 429},
    BUSY | {"status": 503},
    BUSY,
    good("lamp") | {"timed_out": True},
    good("lamp") | {"_shards": {"total": 2, "successful": 1, "failed": 1}},
    {"status": 200, "took": 3},
    {"status": 200, "hits": {"total": 3}},
    "nothing",
]


@pytest.mark.parametrize("wrong", PASSING, ids=str)
def test_a_part_that_failed_is_asked_again_alone(server, wrong):
    parts = [good(text) for text in QUERIES["text"]]
    server.steps = [{"responses": [parts[0], wrong, *parts[2:]]}]
    assert search(server.url).rows() == plain_runs("opensearch", 10)
    asked = [len(request.body.splitlines()) // 2 for request in server.requests]
    assert asked == [4, 1]


@pytest.mark.parametrize("wrong", PASSING, ids=str)
def test_a_part_that_always_fails_is_an_error_not_an_empty_result(server, wrong):
    server.answer = lambda r: {"responses": [wrong] * (len(r.body.splitlines()) // 2)}
    with pytest.raises(DependencyError, match="no answer in 3 attempts"):
        search(server.url)
    assert len(server.requests) == 3


def test_a_part_that_is_refused_is_an_error_at_once(server):
    parts = [good(text) for text in QUERIES["text"]]
    wrong = {"error": {"reason": "Result window is too large"}, "status": 400}
    server.steps = [{"responses": [*parts[:3], wrong]}]
    with pytest.raises(DependencyError, match="Result window is too large"):
        search(server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [{"responses": []}, {"responses": {}}, {}, [], None], ids=str)
def test_fewer_responses_than_searches_are_asked_again(server, answer):
    server.steps = [answer]
    assert search(server.url).rows() == plain_runs("opensearch", 10)


def test_hits_without_a_score_are_refused(server):
    hits = {"hits": [{"_id": "i1", "_score": None}]}
    server.answer = lambda r: {"responses": [{"hits": hits}] * 4}
    with pytest.raises(DependencyError, match="whose score is None"):
        search(server.url)


def test_credentials_are_sent_and_never_shown(server, monkeypatch):
    monkeypatch.setenv("ES_USER", "shopuser")
    monkeypatch.setenv("ES_PASSWORD", SECRET)
    basic = base64.b64encode(f"shopuser:{SECRET}".encode()).decode()
    user = {"user_variable": "ES_USER", "password_variable": "ES_PASSWORD"}
    key = {"api_key_variable": "ES_PASSWORD"}
    for rest, sent in ((user, f"Basic {basic}"), (key, f"ApiKey {SECRET}")):
        server.requests.clear()
        server.steps = ["echo:401"]
        with pytest.raises(DependencyError, match="status 401") as caught:
            search(server.url, **rest)
        assert server.requests[0].headers["Authorization"] == sent
        for hidden in (SECRET, basic, "shopuser"):
            assert hidden not in str(caught.value)
        broken = {"error": {"reason": sent}, "status": 500}
        server.answer = lambda r, broken=broken: {"responses": [broken] * 4}
        with pytest.raises(DependencyError, match="no answer") as caught:
            search(server.url, **rest)
        for hidden in (SECRET, basic):
            assert hidden not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"index": ""}, "at least 1 character"),
        ({"fields": []}, "at least 1 item"),
        ({"user_variable": "U"}, "user_variable and password_variable together"),
        (
            {"user_variable": "U", "password_variable": "P", "api_key_variable": "K"},
            "user_variable or api_key_variable, not both",
        ),
        ({"templat": "x"}, "did you mean 'template'"),
    ],
    ids=str,
)
def test_settings_of_no_use_are_refused(wrong, words):
    raw = {"kind": "opensearch", "index": "shop"} | wrong
    with pytest.raises(ConfigError, match=words):
        parse_config({"mine": {"channels": [raw]}})
    with pytest.raises(ConfigError, match=r"got: +nothing"):
        parse_config({"mine": {"channels": ["opensearch"]}})


def test_the_template_is_seen_from_the_configuration(tmp_path: Path):
    raw = {"kind": "opensearch", "index": "shop", "template": "t.json"}
    config = parse_config({"mine": {"channels": [raw]}}, base=tmp_path)
    assert config.mine.channel("opensearch").template == tmp_path / "t.json"  # type: ignore[attr-defined]
    assert config.mine.lexical == ["opensearch"]


def test_it_explains_its_request(cluster):
    made = channel(cluster).explain("red mug", [])
    assert json.loads(made.steps["became"][0])["size"] == 500
