from __future__ import annotations

import os
import pickle
import sqlite3
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import polars as pl
import pytest

from trivium.adapters import store as store_module
from trivium.adapters.judges import Answers
from trivium.adapters.ledger import Ledger, Spent
from trivium.adapters.store import Asker, LabelStore, NoStore, pair_keys
from trivium.foundation.errors import WorkspaceError

ASKER = Asker("run", "small", "identity-1", "features")


def some_answers(rows: list[int], seed: int = 0) -> Answers:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(5), len(rows)).astype(np.float32)
    read, written = rng.integers(1, 100, (2, len(rows))).astype(np.int32)
    return Answers(np.array(rows, np.int64), probabilities, read, written)


def some_keys(count: int, identity: str = "identity-1") -> list[bytes]:
    names = [str(n) for n in range(count)]
    return pair_keys(identity, pl.DataFrame({"query_text": names, "item_text": names}))


def assert_same(one: Answers, other: Answers) -> None:
    assert one.rows.tolist() == other.rows.tolist()
    assert one.probabilities.dtype == other.probabilities.dtype == np.float32
    assert one.probabilities.tobytes() == other.probabilities.tobytes()
    assert one.read.tolist() == other.read.tolist()
    assert one.written.tolist() == other.written.tolist()


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore(tmp_path / "deep" / "down" / "labels.sqlite")


def test_a_key_depends_on_every_letter_and_on_where_it_stands():
    triples = [
        ("j", "red mug", "mug"),
        ("k", "red mug", "mug"),
        ("j", "red", " mugmug"),
        ("j", "red mugm", "ug"),
        ("jr", "ed mug", "mug"),
        ("j", "mug", "red mug"),
        ("j", "réd mug", "mug"),
        ("j", "", ""),
    ]
    keys = []
    for judge, query, item in triples:
        pairs = pl.DataFrame({"item_text": [item], "query_text": [query], "item_id": ["1"]})
        keys += pair_keys(judge, pairs)
    assert len(set(keys)) == len(triples)
    assert {len(key) for key in keys} == {32}


def test_what_was_put_is_got_bit_for_bit_and_nothing_else(store: LabelStore):
    keys = some_keys(30)
    put = some_answers([3, 17, 5])
    store.put(ASKER, keys, put, Spent())
    got = store.get(keys)
    order = np.argsort(put.rows)
    assert_same(
        got,
        Answers(put.rows[order], put.probabilities[order], put.read[order], put.written[order]),
    )
    assert len(store.get(some_keys(30, "identity-2")).rows) == 0
    assert store.get([]).probabilities.shape == (0, 5)
    assert store.count() == 3


def test_many_keys_at_once_agree_with_a_plain_dictionary(store: LabelStore):
    keys = some_keys(25_000)
    rng = np.random.default_rng(1)
    kept = rng.permutation(25_000)[:12_345].tolist()
    put = some_answers(kept)
    store.put(ASKER, keys, put, Spent())
    plain = {keys[row]: put.probabilities[n].tobytes() for n, row in enumerate(kept)}
    asked = [keys[row] for row in rng.permutation(25_000)]
    got = store.get(asked)
    assert [asked[row] for row in got.rows] == [key for key in asked if key in plain]
    assert got.probabilities.tobytes() == b"".join(plain[asked[row]] for row in got.rows)


def test_of_two_answers_the_first_is_kept(store: LabelStore):
    keys, first = some_keys(4), some_answers([1, 2], seed=1)
    store.put(ASKER, keys, first, Spent())
    store.put(ASKER, keys, some_answers([1, 2], seed=2), Spent())
    assert_same(store.get(keys), first)


def test_no_answer_is_not_kept_but_paid(store: LabelStore):
    keys, answers = some_keys(3), some_answers([0, 1, 2])
    answers.probabilities[1] = np.nan
    store.claim(ASKER, keys)
    store.put(ASKER, keys, answers, Spent(asked=3, usd=0.5))
    assert store.get(keys).rows.tolist() == [0, 2]
    assert store.ledger("run").usd == 0.5
    assert store.claim(Asker("other", "small", "identity-1"), keys)[1].tolist() == [1]


def test_the_user_can_see_what_is_in_it(store: LabelStore):
    assert store.judges().is_empty()
    other = Asker("run-2", "large", "identity-2", "chat")
    answers = some_answers([0, 1])
    store.put(ASKER, some_keys(2), answers, Spent(seconds=3.0))
    store.put(other, some_keys(1, "identity-2"), some_answers([0]), Spent())
    store.put(
        Asker("run-3", "renamed", "identity-1"), some_keys(9), some_answers([8]), Spent(seconds=1.0)
    )
    table = store.judges()
    assert table["identity"].to_list() == ["identity-1", "identity-2"]
    assert table["name"].to_list() == ["small", "large"]
    assert table["kind"].to_list() == ["features", "chat"]
    assert table["answers"].to_list() == [3, 1]
    assert table["seconds"].to_list() == [4.0, 0.0]
    assert table["read"][0] == answers.read.sum() + some_answers([8]).read[0]
    assert table["first_seen"].str.to_datetime("%Y-%m-%dT%H:%M:%SZ").null_count() == 0


@pytest.mark.parametrize("kind", ["file", "none"])
def test_the_ledger_of_a_run_is_the_sum_of_what_was_booked(store: LabelStore, kind: str):
    kept = store if kind == "file" else NoStore()
    large = Asker("run", "large", "identity-2")
    spent = Spent(2, 1, 3, 10, 5, 0.5, 0.25, {"timeout": 2})
    kept.put(ASKER, some_keys(2), some_answers([0, 1]), spent)
    kept.charge(large, Spent(asked=7, troubles={"cut": 1}))
    kept.charge(ASKER, Spent(reused=4, troubles={"timeout": 1, "malformed": 1}))
    kept.charge(Asker("another run", "small", "identity-1"), Spent(asked=99))
    expected = Ledger()
    expected.add("small", spent + Spent(reused=4, troubles={"timeout": 1, "malformed": 1}))
    expected.add("large", Spent(asked=7, troubles={"cut": 1}))
    assert kept.ledger("run") == expected
    assert list(kept.ledger("run").judges) == ["small", "large"]
    assert kept.ledger("no such run") == Ledger()


def test_without_a_store_everything_is_to_be_asked():
    kept, keys = NoStore(), some_keys(3)
    kept.put(ASKER, keys, some_answers([0]), Spent())
    found, ours = kept.claim(ASKER, keys)
    assert len(found.rows) == len(kept.get(keys).rows) == 0
    assert ours.tolist() == [0, 1, 2]


def test_an_answer_and_its_cost_are_written_together_or_not_at_all(store: LabelStore):
    keys = some_keys(2)
    with pytest.raises(sqlite3.IntegrityError):
        store.put(ASKER, keys, some_answers([0]), Spent(usd=1.0, troubles={None: 1}))
    assert store.count() == 0
    assert store.ledger("run") == Ledger()
    store.put(ASKER, keys, some_answers([0]), Spent(usd=1.0))
    assert store.count() == 1


def test_a_pair_belongs_to_one_asker_until_it_is_answered_or_let_go(store: LabelStore):
    keys, other = some_keys(6), Asker("run-2", "small", "identity-1")
    store.put(ASKER, keys, some_answers([5]), Spent())
    found, ours = store.claim(ASKER, keys[:3])
    assert (found.rows.tolist(), ours.tolist()) == ([], [0, 1, 2])
    found, ours = store.claim(other, keys)
    assert (found.rows.tolist(), ours.tolist()) == ([5], [3, 4])
    assert store.claim(ASKER, keys[:4])[1].tolist() == [0, 1, 2]

    store.put(ASKER, keys, some_answers([1]), Spent())
    found, ours = store.claim(other, keys)
    assert (found.rows.tolist(), ours.tolist()) == ([1, 5], [3, 4])
    store.release(ASKER)
    assert store.claim(other, keys)[1].tolist() == [0, 2, 3, 4]


def test_claims_of_a_dead_process_and_of_a_silent_one_are_void(store: LabelStore):
    keys = some_keys(3)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = ASKER.owner.split(":")[0]
    dead = Asker("run", "small", "identity-1", owner=f"{host}:{ended.pid}:x")
    elsewhere = Asker("run", "small", "identity-1", owner=f"not-{host}:{ended.pid}:x")
    assert store.claim(dead, keys[:1])[1].tolist() == [0]
    assert store.claim(elsewhere, keys[1:2])[1].tolist() == [0]
    assert store.claim(ASKER, keys)[1].tolist() == [0, 2]
    later = store_module.time.time() + store_module._LEASE_S + 1
    with mock.patch.object(store_module.time, "time", return_value=later):
        assert store.claim(ASKER, keys)[1].tolist() == [0, 1, 2]


def test_an_answer_renews_the_claims_of_its_asker(store: LabelStore):
    keys, other = some_keys(2), Asker("run-2", "small", "identity-1")
    start, lease = store_module.time.time(), store_module._LEASE_S
    with mock.patch.object(store_module.time, "time") as clock:
        clock.return_value = start
        store.claim(ASKER, keys)
        clock.return_value = start + 0.9 * lease
        store.put(ASKER, keys, some_answers([0]), Spent())
        clock.return_value = start + 1.8 * lease
        assert store.claim(other, keys)[1].tolist() == []


FILL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_store import Asker, LabelStore, Spent, some_answers, some_keys
print("ready", flush=True)
sys.stdin.readline()
store, keys = LabelStore(Path(sys.argv[2])), some_keys(200)
asker = Asker("run", "small", "identity-1")
for start in range(0, 200, 4):
    ours = store.claim(asker, keys[start : start + 4])[1]
    for row in start + ours:
        store.put(asker, keys, some_answers([row]), Spent(asked=1, usd=0.25))
"""


def test_processes_may_make_and_fill_a_file_at_once(tmp_path: Path):
    path = tmp_path / "labels.sqlite"
    command = [sys.executable, "-c", FILL, str(Path(__file__).parent), str(path)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    writers = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n", writer.stderr.read()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _out, err = writer.communicate(timeout=120)
        assert writer.returncode == 0, err
    store = LabelStore(path)
    assert store.get(some_keys(200)).rows.tolist() == list(range(200))
    assert store.ledger("run").judges["small"] == Spent(asked=200, usd=50.0)


def test_a_store_goes_to_threads_forks_and_other_processes(store: LabelStore):
    from concurrent.futures import ThreadPoolExecutor

    keys = some_keys(64)

    def put(row: int) -> None:
        store.put(ASKER, keys, some_answers([row]), Spent(asked=1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(62)))
    child = os.fork()
    if child == 0:
        put(62)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    pickle.loads(pickle.dumps(store)).put(ASKER, keys, some_answers([63]), Spent(asked=1))
    assert store.get(keys).rows.tolist() == list(range(64))
    assert store.ledger("run").judges["small"].asked == 64


def refused(path: Path, *words: str) -> None:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(WorkspaceError) as error:
        LabelStore(path).get(some_keys(2000))
    for word in (str(path), *words):
        assert word in str(error.value)
    if before is not None:
        assert path.read_bytes() == before


def test_a_file_that_is_no_label_store_is_refused_and_left_alone(tmp_path: Path):
    text = tmp_path / "labels.csv"
    text.write_text("query_id,item_id,grade\n" * 100)
    refused(text, "not a database", ".recover", "annotate.store")

    foreign = tmp_path / "foreign.sqlite"
    with sqlite3.connect(foreign) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    refused(foreign, "another program")

    refused(tmp_path, "a file that can be written")
    refused(text / "labels.sqlite", "a file that can be written")


def test_a_store_of_another_version_is_refused(store: LabelStore, tmp_path: Path):
    path = tmp_path / "deep" / "down" / "labels.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    refused(path, "version 2", "version 1")


def test_a_damaged_store_is_explained(tmp_path: Path):
    path, keys = tmp_path / "labels.sqlite", some_keys(2000)
    LabelStore(path).put(ASKER, keys, some_answers(list(range(2000))), Spent())
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    raw = bytearray(path.read_bytes())
    raw[3 * 4096 :] = b"\xa5" * (len(raw) - 3 * 4096)
    path.write_bytes(raw)
    refused(path, "malformed", ".recover")
