"""A judge behind an endpoint is asked once before anything costly runs."""

from __future__ import annotations

import socket

import pytest

from chat_server import ChatServer
from conftest import Shop
from trivium.adapters import pacing
from trivium.foundation.errors import DependencyError

JUDGE = '[[annotate.judges]]\nkind = "chat"\nmodel = "m"\nurl = "{}"\nprompt = "p.txt"\n\n'
CROSS_ENCODER = '[[annotate.judges]]\nkind = "cross_encoder"'


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(pacing, "_BACKOFF_S", 0.01)


@pytest.fixture
def nowhere() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return f"http://127.0.0.1:{held.getsockname()[1]}/v1"


def list_chat(shop: Shop, url: str) -> None:
    """Put a chat judge before the last one, asked with words that the server can read."""
    (shop.folder / "p.txt").write_text("{query}|{item}")
    shop.edit(CROSS_ENCODER, JUDGE.format(url) + CROSS_ENCODER)


@pytest.mark.parametrize(
    ("script", "mode"), [("says:3", "json"), ("logprobs:3=.6,4=.3", "logprobs")]
)
def test_check_says_how_a_chat_judge_answers(cli, shop, script, mode):
    with ChatServer(first=script) as server:
        list_chat(shop, server.url)
        checked = cli("check", "-c", shop.config)
        assert checked.code == 0, checked.err
        assert f"judge chat: answers with {mode}, " in checked.out
        assert 1 <= len(server.requests) <= 2


def test_a_run_does_not_start_without_its_endpoint(cli, shop, nowhere):
    list_chat(shop, nowhere)
    words = (nowhere, "no reply: 2 x connection", "start the server")
    for command in (("check",), ("run", shop.run)):
        cli(*command, "-c", shop.config).explains(DependencyError.exit_code, words)
    assert not list(shop.run.rglob("*.parquet"))


def test_stages_that_need_no_judge_run_without_the_endpoint(cli, shop, nowhere):
    list_chat(shop, nowhere)
    made = cli("run", shop.run, "-c", shop.config, "--until", "inputs")
    assert made.code == 0, made.err
    assert (shop.run / "inputs" / "items.parquet").exists()
