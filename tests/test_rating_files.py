"""The sheets that raters fill in: safe for spreadsheets, read back whatever they make of them."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from trivium.adapters.rating_files import SHEET, read_sheet, write_judgments, write_sheet
from trivium.foundation.errors import InputError, WorkspaceError
from trivium.stages.seed import read_ratings

KEY = ["query_id", "item_id"]

NASTY = pl.DataFrame(
    {
        "query_id": ["007", "1E5", "MAR-1", "'quoted", "-5", "a,b"],
        "item_id": ["0042", "12345678901234567890", "TRUE", "=A1", "1/2", 'x"y'],
        "query": ["=1+1", "+49", "@sum", "plain", "-", "two\nlines"],
        "title": ["=HYPERLINK(1)", "5/8 inch bolt", "\t=1+1", "Größe ☂", "\uff1d1", 'a "b", c;d'],
        "why": ["only one channel found it: bm25 rank 3"] * 6,
    }
)


def test_ids_survive_and_no_cell_is_a_formula(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    write_sheet(path, NASTY)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf" + ",".join(SHEET).encode())
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if re.match(r"\s*[=+\-@\uff1d]", cell)]
    assert "5/8 inch bolt" in cells
    assert "Größe ☂" in cells
    back = read_sheet(path)
    assert back.select(KEY).equals(NASTY.select(KEY))
    assert back["grade"].null_count() == 6


def test_an_editor_that_rewrites_the_sheet_changes_no_id(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    write_sheet(path, NASTY)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, SHEET, delimiter=";")
        writer.writeheader()
        grades = ["0", "1", "2", "3", "4", "excellent"]
        writer.writerows(row | {"grade": g} for row, g in zip(rows, grades, strict=True))
    read = read_ratings({"sheet": read_sheet(path)}).judgments
    graded = NASTY.join(read, on=KEY, maintain_order="left")
    assert graded["grade"].to_list() == [0, 1, 2, 3, 4, 4]


# what raters send


@pytest.fixture
def send(tmp_path: Path):
    """Write a file as a rater might send it, and give its path."""

    def write(text: str | bytes, name: str = "anna.csv") -> Path:
        raw = text.encode() if isinstance(text, str) else text
        (tmp_path / name).write_bytes(raw)
        return tmp_path / name

    return write


HEAD = "query_id,item_id,grade,rater\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty CSV"]),
        (HEAD, ["without rows"]),
        ("query_id,item_id\nq,i\n", ["column 'grade'", "put the column back"]),
        ("query,item,grade\nq,i,3\n", ["column 'query_id'", "column 'item_id'"]),
        (HEAD + "q,i,,\nq,j,,\n", ["no grade"]),
        (HEAD + "q,i,3,\nq,j,5,\n", ["row 3", "'5'", "embarrassing, bad, fair, good, excellent"]),
        (HEAD + "q,i,2.5,\n", ["row 2", "'2.5'"]),
        (HEAD + "q,i,goood,\nq,j,-1,\n", ["2 row(s)", "'goood'"]),
        (HEAD + ",i,3,\n", ["row 2", "without an id"]),
        (HEAD + "q,i,3,\nq,i,3,\n", ["'anna'", "row 2: 3", "row 3: 3"]),
        (HEAD + "q,i,3,b\nq,i,1,b\n", ["'b'", "row 2: 3", "row 3: 1"]),
        (HEAD + "q,i,3,x\nq,j,7,x\n,k,1,x\nq,i,4,x\n", ["3 faults"]),
        ("query_id,item_id,grade\nq,i,3,4,5\n", ["as CSV"]),
        ("query_id,item_id,grade,title\nq,i,3,größe\n".encode("latin-1"), ["UTF-8"]),
    ],
)
def test_bad_files_are_explained(send, tmp_path: Path, cli, text: str | bytes, words) -> None:
    cli("seed", "read", send(text), "-o", tmp_path / "j.csv").explains(3, words)
    assert not (tmp_path / "j.csv").exists()


def test_a_file_that_is_not_there(tmp_path: Path, cli) -> None:
    cli("seed", "read", tmp_path / "none.csv", "-o", tmp_path / "j.csv").explains(3, ["none.csv"])


@pytest.mark.parametrize(
    "text",
    [
        "query_id;item_id;title;grade;rater\n'01;'02;a, b;3;\n;;;;\n",
        "\ufeffquery_id\titem_id\ttitle\tgrade\trater\r\n'01\t'02\ta, b\t3.0\t\r\n",
        "query_id,item_id,grade\n01,02,Good\n",
    ],
)
def test_what_spreadsheets_make_of_a_sheet(send, text: str) -> None:
    read = read_ratings({"anna.csv": read_sheet(send(text))})
    assert read.judgments.rows() == [("01", "02", 3, "anna")]
    assert read.unfilled == 0


def test_several_raters_are_read_at_once(send, tmp_path: Path, cli) -> None:
    anna = send(HEAD + "q,i,3,\nq,j,,\n")
    ben = send(HEAD + "q,i,1,\nq,j,2,carl\n", "ben.csv")
    assert cli("seed", "read", anna, ben, "-o", tmp_path / "j.csv").code == 0
    rows = pl.read_csv(tmp_path / "j.csv").rows()
    assert rows == [("q", "i", 3, "anna"), ("q", "i", 1, "ben"), ("q", "j", 2, "carl")]
    (tmp_path / "else").mkdir()
    shutil.copy(anna, tmp_path / "else")
    same = cli("seed", "read", anna, tmp_path / "else" / "anna.csv", "-o", tmp_path / "k.csv")
    same.explains(3, ["else/anna.csv, row 2", "name the raters"])


def test_appending_keeps_what_is_there(send, tmp_path: Path, cli) -> None:
    output = tmp_path / "j.csv"
    output.write_text("item_id,query_id,grade,note\n007,q,0,mine\n", encoding="utf-8")
    words = ("seed", "read", send(HEAD + "q,i,3,\n"), "-o", output)
    cli(*words).explains(5, ["--append"])
    assert cli(*words, "--append").code == 0
    lines = output.read_text(encoding="utf-8").splitlines()
    assert lines == ["item_id,query_id,grade,note,rater", "007,q,0,mine,", "i,q,3,,anna"]
    cli(*words, "--append").explains(3, ["rows that share a key"])
    assert output.read_text(encoding="utf-8").splitlines() == lines


def test_a_faulty_file_is_not_added_to(tmp_path: Path) -> None:
    output = tmp_path / "j.csv"
    output.write_text("query_id,item_id,grade\nq,i,9\n", encoding="utf-8")
    more = pl.DataFrame({"query_id": ["q"], "item_id": ["j"], "grade": [1], "rater": ["a"]})
    with pytest.raises(InputError, match="grade"):
        write_judgments(output, more, append=True)
    with pytest.raises(WorkspaceError, match=r"ends in \.csv"):
        write_judgments(tmp_path / "j.xlsx", more)
