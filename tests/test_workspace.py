"""A run's folder: plans, atomic writes, what is set aside, what is damaged, who holds it."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from trivium import __version__
from trivium.foundation.config import parse_config
from trivium.foundation.errors import WorkspaceError
from trivium.foundation.workspace import (
    Plan,
    StageFolder,
    Workspace,
    fingerprint,
    read_json,
    write_atomically,
    write_json,
    write_table,
)
from trivium.pipeline.plans import READS, STAGES, Planner
from trivium.pipeline.runner import status

PLAN = Plan("mine", {"mine.depth": 100}, {"synonyms[0]": "aa"}, {"inputs": "k1"})
OTHER = Plan("mine", {"mine.depth": 50}, {"synonyms[0]": "aa"}, {"inputs": "k1"})


def finished(folder, plan=PLAN, word="first"):
    folder.begin(plan, overwrite=False)
    (folder.path / "result.txt").write_text(word)
    folder.finish(plan, {"rows": {"candidates": 3}, "seconds": 1.0})


def texts(root):
    return {str(p.relative_to(root)): p.read_text() for p in sorted(root.rglob("result.txt"))}


# Plans


@pytest.mark.parametrize(
    "other",
    [
        Plan("train", PLAN.settings, PLAN.inputs, PLAN.upstream),
        OTHER,
        Plan("mine", PLAN.settings, {"synonyms[0]": "bb"}, PLAN.upstream),
        Plan("mine", PLAN.settings, PLAN.inputs, {"inputs": "k2"}),
        Plan("mine", {**PLAN.settings, "mine.queries": 0}, PLAN.inputs, PLAN.upstream),
    ],
)
def test_whatever_changes_the_result_changes_the_key(other):
    assert other.key != PLAN.key


def test_the_order_of_the_settings_does_not_change_the_key():
    pairs = [("b", 1), ("a", [1, 2])]
    assert Plan("x", dict(pairs)).key == Plan("x", dict(reversed(pairs))).key
    assert len(PLAN.key) == 16


def test_changes_are_told_in_words():
    now = Plan("mine", {"depth": 50, "new": "x"}, {"queries[0]": "bb"}, {"inputs": "k2"})
    was = Plan("mine", {"depth": 100, "old": None}, {"queries[0]": "aa"}, {"inputs": "k1"})
    assert now.changes_since(was.as_dict()) == [
        "depth: 100 -> 50",
        "new: None -> 'x'",
        "input queries[0] changed",
        "stage inputs changed",
    ]
    assert now.changes_since(now.as_dict()) == []
    assert now.changes_since(json.loads(json.dumps(now.as_dict()))) == []


BODY = [{"kind": "cross_encoder", "model": "some/body"}]


def plans_of(**sections):
    return Planner(parse_config({"annotate": {"judges": BODY}} | sections)).plans


def changed_stages(**sections):
    base, now = plans_of(), plans_of(**sections)
    return [stage for stage in STAGES if base[stage].key != now[stage].key]


@pytest.mark.parametrize(
    ("sections", "first"),
    [
        ({"data": {"item_text": "{title} {brand}"}}, "inputs"),
        ({"split": {"seed": 0.4, "train": 0.3}}, "inputs"),
        ({"run": {"seed": 1}}, "inputs"),
        ({"mine": {"depth": 7}}, "mine"),
        ({"annotate": {"judges": [BODY[0] | {"epochs": 7}]}}, "judges"),
        ({"annotate": {"background": 0.7, "judges": BODY}}, "judges"),
        ({"annotate": {"risk": 0.2, "judges": BODY}}, "annotate"),
        ({"annotate": {"pairs_per_query": 7, "judges": BODY}}, "annotate"),
        ({"train": {"model": "another/tower"}}, "judges"),
        ({"annotate": {"judges": [BODY[0] | {"usd_per_hour": 7}]}}, "annotate"),
        ({"examples": {"random_negatives": 7}}, "examples"),
        ({"train": {"scale": 7}}, "train"),
        ({"evaluate": {"resamples": 7}}, "evaluate"),
        ({"report": {"title": "x"}}, "report"),
    ],
)
def test_a_changed_setting_makes_its_stage_and_those_after_it_stale(sections, first):
    changed = changed_stages(**sections)
    assert changed[0] == first
    assert changed[-1] == "report"
    readers = {first}
    for stage in STAGES[STAGES.index(first) + 1 :]:
        readers |= {stage} if readers & set(READS[stage].upstream) else set()
    assert readers <= set(changed)


def test_settings_of_the_machine_change_nothing():
    assert changed_stages(run={"workers": 8}) == []
    stored = {"judges": BODY, "store": "labels.sqlite", "max_budget": 7.0}
    assert changed_stages(annotate=stored) == []


def test_a_changed_file_or_model_changes_the_plan(tmp_path):
    def plans():
        data = {"items": "items.csv", "synonyms": "s.txt"}
        judge = {"kind": "chat", "model": "m", "prompt": "prompt.txt"}
        sections = {"data": data, "mine": {"model": str(tmp_path / "tower")}}
        sections["annotate"] = {"judges": [judge]}
        return Planner(parse_config(sections, base=tmp_path)).plans

    (tmp_path / "tower").mkdir()
    (tmp_path / "items.csv").write_text("item_id,title\n1,mug\n")
    files = [("items.csv", "inputs"), ("s.txt", "mine"), ("tower/weights.bin", "mine")]
    files.append(("prompt.txt", "judges"))
    for name, first in files:
        before = plans()
        (tmp_path / name).write_text("other")
        after = plans()
        assert next(s for s in STAGES if before[s].key != after[s].key) == first
        (change, *_rest) = after[first].changes_since(before[first].as_dict())
        assert change.startswith("input ")


def test_the_model_and_prompt_of_another_packages_judge_are_its_own():
    judge = {"kind": "oracle", "name": "o", "model": "accounts/some/model", "prompt": "rate it"}
    assert not any(" o" in name for name in plans_of(annotate={"judges": [judge]})["judges"].inputs)


def test_a_missing_file_or_model_is_planned_not_raised(tmp_path):
    data = {"items": "nowhere.csv"}
    sections = {"data": data, "mine": {"model": "package:no_such_tower/model"}}
    plans = Planner(parse_config(sections, base=tmp_path)).plans
    assert plans["inputs"].inputs == {"items[0]": "absent", "trivium": __version__}
    assert plans["mine"].inputs["mine.model"] == "absent"


# Writing


def test_a_writer_that_fails_leaves_no_file(tmp_path):
    def fails(place):
        place.write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_atomically(tmp_path / "deep" / "table.parquet", fails)
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_writer_that_fails_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": "é"})
    with pytest.raises(TypeError):
        write_atomically(path, lambda place: place.write_text(None))
    assert read_json(path) == {"a": "é"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_half_a_file(tmp_path):
    path, seen = tmp_path / "a.txt", []

    def writes(place):
        place.write_text("half")
        seen.append(path.exists())
        place.write_text("whole")

    write_atomically(path, writes)
    assert (seen, path.read_text()) == ([False], "whole")


def test_equal_tables_have_equal_bytes(tmp_path):
    table = pl.DataFrame({"query_id": ["a", "b"] * 50, "rank": range(100)})
    for name in ("a", "b"):
        write_table(tmp_path / f"{name}.parquet", table.clone())
    assert fingerprint(tmp_path / "a.parquet") == fingerprint(tmp_path / "b.parquet")


def test_a_table_is_read_from_its_file_or_its_shards_in_order(tmp_path):
    folder = StageFolder(tmp_path / "mine")
    shards = [pl.DataFrame({"n": [n, n + 1]}) for n in range(12)]
    for number in reversed(range(12)):
        write_table(folder.shard_path("candidates", number), shards[number])
    assert_frame_equal(folder.read("candidates"), pl.concat(shards))
    write_table(folder.table_path("queries"), shards[3])
    assert_frame_equal(folder.read("queries"), shards[3])
    with pytest.raises(WorkspaceError, match=r"(?s)no such table.*--until mine"):
        folder.read("labels")


# Stages


def test_the_states_of_a_stage(tmp_path):
    folder = StageFolder(tmp_path / "mine")
    assert folder.state(PLAN) == ("missing", [])
    folder.begin(PLAN, overwrite=False)
    assert folder.state(PLAN) == ("unfinished", [])
    assert folder.manifest() is None
    folder.finish(PLAN, {"rows": {}})
    assert folder.state(PLAN) == ("done", [])
    assert folder.state(OTHER) == ("stale", ["mine.depth: 100 -> 50"])
    assert folder.manifest() == {"key": PLAN.key, "plan": PLAN.as_dict(), "rows": {}}


def test_an_unfinished_stage_of_another_plan_is_stale(tmp_path):
    folder = StageFolder(tmp_path / "mine")
    folder.begin(OTHER, overwrite=False)
    assert folder.state(PLAN) == ("stale", ["mine.depth: 50 -> 100"])


def test_the_same_plan_carries_on(tmp_path):
    folder = StageFolder(tmp_path / "mine")
    folder.begin(PLAN, overwrite=False)
    (folder.path / "result.txt").write_text("half")
    folder.begin(PLAN, overwrite=False)
    assert texts(tmp_path) == {"mine/result.txt": "half"}


def test_stale_results_are_set_aside_and_never_overwritten(tmp_path):
    folder = StageFolder(tmp_path / "mine")
    plans = [PLAN, OTHER, PLAN, OTHER]
    for number, plan in enumerate(plans):
        finished(folder, plan, f"result {number}")
    assert texts(tmp_path) == {
        "mine/result.txt": "result 3",
        "superseded/mine-1/result.txt": "result 0",
        "superseded/mine-2/result.txt": "result 1",
        "superseded/mine-3/result.txt": "result 2",
    }
    assert read_json(tmp_path / "superseded" / "mine-1" / "manifest.json")["key"] == PLAN.key


def test_overwriting_deletes_what_is_stale_or_done(tmp_path):
    folder = StageFolder(tmp_path / "mine")
    for plan in (OTHER, PLAN):
        finished(folder, OTHER)
        folder.begin(plan, overwrite=True)
        assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["plan.json"]
        assert folder.state(plan)[0] == "unfinished"
        shutil.rmtree(folder.path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_no_stage_wrote_are_left_alone(tmp_path, overwrite):
    folder = StageFolder(tmp_path / "train")
    folder.path.mkdir()
    (folder.path / "model.bin").write_text("precious")
    with pytest.raises(WorkspaceError, match="files that trivium did not write"):
        folder.begin(PLAN, overwrite=overwrite)
    assert (folder.path / "model.bin").read_text() == "precious"
    (tmp_path / "report").write_text("a file")
    with pytest.raises(WorkspaceError, match="files that trivium did not write"):
        StageFolder(tmp_path / "report").begin(PLAN, overwrite=overwrite)


def test_a_stage_killed_before_its_plan_was_written_begins_again(tmp_path):
    folder = StageFolder(tmp_path / "mine")
    folder.path.mkdir()
    (folder.path / ".plan.json.4711.tmp").write_text("{")
    folder.begin(PLAN, overwrite=False)
    assert folder.state(PLAN)[0] == "unfinished"


@pytest.mark.parametrize("name", ["plan.json", "manifest.json"])
@pytest.mark.parametrize("damage", [b"", b'{"key": ', b"[1, 2]", b"3", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path, name, damage):
    folder = StageFolder(tmp_path / "mine")
    finished(folder)
    (folder.path / name).write_bytes(damage)
    with pytest.raises(WorkspaceError) as error:
        folder.state(PLAN)
    (fault,) = error.value.faults
    assert fault.where == str(folder.path / name)
    assert "damaged" in fault.got
    assert fault.fix == "delete the stage's folder and run again"


def test_status_tells_each_stage(tmp_path):
    config = parse_config({"annotate": {"judges": BODY}})
    plans = Planner(config).plans
    workspace = Workspace(tmp_path)
    finished(workspace.stage("inputs"), plans["inputs"])
    finished(workspace.stage("mine"), OTHER)
    workspace.stage("judges").begin(plans["judges"], overwrite=False)
    rows = {row.stage: row for row in status(workspace, config)}
    assert list(rows) == list(STAGES)
    assert [rows[stage].state for stage in STAGES[:4]] == ["done", "stale", "unfinished", "missing"]
    assert rows["inputs"].manifest["rows"] == {"candidates": 3}
    assert "mine.depth: 50 -> 500" in rows["mine"].why
    assert "stage inputs changed" in rows["mine"].why
    assert (rows["judges"].why, rows["judges"].manifest) == ([], None)


# Holding the folder


def test_the_folder_is_held_by_one_at_a_time(tmp_path):
    run = Workspace(tmp_path / "runs" / "a")
    with run.locked():
        (run.root / "kept.txt").write_text("x")
        with pytest.raises(WorkspaceError, match="another process"), run.locked():
            pytest.fail("held twice")
        with Workspace(tmp_path / "runs" / "b").locked():
            pass
    with run.locked():
        pass


def test_the_folder_is_let_go_after_an_error(tmp_path):
    run = Workspace(tmp_path / "run")
    with run.locked():
        (run.root / "kept.txt").write_text("x")
    with pytest.raises(ZeroDivisionError), run.locked():
        raise ZeroDivisionError
    with run.locked():
        assert (run.root / "kept.txt").exists()


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path):
    made, there = Workspace(tmp_path / "made"), Workspace(tmp_path / "there")
    there.root.mkdir()
    for run in (made, there):
        with pytest.raises(ZeroDivisionError), run.locked():
            raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("x")
    for root in (tmp_path / "run", tmp_path / "run" / "deeper"):
        with pytest.raises(WorkspaceError, match="name another run folder"):
            Workspace(root).locked().__enter__()
