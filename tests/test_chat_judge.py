"""The chat judge against servers that behave, and one that misbehaves in every way."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import math
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from chat_server import ChatServer
from trivium.adapters import pacing
from trivium.adapters.judges import Answers, collect
from trivium.adapters.judges.chat import ChatJudge
from trivium.adapters.judges.chat_answers import smoothed
from trivium.foundation.errors import ConfigError, DependencyError
from trivium.foundation.judge_config import ChatConfig

endpoint = importlib.import_module("trivium.adapters.judges.chat_endpoint")

KEY = "sk-secret-0123456789"
NO_GRADES = np.zeros(0, np.int64)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    monkeypatch.setattr(pacing, "_BACKOFF_S", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def server():
    with ChatServer() as started:
        yield started


@pytest.fixture
def prompt(tmp_path) -> Path:
    path = tmp_path / "prompt.txt"
    path.write_text("{query}|{item}")
    return path


def pairs(*queries: str) -> pl.DataFrame:
    """Pairs whose queries are scripts for the server."""
    items = [f"item {n}" for n in range(len(queries))]
    return pl.DataFrame({"query_text": queries, "item_text": items}, schema_overrides=TEXTS)


TEXTS = {"query_text": pl.String, "item_text": pl.String}


def settings(server: ChatServer, prompt: Path, **rest: object) -> ChatConfig:
    usual = {"url": server.url, "model": "m", "prompt": prompt, "attempts": 3, "timeout_s": 20}
    return ChatConfig(**(usual | rest))


def fitted(config: ChatConfig) -> ChatJudge:
    return ChatJudge.fit(pairs(), NO_GRADES, config, seed=0, folder=Path("unused"), earlier={})


def asked(server: ChatServer, prompt: Path, *queries: str, **rest: object) -> Answers:
    answers = collect(fitted(settings(server, prompt, **rest)), pairs(*queries))
    for row in answers.probabilities:
        assert np.isnan(row).all() or row.sum() == pytest.approx(1, abs=1e-6)
    return answers


# A server that behaves


def test_log_probabilities_are_used_where_the_first_answer_has_them(server, prompt):
    server.first = "logprobs:3=.5,4=.5"
    script = "logprobs:2=0.5, 2=0.25,1=0.125,0=0.0625,3=0.03125,4=0.03125"
    answers = asked(server, prompt, script, "says:3;logprobs:4=1.0")
    assert answers.probabilities[0] == pytest.approx([0.0625, 0.125, 0.75, 0.03125, 0.03125])
    assert answers.probabilities[1].tolist() == [0, 0, 0, 0, 1]
    assert answers.troubles == {"no_logprobs": 1}
    assert all(request["logprobs"] for request in server.requests)
    assert not any("response_format" in request for request in server.requests)
    assert answers.read.tolist() == [100, 200]
    assert answers.written.tolist() == [2, 4]
    assert server.keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize("first", ["says:3", "400", "logprobs:sorry=.9,3=.1"])
def test_json_is_asked_for_where_it_has_none(server, prompt, first):
    server.first = f"{first};says:3"
    judge = fitted(settings(server, prompt))
    assert judge.mode == "json"
    answers = collect(judge, pairs('json:{"grade": 4, "confidence": 0.9}', "says:1"))
    assert answers.probabilities[0] == pytest.approx(smoothed(4, 0.9))
    assert answers.probabilities[1] == pytest.approx(smoothed(1))
    schema = server.requests[-1]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["grade"]["enum"] == [0, 1, 2, 3, 4]
    assert "logprobs" not in server.requests[-1]


def test_log_probabilities_that_must_be_there_are_missed_at_once(server, prompt):
    with pytest.raises(DependencyError, match="without log-probabilities"):
        fitted(settings(server, prompt, answer="logprobs"))
    server.first = "says:3;400"
    with pytest.raises(DependencyError, match="status 400"):
        fitted(settings(server, prompt, answer="logprobs"))
    server.first = "logprobs:Sure=.9,3=.1"
    assert fitted(settings(server, prompt, answer="logprobs")).mode == "logprobs"


def test_tokens_are_estimated_where_none_are_reported(server, prompt):
    server.usage = False
    judge = fitted(settings(server, prompt))
    some = pairs("says:3", "json:" + json.dumps({"grade": 3, "why": "x" * 400}))
    answers = collect(judge, some)
    texts = [f"{query}|{item}" for query, item in some.rows()]
    assert judge.tokens(some).tolist() == [math.ceil(len(text) / 4) for text in texts]
    assert answers.read.tolist() == judge.tokens(some).tolist()
    assert answers.written.tolist() == [1, math.ceil(len(some["query_text"][1][5:]) / 4)]


def test_no_pairs_need_no_request(server, prompt):
    judge = fitted(settings(server, prompt))
    before = len(server.requests)
    assert list(judge.answers(pairs())) == []
    assert judge.tokens(pairs()).shape == (0,)
    assert len(server.requests) == before


def test_what_a_pair_gets_does_not_depend_on_its_company(server, prompt):
    judge = fitted(settings(server, prompt, concurrency=7))
    some = pairs(*(f"says:{n % 5}" for n in range(60)))
    whole = collect(judge, some)
    shuffled = some.sample(fraction=1.0, shuffle=True, seed=1)
    alone = collect(judge, shuffled)
    order = [int(item.split()[1]) for item in shuffled["item_text"]]
    assert (alone.probabilities == whole.probabilities[order]).all()
    assert whole.probabilities.argmax(axis=1).tolist() == [n % 5 for n in range(60)]


def test_many_are_asked_at_a_time_but_never_more_than_the_limit(server, prompt):
    server.delay_s = 0.05
    judge = fitted(settings(server, prompt, concurrency=4))
    answers = list(judge.answers(pairs(*["says:3"] * 30)))
    assert server.most == 4
    assert sorted(int(answer.rows[0]) for answer in answers) == list(range(30))
    assert all(len(answer.rows) == 1 for answer in answers)


def test_requests_keep_to_the_rate(server, prompt):
    judge = fitted(settings(server, prompt, requests_per_minute=1200))
    start = time.monotonic()
    collect(judge, pairs("500;says:3", *["says:3"] * 8))
    assert time.monotonic() - start >= 9 * 60 / 1200


def test_a_caller_may_be_inside_a_loop(server, prompt):
    async def inside() -> Answers:
        return asked(server, prompt, "says:2")

    assert asyncio.run(inside()).probabilities[0].argmax() == 2


def test_what_is_saved_decides_the_answers_and_comes_back(server, prompt, tmp_path):
    config = settings(server, prompt)
    judge = fitted(config)
    judge.save(tmp_path)
    prompt.unlink()
    other = config.model_copy(update={"concurrency": 2, "api_key_variable": "OTHER", "model": "n"})
    loaded = ChatJudge.load(tmp_path, other, {})
    assert loaded.config == other.model_copy(update={"model": "m"})
    assert (loaded.prompt, loaded.mode) == (judge.prompt, judge.mode)
    (tmp_path / "again").mkdir()
    loaded.save(tmp_path / "again")
    written = (tmp_path / "chat.json").read_bytes()
    assert written == (tmp_path / "again/chat.json").read_bytes()
    assert json.loads(written) == {
        "url": server.url,
        "model": "m",
        "prompt": "{query}|{item}",
        "mode": "json",
    }
    assert collect(loaded, pairs("says:4")).probabilities[0].argmax() == 4
    assert server.keys == {f"Bearer {KEY}", "Bearer no-key"}


# A server that misbehaves


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("429", "rate_limit"),
        ("429:0", "rate_limit"),
        ("500", "server_error"),
        ("503", "server_error"),
        ("408", "server_error"),
        ("cut", "connection"),
        ("half", "connection"),
        ("html", "malformed"),
        ("list", "malformed"),
        ("empty", "empty"),
        ("null", "empty"),
        ("error", "empty"),
        ("says:", "empty"),
        ("says:I cannot grade this", "malformed"),
        ("says:7", "malformed"),
        ("says:3 or 4", "malformed"),
        ('json:{"grade": 3', "malformed"),
    ],
)
def test_every_trouble_is_counted_tried_again_and_given_up(server, prompt, step, kind):
    once, ever = f"{step};says:2", step
    answers = list(fitted(settings(server, prompt)).answers(pairs(once, ever)))
    by_row = {int(answer.rows[0]): answer for answer in answers}
    assert by_row[0].probabilities[0] == pytest.approx(smoothed(2))
    assert by_row[0].troubles == {kind: 1}
    assert np.isnan(by_row[1].probabilities).all()
    assert by_row[1].troubles == {kind: 3, "unanswered": 1}
    assert (server.asked(once), server.asked(ever)) == (2, 3)


def test_a_server_that_hangs_is_timed_out(server, prompt):
    answers = asked(server, prompt, "hang;says:1", "hang", "says:4", timeout_s=0.5, attempts=2)
    assert answers.probabilities[[0, 2]].argmax(axis=1).tolist() == [1, 4]
    assert np.isnan(answers.probabilities[1]).all()
    assert answers.troubles == {"timeout": 3, "unanswered": 1}


def test_several_troubles_share_the_attempts(server, prompt):
    script = "500;says:what;cut;says:3"
    assert np.isnan(asked(server, prompt, script).probabilities).all()
    fresh = asked(server, prompt, "429;says:what;cut;says:3", attempts=4)
    assert fresh.probabilities[0].argmax() == 3
    assert fresh.troubles == {"rate_limit": 1, "malformed": 1, "connection": 1}
    assert fresh.read[0] == 200


def test_only_an_answer_without_a_grade_makes_it_draw_another(server, prompt):
    asked(server, prompt, "500;says:what;says:4")
    drawn = [(request["temperature"], request["seed"]) for request in server.requests[-3:]]
    assert drawn == [(0.0, 0), (0.0, 0), (0.5, 1)]


def test_retry_after_holds_all_requests(server, prompt):
    judge = fitted(settings(server, prompt, concurrency=1))
    collect(judge, pairs("429:1;says:3", "says:2"))
    *_, refused, again, other = server.arrivals
    assert min(again, other) - server.replies[-3] >= 1
    assert refused < server.replies[-3]


def test_a_long_wait_stops_the_run(server, prompt):
    judge = fitted(settings(server, prompt))
    with pytest.raises(DependencyError, match="to be tried again in 86400 s"):
        collect(judge, pairs("429:86400"))
    with pytest.raises(DependencyError, match="kept are not paid for twice"):
        collect(judge, pairs("429:insufficient_quota"))


@pytest.mark.parametrize(
    ("status", "word"), [("400", "model's name"), ("401", "OPENAI_API_KEY"), ("404", "url")]
)
def test_a_refusal_is_not_tried_again(server, prompt, status, word):
    judge = fitted(settings(server, prompt))
    before = len(server.requests)
    with pytest.raises(DependencyError) as caught:
        collect(judge, pairs(status))
    assert f"status {status}" in str(caught.value)
    assert word in str(caught.value)
    assert server.url in str(caught.value)
    assert len(server.requests) == before + 1


def test_what_was_answered_before_a_refusal_is_not_lost(server, prompt):
    judge = fitted(settings(server, prompt, concurrency=1))
    answers = judge.answers(pairs("says:1", "says:2", "403", "says:4"))
    assert [int(next(answers).rows[0]) for _ in range(2)] == [0, 1]
    with pytest.raises(DependencyError, match="status 403"):
        next(answers)


def test_an_endpoint_that_is_gone_stops_the_run(server, prompt, monkeypatch):
    monkeypatch.setattr(endpoint, "_LOST_IN_A_ROW", 5)
    judge = fitted(settings(server, prompt, attempts=2, concurrency=2))
    with pytest.raises(DependencyError, match="no reply: 2 x server_error"):
        collect(judge, pairs(*["500"] * 40))
    assert len(server.requests) < 20
    survived = collect(judge, pairs(*["500", "500", "says:3"] * 10))
    assert np.isnan(survived.probabilities).any(axis=1).sum() == 20


def test_an_endpoint_that_is_not_there_is_explained(prompt):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    config = ChatConfig(url=f"http://127.0.0.1:{port}/v1", model="m", prompt=prompt, attempts=2)
    with pytest.raises(DependencyError) as caught:
        fitted(config)
    for words in (config.url, "no reply: 2 x connection", "start the server"):
        assert words in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://here/v1", "http://me:pw@here/v1", ""])
def test_a_faulty_address_is_explained(url):
    with pytest.raises(ConfigError, match="http") as caught:
        fitted(ChatConfig(url=url, model="m"))
    assert "pw" not in str(caught.value)


def test_a_faulty_key_is_explained(server, prompt, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-§\n1")
    with pytest.raises(DependencyError, match="OPENAI_API_KEY") as caught:
        fitted(settings(server, prompt))
    assert "§" not in str(caught.value)


def test_the_key_is_nowhere_to_be_seen(server, prompt, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    judge = fitted(settings(server, prompt))
    judge.save(tmp_path)
    with pytest.raises(DependencyError) as caught:
        collect(judge, pairs("says:3", "429;500;401"))
    assert "Bearer ***" in str(caught.value)
    assert server.keys == {f"Bearer {KEY}"}
    texts = [caplog.text, str(caught.value), repr(caught.value), repr(vars(judge))]
    texts += [path.read_text() for path in tmp_path.iterdir() if path.is_file()]
    assert len(texts) == 6
    assert not any(KEY in text for text in texts)


def test_stopping_early_stops_the_requests(server, prompt):
    judge = fitted(settings(server, prompt, concurrency=3))
    answers = judge.answers(pairs("says:3", *["hang"] * 20))
    assert next(answers).rows.tolist() == [0]
    answers.close()
    assert collect(judge, pairs("says:4")).probabilities[0].argmax() == 4
    assert server.asked("hang") <= 2


def test_ctrl_c_stops_at_once(server, prompt):
    program = f"""
import signal
import polars as pl
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from trivium.adapters.judges.chat import ChatJudge
from trivium.adapters.judges.prompts import load_prompt
from trivium.foundation.judge_config import ChatConfig
config = ChatConfig(url={server.url!r}, model="m", timeout_s=500)
judge = ChatJudge(config, load_prompt(Path({str(prompt)!r}), "chat"), "json")
list(judge.answers(pl.DataFrame({{"query_text": ["hang"] * 9, "item_text": ["i"] * 9}})))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert server.came.wait(60)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode != 0
    assert told.strip().endswith("KeyboardInterrupt")
    assert "destroyed" not in told
