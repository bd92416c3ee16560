"""The whole pipeline on a small simulated marketplace: leaks, kills, reruns, changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest

from killed import kill_when
from small_run import finish, run_command, trivium
from trivium.foundation.text import word_set

STAGES = ("inputs", "mine", "judges", "annotate", "examples", "train", "evaluate", "report")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def tables(folder: Path) -> dict[str, pl.DataFrame]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.parquet")}
    return {name: pl.read_parquet(path, memory_map=False) for name, path in sorted(found.items())}


def read(folder: Path, table: str) -> pl.DataFrame:
    parts = sorted((folder / table).glob("*.parquet")) or [folder / f"{table}.parquet"]
    return pl.concat([pl.read_parquet(part, memory_map=False) for part in parts])


def words(queries: pl.DataFrame) -> set[str]:
    return set(queries.select(word_set("query"))["query"])


def test_every_stage_leaves_its_tables(finished: Path) -> None:
    for stage in STAGES:
        assert (finished / stage / "manifest.json").exists()
    made = ("mine/candidates", "annotate/labels", "examples/examples", "examples/level_precision")
    for table in (*made, "evaluate/metrics"):
        assert read(finished, table).height > 0
    assert (finished / "train" / "model" / "modules.json").exists()
    assert "</html>" in (finished / "report" / "report.html").read_text(encoding="utf-8")


FIGURES = (
    "forest",
    "overlap",
    "found-by",
    "reliability",
    "confusion",
    "levels",
    "validation",
    "losses",
    "spending",
)


def test_the_report_shows_every_figure_in_a_browser(finished: Path) -> None:
    browser = Path("/usr/bin/chromium")
    if not browser.exists():
        pytest.skip("no /usr/bin/chromium; install Debian's chromium to run this")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((finished / "report" / "report.html").as_uri())
        for name in FIGURES:
            box = page.locator(f"#figure-{name}").bounding_box()
            assert box is not None, name
            assert box["width"] > 0, name
            assert box["height"] > 0, name
        assert page.get_by_text("Simulated data").count() > 0
        assert page.get_by_text("not run", exact=False).count() == 0
        chromium.close()
    assert complaints == []


def test_no_test_query_is_in_any_table_that_trains(finished: Path) -> None:
    queries = read(finished, "inputs/queries")
    held_out = queries.filter(pl.col("part").is_in(["test", "validation"]))
    measuring = queries.filter(pl.col("part").is_in(["calibration", "tuning", "agreement"]))
    assert held_out.height > 0
    assert measuring.height > 0
    for table in ("mine/candidates", "annotate/labels", "examples/examples"):
        used = queries.filter(pl.col("query_id").is_in(read(finished, table)["query_id"].implode()))
        assert set(used["part"]) <= {"train", "seed"}, table
        assert not words(used) & words(held_out), table
        assert not words(used) & words(measuring), table


def test_only_the_seed_taught_the_judge(finished: Path) -> None:
    taught = read(finished, "judges/teaching")
    assert set(taught["part"]) == {"seed", "calibration", "tuning", "agreement"}
    background = taught.filter(pl.col("source") == "background")
    assert set(background["part"]) == {"seed", "calibration"}
    queries = read(finished, "inputs/queries")
    for part, source, count in taught.select("part", "source", "queries").rows():
        if source == "human":
            assert count == queries.filter(pl.col("part") == part).height


def test_grades_of_test_and_training_queries_change_no_label(
    small_market: Path, finished: Path, tmp_path: Path
) -> None:
    market = tmp_path / "market"
    shutil.copytree(small_market, market)
    queries = read(finished, "inputs/queries").select("query_id", "part")
    judgments = pl.read_parquet(market / "judgments.parquet").join(queries, on="query_id")
    unseen = pl.col("part").is_in(["train", "validation", "test"])
    grade = pl.when(unseen).then(4 - pl.col("grade")).otherwise(pl.col("grade")).alias("grade")
    judgments.with_columns(grade).drop("part").write_parquet(market / "judgments.parquet")
    folder = tmp_path / "run"
    finish(run_command(market, folder, "--until", "examples"))
    for table in ("annotate/labels", "examples/examples"):
        assert read(folder, table).equals(read(finished, table)), table


def test_human_grades_of_training_queries_are_not_used(finished: Path) -> None:
    examples = read(finished, "examples/examples")
    parts = read(finished, "inputs/queries").select("query_id", "part")
    human = examples.filter(pl.col("source") == "human").join(parts, on="query_id")
    judged = examples.filter(pl.col("source") == "judge").join(parts, on="query_id")
    assert set(human["part"]) == {"seed"}
    assert set(judged["part"]) == {"train"}


def test_examples_keep_the_caps_and_say_why(finished: Path) -> None:
    examples = read(finished, "examples/examples")
    positive = pl.col("level").str.ends_with("positive")
    sizes = examples.group_by("query_id", positive.alias("positive")).len()
    assert sizes["len"].max() <= 50
    assert (examples["reason"].str.len_chars() > 0).all()
    assert not examples.select("query_id", "item_id").is_duplicated().any()


def test_a_rerun_does_nothing(small_market: Path, finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.parquet")}
    said = finish(run_command(small_market, finished)).err
    assert [f"{stage}: done already" in said for stage in STAGES] == [True] * len(STAGES)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*.parquet")} == before


def test_a_changed_setting_reruns_what_depends_on_it(
    small_market: Path, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(finished, folder)
    command = run_command(small_market, folder, "--until", "examples", mine__depth="20")
    said = finish(command).err
    assert "inputs: done already" in said
    assert "mine.depth: 30 -> 20" in said
    assert "stage mine changed" in said
    superseded = {path.name for path in (folder / "superseded").iterdir()}
    assert superseded == {"mine-1", "judges-1", "annotate-1", "examples-1"}
    kept = tables(folder / "superseded" / "mine-1")
    original = tables(finished / "mine")
    assert kept.keys() == original.keys()
    assert all(kept[name].equals(original[name]) for name in kept)
    assert "train      stale" in finish(trivium("status", str(folder))).out


def test_tables_do_not_depend_on_shards_or_workers(
    small_market: Path, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "resharded"
    settings = {"run__shard": "7", "run__workers": "2"}
    finish(run_command(small_market, folder, "--until", "examples", **settings))
    for table in ("mine/candidates", "annotate/labels", "examples/examples"):
        keys = ["query_id", "item_id"]
        assert read(folder, table).sort(keys).equals(read(finished, table).sort(keys)), table


def judged(market: Path, folder: Path, *words: str, **settings: str) -> str:
    """What a command on the judges of a finished run prints."""
    command = run_command(market, folder, **settings)
    rest = command[command.index(str(folder)) :]
    return finish(trivium(*words, *rest)).out


def test_the_judges_are_tested_and_the_cascade_tuned_without_writing(
    small_market: Path, finished: Path
) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.suffix == ".parquet"}
    tested = judged(small_market, finished, "judge", "test")
    for words in ("features", "cross_encoder", "cascade", "starting tower", "one_vs_rest"):
        assert words in tested
    tuned = judged(small_market, finished, "cascade", "tune")
    assert "[annotate.thresholds]" in tuned
    assert "No guarantee" in tuned
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_dry_run_knows_what_is_paid_for_already(small_market: Path, finished: Path) -> None:
    shown = judged(small_market, finished, "annotate", "--dry-run")
    rows = {line.split()[0]: line.split() for line in shown.splitlines() if line.strip()}
    labels = read(finished, "annotate/labels")
    features, all_judges = rows["features"], rows["all"]
    assert features[1:4] == ["100%", "0", f"{labels.height:,}"]
    assert float(all_judges[-1]) == 0.0


def test_two_runs_that_are_alike_do_not_drift(finished: Path) -> None:
    command = trivium("judge", "drift", str(finished), str(finished))
    shown = finish(command).out
    changed = next(line for line in shown.splitlines() if "changed" in line)
    assert changed.split()[1] == "0.000"


def test_a_budget_stops_cleanly_and_a_larger_one_carries_on(
    small_market: Path, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "dear"
    price = {
        "annotate__judges__cross_encoder__usd_per_million_tokens": "1000.0",
        # Everything is left to the judge with the price.
        "annotate__thresholds": "{features=[2, 2, 2, 2, 2], cross_encoder=[0, 0, 0, 0, 0]}",
    }
    poor = run_command(
        small_market, folder, "--until", "annotate", annotate__max_budget="0.5", **price
    )
    assert "annotate.max_budget" in finish(poor, code=7).err
    rich = run_command(
        small_market, folder, "--until", "annotate", annotate__max_budget="1e6", **price
    )
    finish(rich)
    keys = ["query_id", "item_id", "grade", "confidence"]
    assert read(folder, "annotate/labels").select(keys).height > 0
    assert read(folder, "annotate/labels")["cost_usd"].sum() > 0


KILLS = (
    ("inputs", "inputs/plan.json"),
    ("mine", "mine/candidates/part-00000.json"),
    ("judges", "judges/pool/part-00000.json"),
    ("judges", "fitted/cross_encoder-*/checkpoints/*"),
    ("annotate", "annotate/cascade.json"),
    ("annotate", "annotate/labels/part-00000.json"),
    ("examples", "examples/examples/part-00000.parquet"),
    ("train", "train/01-*/checkpoints/checkpoint-*/complete.json"),
    ("train", "train/02-*/checkpoints/checkpoint-*/complete.json"),
    ("evaluate", "evaluate/systems/start.parquet"),
    ("report", "report/plan.json"),
)


def test_kill_in_each_stage_changes_no_table(
    small_market: Path, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    command = run_command(small_market, folder)
    for stage, pattern in KILLS:
        for _attempt in range(3):
            kill_when(command, folder, pattern)
            if not (folder / stage / "manifest.json").exists():
                break
            shutil.rmtree(folder / stage)  # it was too fast for us: once more
        assert any(folder.glob(pattern)), (stage, pattern)
        assert not (folder / stage / "manifest.json").exists(), (stage, pattern)
    assert "report: carries on" in finish(command).err
    disturbed, undisturbed = tables(folder), tables(finished)
    assert disturbed.keys() == undisturbed.keys()
    for name, table in undisturbed.items():
        assert disturbed[name].equals(table), name
    weights = "train/model/model.safetensors"
    assert (folder / weights).read_bytes() == (finished / weights).read_bytes()


LEARNING = {"annotate__pilot": "0.3", "annotate__budgets": "{bm25=1}"}


def test_a_kill_around_the_pilot_changes_no_table(
    small_market: Path, finished: Path, tmp_path: Path
) -> None:
    folders = [Path(shutil.copytree(finished, tmp_path / name)) for name in ("whole", "killed")]
    commands = [
        run_command(small_market, folder, "--until", "annotate", **LEARNING) for folder in folders
    ]
    assert "of levels in turn" in finish(commands[0]).err
    for pattern in ("pilot/part-00000.json", "yields.parquet", "labels/part-00000.parquet"):
        kill_when(commands[1], folders[1], f"annotate/{pattern}")
        assert not (folders[1] / "annotate" / "manifest.json").exists(), pattern
    assert "annotate: carries on" in finish(commands[1]).err
    whole, killed = (tables(folder / "annotate") for folder in folders)
    assert {"yields.parquet", "spending.parquet"} < whole.keys() == killed.keys()
    for name, table in whole.items():
        assert killed[name].equals(table), name
    labels, pilot = (read(folders[0] / "annotate", name) for name in ("labels", "pilot"))
    assert pilot.join(labels, on=["query_id", "item_id"], how="semi").equals(pilot)
    assert 0 < pilot["query_id"].n_unique() < labels["query_id"].n_unique()
    spending = read(folders[0] / "annotate", "spending")
    assert spending["pairs"].sum() == labels.height
    mined = read(folders[0], "mine/candidates").join(labels, on=["query_id", "item_id"])
    alone = mined.filter(channels=1).filter(pl.col("rank_bm25").is_not_null())
    assert alone.group_by("query_id").len()["len"].max() == 1
    shown = judged(small_market, folders[0], "annotate", "--dry-run", **LEARNING)
    features = next(line.split() for line in shown.splitlines() if line.strip()[:8] == "features")
    assert features[1:4] == ["100%", "0", f"{labels.height:,}"]
