"""Whatever is wrong with a run: a clear message, the documented status, and nothing lost."""

from __future__ import annotations

import pickle
import subprocess
import sys

import polars as pl
import pytest

from trivium.foundation.errors import (
    ConfigError,
    DependencyError,
    InputError,
    TriviumError,
    WorkspaceError,
    combined,
)

INPUT, CONFIG, WORKSPACE, DEPENDENCY, USAGE = 3, 4, 5, 6, 2
UNTIL_INPUTS = ("--until", "inputs")


def test_the_statuses_are_those_that_are_documented():
    kinds = (InputError, ConfigError, WorkspaceError, DependencyError)
    assert tuple(kind.exit_code for kind in kinds) == (INPUT, CONFIG, WORKSPACE, DEPENDENCY)
    for kind in kinds:
        assert f"Exit status {kind.exit_code}" in (kind.__doc__ or "")


@pytest.mark.parametrize("more", [(), ("--overwrite",)])
def test_a_broken_new_table_leaves_the_earlier_results_alone(shop, cli, more):
    run = ("run", shop.run, "--config", shop.config, *UNTIL_INPUTS)
    assert cli(*run).code == 0
    before = shop.results()
    shop.change("items", lambda frame: frame.drop("title"))
    cli(*run, *more).explains(INPUT, ["column 'title'"])
    assert shop.results() == before


def test_a_broken_setting_leaves_the_earlier_results_alone(shop, cli):
    run = ("run", shop.run, "--config", shop.config)
    assert cli(*run, *UNTIL_INPUTS).code == 0
    before = shop.files()
    for bad in ("mine.channels=['solr']", "mine.model=package:no_such_tower/model"):
        assert cli(*run, "--until", "mine", "--set", bad).code in {CONFIG, DEPENDENCY}
        assert shop.files() == before


def test_too_few_judged_queries_are_found_before_anything_is_trained(shop, cli):
    keep = shop.table("judgments")["query_id"].unique().sort()[:8].to_list()
    few = pl.col("query_id").is_in(keep)
    for name in ("judgments", "truth"):
        shop.change(name, lambda frame: frame.filter(few))
    for command in (("check",), ("run", shop.run)):
        words = ["queries of the part 'calibration'", "judged queries", "under [split]"]
        cli(*command, "--config", shop.config).explains(INPUT, words)
    assert not shop.run.exists()
    assert cli("run", shop.run, "--config", shop.config, *UNTIL_INPUTS).code == 0


def test_a_part_without_queries_is_found_before_anything_is_mined(shop, cli):
    shop.edit("validation = 0.05", "validation = 0.0")
    shop.edit("test = 0.3", "test = 0.35")
    words = ["queries of the part 'validation'", "none", "raise split.validation"]
    cli("run", shop.run, "--config", shop.config).explains(INPUT, words)
    assert not shop.run.exists()


def without_relevant(part):
    """The truth with no relevant item for the queries of a part, as an earlier run dealt them."""
    return lambda frame, dealt: frame.with_columns(
        pl.when(
            pl.col("query_id").is_in(dealt.filter(pl.col("part") == part)["query_id"].implode())
        )
        .then(pl.min_horizontal("grade", 2))
        .otherwise("grade")
        .cast(frame.schema["grade"])
        .alias("grade")
    )


@pytest.mark.parametrize(("part", "stage"), [("validation", "train"), ("test", "evaluate")])
def test_a_part_without_a_relevant_item_is_found_before_anything_is_mined(shop, cli, part, stage):
    run = ("run", shop.run, "--config", shop.config)
    assert cli(*run, *UNTIL_INPUTS).code == 0
    dealt = pl.read_parquet(shop.run / "inputs" / "queries.parquet")
    shop.change("truth", lambda frame: without_relevant(part)(frame, dealt))
    words = [f"grades of the part '{part}'", "none of them 3 or 4", f"the stage '{stage}'"]
    cli("check", "--config", shop.config).explains(INPUT, words)
    results = shop.results()
    cli(*run, "--until", stage).explains(INPUT, words)
    assert shop.results() == results
    assert cli(*run, *UNTIL_INPUTS).code == 0
    results = shop.results()
    stored = cli(*run, "--from", "mine", "--until", stage)
    stored.explains(INPUT, words)
    assert shop.results() == results


def test_too_few_judged_queries_of_an_earlier_run_are_found_before_anything_is_mined(shop, cli):
    keep = shop.table("judgments")["query_id"].unique().sort()[:8].to_list()
    for name in ("judgments", "truth"):
        shop.change(name, lambda frame: frame.filter(pl.col("query_id").is_in(keep)))
    run = ("run", shop.run, "--config", shop.config)
    assert cli(*run, *UNTIL_INPUTS).code == 0
    before = shop.results()
    again = cli(*run, "--set", "mine.channels=['solr']")
    again.explains(INPUT, ["queries of the part 'calibration'", "judged queries", "'solr'"])
    assert shop.results() == before


def test_beginning_in_the_middle_of_nothing(shop, cli):
    result = cli("run", shop.run, "--config", shop.config, "--from", "train")
    result.explains(WORKSPACE, ["stage 'inputs'", "missing", "--from inputs"])
    assert not shop.run.exists()


def test_beginning_after_a_stage_that_a_change_made_stale(shop, cli):
    run = ("run", shop.run, "--config", shop.config)
    assert cli(*run, *UNTIL_INPUTS).code == 0
    result = cli(*run, "--from", "mine", "--set", "run.seed=5")
    result.explains(WORKSPACE, ["stage 'inputs'", "stale (run.seed: 0 -> 5)"])


@pytest.mark.parametrize(
    ("between", "words"),
    [
        (("--from", "mining"), ["'mining'", "one of inputs, mine, judges, annotate"]),
        (("--until", "the end"), ["'the end'", "one of inputs, mine, judges, annotate"]),
        (("--from", "train", "--until", "mine"), ["from train until mine", "swap them"]),
    ],
)
def test_an_unknown_stage_is_explained(shop, cli, between, words):
    result = cli("run", shop.run, "--config", shop.config, *between)
    result.explains(CONFIG, [*words, "--from / --until"])
    assert not shop.run.exists()


def test_a_run_folder_that_is_a_file(shop, cli):
    before = shop.files()
    for folder in (shop.folder / "items.parquet", shop.folder / "items.parquet" / "run"):
        result = cli("run", folder, "--config", shop.config, *UNTIL_INPUTS)
        result.explains(WORKSPACE, ["name another run folder"])
    assert shop.files() == before


def test_a_run_folder_with_files_of_ones_own(shop, cli):
    (shop.run / "inputs").mkdir(parents=True)
    (shop.run / "inputs" / "notes.txt").write_text("mine")
    for more in ((), ("--overwrite",)):
        result = cli("run", shop.run, "--config", shop.config, *UNTIL_INPUTS, *more)
        result.explains(WORKSPACE, ["files that trivium did not write"])
    assert set(shop.results()) == {
        "run/inputs/notes.txt",
        "run/.lock",
    }


@pytest.mark.parametrize("name", [".lock", ".trivium"])
def test_a_file_of_ones_own_in_the_place_of_ours_is_left_alone(shop, cli, name):
    shop.run.mkdir()
    (shop.run / name).write_text("mine")
    for more in ((), ("--overwrite",)):
        result = cli("run", shop.run, "--config", shop.config, *UNTIL_INPUTS, *more)
        result.explains(WORKSPACE, [name, "did not write", "name another run folder"])
        assert shop.results() == {f"run/{name}": b"mine"}


def test_a_configuration_of_ones_own_in_the_run_folder_is_left_alone(shop, cli):
    shop.run.mkdir()
    (shop.run / "config.json").write_text("mine")
    for _ in range(2):
        assert cli("run", shop.run, "--config", shop.config, *UNTIL_INPUTS).code == 0
        assert cli("status", shop.run).code == 0
        assert shop.results()["run/config.json"] == b"mine"


HOLD = """
import fcntl, sys
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_run_folder_in_use_by_another_process(shop, cli):
    shop.run.mkdir()
    command = [sys.executable, "-c", HOLD, str(shop.run / ".lock")]
    run = ("run", shop.run, "--config", shop.config, *UNTIL_INPUTS)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        cli(*run).explains(WORKSPACE, ["another process is working"])
        assert set(shop.results()) == {"run/.lock"}
        other.stdin.close()
    assert cli(*run).code == 0


def test_a_missing_configuration_says_how_to_write_one(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (("run", "first"), ("check",), ("mine", "first")):
        words = ["trivium.toml", "no such file", "trivium init", "--config"]
        cli(*command).explains(CONFIG, words)
    cli("check", "--config", tmp_path).explains(CONFIG, ["directory", "trivium init"])
    assert list(tmp_path.iterdir()) == []


def test_init_for_files_that_are_not_there(tmp_path, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ("--items", "goods.csv", "--queries", "log.csv", "--judgments", "ratings.csv")
    words = ["3 faults", "goods.csv", "log.csv", "ratings.csv", "no such file"]
    cli("init", *files).explains(INPUT, words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("trian", "runs/a"),
        ("run",),
        ("run", "first", "--nowhere"),
        ("init", "--items", "goods.csv"),
        ("simulate", "shop", "--items", "many"),
    ],
)
def test_wrong_usage(tmp_path, cli, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    result = cli(*command)
    assert result.code == USAGE
    assert "Usage:" in result.err + result.out
    assert "Traceback" not in result.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [("--items", 0), ("--queries", -4), ("--items", 2)])
def test_a_marketplace_that_cannot_be(tmp_path, cli, size):
    result = cli("simulate", tmp_path / "shop", *size)
    result.explains(CONFIG, [])
    assert list(tmp_path.iterdir()) == []


def test_a_failing_disk_is_not_a_fault_of_ours(shop, cli, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    result = cli("run", shop.run, "--config", shop.config, *UNTIL_INPUTS)
    assert result.code == WORKSPACE
    assert "No space left on device" in result.err
    assert "Traceback" not in result.err
    assert "fault of trivium" not in result.err
    monkeypatch.undo()
    assert cli("run", shop.run, "--config", shop.config, *UNTIL_INPUTS).code == 0


def test_what_nobody_expected_ends_without_a_trace_unless_asked(shop, cli, monkeypatch):
    def fails(*_args, **_options):
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr("trivium.stages.inputs.read_inputs", fails)
    result = cli("check", "--config", shop.config)
    assert result.code == 1
    assert "ZeroDivisionError: a slip" in result.err
    assert "--debug" in result.err
    assert "Traceback" not in result.err
    with pytest.raises(ZeroDivisionError):
        cli("check", "--config", shop.config, "--debug")


def test_errors_survive_the_way_between_processes():
    error = InputError.of("items", got="nothing", expected="something", fix="look again")
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), back.faults, str(back)) == (InputError, error.faults, str(error))
    assert str(error) == (
        "items\n    got:      nothing\n    expected: something\n    fix:      look again"
    )


def test_errors_of_one_kind_stay_of_that_kind():
    def made(kind):
        return kind.of("a", got="b", expected="c", fix="d")

    same = combined([made(ConfigError), made(ConfigError)])
    mixed = combined([made(ConfigError), made(DependencyError)])
    assert (type(same), len(same.faults)) == (ConfigError, 2)
    assert (type(mixed), len(mixed.faults)) == (InputError, 2)
    assert isinstance(mixed, TriviumError)
