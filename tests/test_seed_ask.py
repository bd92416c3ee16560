"""`trivium seed ask`: a chat model rates a sheet, pays once, and says so in every row."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from chat_server import ChatServer
from trivium.adapters import pacing
from trivium.adapters.rating_files import write_sheet

PROMPT = "{query}|{item}"


@pytest.fixture(autouse=True)
def no_long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_BACKOFF_S", 0.01)


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    scripts = ['json:{"grade": 3}', 'json:{"grade": 0}', "says:cheese"]
    pairs = pl.DataFrame(
        {
            "query_id": ["q1", "q1", "q2"],
            "item_id": ["007", "8", "9"],
            "query": scripts,
            "title": ["mug", "hose", "fan"],
            "why": ["", "", ""],
        }
    )
    write_sheet(tmp_path / "to_rate.csv", pairs)
    (tmp_path / "prompt.txt").write_text(PROMPT)
    return tmp_path / "to_rate.csv"


def test_nothing_is_asked_where_nothing_can_come_of_it(sheet, cli, tmp_path: Path) -> None:
    with ChatServer(first='json:{"grade": 3}') as server:
        words = ("--url", server.url, "--model", "small", "--store", tmp_path / "store")
        (tmp_path / "there.csv").write_text("kept")
        there = cli("seed", "ask", sheet, *words, "--output", tmp_path / "there.csv")
        (tmp_path / "torn.csv").write_text("query_id,item_id,query,grade\nq1,8,hose,\n")
        torn = cli("seed", "ask", tmp_path / "torn.csv", *words, "--output", tmp_path / "a.csv")
    assert "--append" in there.err
    assert "column 'title'" in torn.err
    assert "Traceback" not in torn.err
    assert (there.code, torn.code) == (5, 3)
    assert not (tmp_path / "store" / "chat.json").exists()


def test_a_chat_model_rates_a_sheet_once(sheet, cli, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-the-test")
    with ChatServer(first='json:{"grade": 3}') as server:
        words = ("seed", "ask", sheet, "--url", server.url, "--model", "small")
        words += ("--prompt", sheet.with_name("prompt.txt"), "--store", sheet.with_name("store"))
        first = cli(*words, "--output", sheet.with_name("a.csv"))
        assert first.code == 0, first.err
        asked = [server.asked(script) for script in ('json:{"grade": 3}', 'json:{"grade": 0}')]
        again = cli(*words, "--output", sheet.with_name("b.csv"))
        assert again.code == 0, again.err
        assert [server.asked('json:{"grade": 3}'), server.asked('json:{"grade": 0}')] == asked
    assert "2 of 3 pairs rated by small" in first.err
    assert "unanswered: 1" in first.err
    rated = pl.read_csv(sheet.with_name("a.csv"), infer_schema=False)
    assert rated.select("query_id", "item_id", "grade", "rater").rows() == [
        ("q1", "007", "3", "chat small"),
        ("q1", "8", "0", "chat small"),
    ]
    assert rated.equals(pl.read_csv(sheet.with_name("b.csv"), infer_schema=False))
    assert "secret-of-the-test" not in first.err + again.err


def test_an_endpoint_that_is_not_there_is_told(sheet, cli) -> None:
    place = sheet.with_name("a.csv")
    words = ("seed", "ask", sheet, "--url", "http://127.0.0.1:9/v1", "--model", "small")
    failed = cli(*words, "--output", place, "--store", sheet.with_name("store"))
    assert failed.code == 6
    assert "127.0.0.1:9" in failed.err
    assert not place.exists()
