"""`trivium queries`: logs of every format make one table, and what is wrong with them is said."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from trivium.adapters.query_logs import LogFormat, read_logs
from trivium.foundation.tables import QUERIES, validate

ROWS = [
    ("red mug", 5, "2026-11-01"),
    ("Red mugs", 2, "2026-11-02"),
    ("mug,  red", 1, "2026-11-03T10:00:00"),
    ('6" pipe', 3, "2026-11-03"),
    ("lamp", 9, "2026-10-01"),
    ("", 4, "2026-11-01"),
    ("!!", 4, "2026-11-01"),
    ("x" * 201, 1, "2026-11-01"),
    ("https://shop.example/mug", 1, "2026-11-01"),
    ("caf\ufffd", 1, "2026-11-01"),
]
COLUMNS = ("q", "hits", "day")
OPTIONS = ("--query-column", "q", "--count-column", "hits")


def written(folder: Path, name: str, rows=ROWS) -> Path:
    path, kind = folder / name, name.removesuffix(".gz").rsplit(".", 1)[1]
    frame = pl.DataFrame(rows, schema=list(COLUMNS), orient="row")
    if kind == "parquet":
        frame.write_parquet(path)
        return path
    if kind == "csv":
        text = frame.write_csv()
    elif kind == "tsv":
        text = "\n".join("\t".join(map(str, row)) for row in [COLUMNS, *rows]) + "\n"
    else:
        lines = [json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in rows]
        text = "\n".join([*lines, ""])
    raw = text.encode()
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


def read(path: Path) -> pl.DataFrame:
    table = pl.read_parquet(path)
    assert validate(table, QUERIES).columns == ["query_id", "query", "frequency", "segment"]
    return table


FORMATS = [
    "log.csv",
    "log.csv.gz",
    "log.tsv",
    "log.tsv.gz",
    "log.jsonl",
    "log.jsonl.gz",
    "log.parquet",
]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_makes_the_same_table(cli, tmp_path: Path, name: str) -> None:
    log, output = written(tmp_path, name), tmp_path / "queries.parquet"
    done = cli("queries", log, *OPTIONS, "--output", output)
    assert done.code == 0, done.err
    table = read(output)
    assert table.drop("query_id").rows() == [
        ("lamp", 9, "head"),
        ("red mug", 8, "head"),
        ('6" pipe', 3, "torso"),
    ]
    for said in (
        "10 rows read, 5 different texts",
        "empty: 1",
        "without a letter or digit: 1, such as '!!'",
        "longer than 200 characters: 1",
        "a web address: 1, such as 'https://shop.example/mug'",
        "with characters lost in a conversion: 1",
        "2 spellings folded into others",
    ):
        assert said in done.err
    assert "head" in done.out
    assert "85.0%" in done.out


def test_text_files_count_their_lines(cli, tmp_path: Path) -> None:
    raw = "\ufeffred mug\r\nlamp\r\n\r\nred  mug\r\n".encode()
    (tmp_path / "a.txt").write_bytes(raw)
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"lamp\nmugs red"))
    output = tmp_path / "q.parquet"
    done = cli("queries", tmp_path / "a.txt", tmp_path / "b.txt.gz", "-o", output)
    assert done.code == 0, done.err
    assert read(output).select("query", "frequency").rows() == [("red mug", 3), ("lamp", 2)]


def test_days_limit_what_is_read(tmp_path: Path) -> None:
    days = {"since": dt.date(2026, 11, 2), "until": dt.date(2026, 11, 3)}
    form = LogFormat("q", "hits", "day", **days)
    parquet = pl.DataFrame(ROWS, schema=list(COLUMNS), orient="row")
    stamps = pl.col("day").str.slice(0, 10).str.to_datetime("%Y-%m-%d")
    parquet.with_columns(stamps).write_parquet(tmp_path / "dates.parquet")
    for path in (written(tmp_path, "log.csv"), tmp_path / "dates.parquet"):
        log = read_logs([path], form)
        assert log.queries.rows() == [('6" pipe', 3), ("Red mugs", 2), ("mug, red", 1)]
        assert log.left_out.select("reason", "rows").rows() == [("outside the days asked for", 7)]


def test_several_logs_are_added_up(tmp_path: Path) -> None:
    form = LogFormat("q", "hits")
    logs = [written(tmp_path, "a.csv"), written(tmp_path, "b.jsonl.gz", ROWS[:2])]
    log = read_logs(logs, form)
    counts = dict(log.queries.iter_rows())
    assert (counts["red mug"], counts["Red mugs"], counts["lamp"]) == (10, 4, 9)
    assert log.rows == 12


def test_ids_are_those_of_the_question_in_any_log(cli, tmp_path: Path) -> None:
    def ids(rows, *options) -> dict[str, str]:
        log, output = written(tmp_path, "log.csv", rows), tmp_path / "q.parquet"
        done = cli("queries", log, *OPTIONS, *options, "-o", output, "--overwrite")
        assert done.code == 0, done.err
        return dict(read(output).select("query", "query_id").iter_rows())

    first = ids(ROWS)
    turned = ids([("mugs red", 9, ""), ("red mug", 1, ""), ("lamps", 1, "")])
    assert first["red mug"] == turned["mugs red"]
    assert first["lamp"] == turned["lamps"]
    assert len({*first.values()}) == 3
    prefixed = ids(ROWS, "--id-prefix", "us-")
    assert prefixed["lamp"] == f"us-{first['lamp']}"
    apart = ids(ROWS, "--no-fold")
    assert len(apart) == len({*apart.values()}) == 5


def zipf(folder: Path) -> Path:
    rows = [(f"thing number{n}", 4000 // n, "") for n in range(1, 401)]
    return written(folder, "zipf.csv", rows)


def test_a_sample_by_weights_is_drawn_and_what_lacks_is_said(cli, tmp_path: Path) -> None:
    log, drawn = zipf(tmp_path), {}
    for count in (60, 120):
        output = tmp_path / f"{count}.parquet"
        weights = ("--head", 1, "--torso", 2, "--tail", 2)
        done = cli("queries", log, *OPTIONS, "-o", output, "--sample", count, *weights)
        assert done.code == 0, done.err
        drawn[count] = read(output)
    sizes = drawn[60].group_by("segment").len().sort("segment").rows()
    assert sizes == [("head", 12), ("tail", 24), ("torso", 24)]
    assert set(drawn[60]["query_id"]) <= set(drawn[120]["query_id"])
    assert "head has 15 queries of the 24 of its weight" in done.err
    everything = tmp_path / "all.parquet"
    assert cli("queries", log, *OPTIONS, "-o", everything).code == 0
    kept = read(everything).join(drawn[120], on=["query_id", "segment", "frequency"], how="semi")
    assert kept.height == 120


def test_rare_queries_are_left_out_after_folding(cli, tmp_path: Path) -> None:
    log, output = written(tmp_path, "log.csv"), tmp_path / "q.parquet"
    done = cli("queries", log, *OPTIONS, "-o", output, "--min-frequency", 8)
    assert set(read(output)["query"]) == {"lamp", "red mug"}
    assert "asked fewer than 8 times: 1" in done.err
    none = cli("queries", log, *OPTIONS, "-o", output, "--overwrite", "--min-frequency", 99)
    none.explains(3, ["asked fewer than 99 times"])
    assert read(output).height == 2


FAULTY = {
    "no.csv": (None, ["no such file"]),
    "empty.csv": (b"", ["an empty file"]),
    "head.csv": (b"q,hits\n", ["without rows"]),
    "column.csv": (b"query,hits\nmug,1\n", ["column 'q'", "columns query, hits"]),
    "column.jsonl": (b'{"query": "mug", "hits": 1}\n', ["column 'q'", "columns query, hits"]),
    "negative.csv": (b"q,hits\nmug,1\nlamp,-4\n", ["column 'hits'", "1 value(s) such as '-4'"]),
    "broken.csv": (b"q,hits\nmug,1.5\n", ["'1.5'", "whole numbers"]),
    "words.csv": (b"q,hits\nmug,many\n", ["'many'"]),
    "short.csv": (b"q,hits\nmug\n", ["column 'hits'"]),
    "latin.csv": (b"q,hits\nmug,1\ncaf\xe9,1\n", ["not UTF-8", "line 3", "LATIN1"]),
    "wide.csv": ("q,hits\nmug,1\n".encode("utf-16"), ["not UTF-8", "UTF-16"]),
    "latin.jsonl": (b'{"q": "caf\xe9", "hits": 1}\n', ["not UTF-8", "line 1"]),
    "half.jsonl": (b'{"q": "mug", "hits": 1}\n{"q": \n', ["cannot be read"]),
    "half.csv.gz": (gzip.compress(b"q,hits\n" + b"mug,1\n" * 9999)[:-20], ["cannot be read"]),
    "no.parquet": (b"PAR1 and no more", ["cannot be read"]),
    "log.xlsx": (b"PK", ["ending '.xlsx'", ".jsonl"]),
    "more.csv": (b"q,hits\nmug,1\na,b,c\n", ["cannot be read"]),
}


@pytest.mark.parametrize("name", FAULTY)
def test_faulty_logs_are_explained(cli, tmp_path: Path, name: str) -> None:
    raw, words = FAULTY[name]
    if raw is not None:
        (tmp_path / name).write_bytes(raw)
    output = tmp_path / "q.parquet"
    done = cli("queries", tmp_path / name, *OPTIONS, "-o", output, "--quiet")
    done.explains(3, [name, *words])
    assert not output.exists()


def test_a_day_that_is_none_is_explained(cli, tmp_path: Path) -> None:
    log = written(tmp_path, "log.csv", [("mug", 1, "yesterday")])
    days = ("--date-column", "day", "--since", "2026-01-01", "--quiet")
    done = cli("queries", log, *OPTIONS, *days, "-o", tmp_path / "q.parquet")
    done.explains(3, ["column 'day'", "'yesterday'"])


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--head", 1], 4, ["--sample"]),
        (["--sample", 5, "--head", 0], 4, ["above 0"]),
        (["--since", "2026-01-01"], 4, ["--date-column"]),
        (["--head-share", 0.9, "--torso-share", 0.5], 4, ["--torso-share"]),
        (["--output", "queries.xlsx"], 5, [".parquet"]),
    ],
)
def test_faulty_options_are_explained(cli, tmp_path: Path, options, code, words) -> None:
    log = written(tmp_path, "log.csv")
    done = cli("queries", log, *OPTIONS, "-o", tmp_path / "q.parquet", *options)
    done.explains(code, words)


def test_nothing_is_overwritten_unasked(cli, tmp_path: Path) -> None:
    log, output = written(tmp_path, "log.csv"), tmp_path / "q.parquet"
    output.write_bytes(b"mine")
    cli("queries", log, *OPTIONS, "-o", output).explains(5, ["--overwrite"])
    assert output.read_bytes() == b"mine"
    assert cli("queries", log, *OPTIONS, "-o", output, "--overwrite").code == 0
    assert read(output).height == 3


def test_help_has_examples(cli) -> None:
    done = cli("queries", "--help")
    assert done.code == 0
    assert "trivium queries" in done.out
    assert "--sample" in done.out
