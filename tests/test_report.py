"""The report: figures from the data, nothing unescaped, the same bytes, missing parts said."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from report_sample import SCRIPT, SYSTEMS, sample
from trivium.domain.yields import TALLY
from trivium.foundation.errors import InputError
from trivium.foundation.tables import GRADES
from trivium.stages.report import render, results_markdown, results_table
from trivium.stages.report.data import ReportData


class _Page(HTMLParser):
    """Ids, links inside the page, unescaped elements and text, as a browser would parse them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: set[str] = set()
        self.tags: Counter[str] = Counter()
        self.figures: list[dict[str, str | None]] = []
        self.text: list[str] = []
        self._skip = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags[tag] += 1
        self._skip = tag == "style"
        if "id" in found:
            self.ids.append(found["id"])
        if (found.get("href") or "").startswith("#"):
            self.targets.add(found["href"][1:])
        if tag == "svg":
            self.figures.append(found)

    def handle_endtag(self, tag):
        self._skip = False

    def handle_data(self, data):
        if not self._skip:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def data() -> ReportData:
    return sample()


@pytest.fixture(scope="module")
def page(data: ReportData) -> _Page:
    return _Page(render(data))


def test_ids_are_unique_and_every_inner_link_has_its_target(page: _Page) -> None:
    assert [name for name, times in Counter(page.ids).items() if times > 1] == []
    assert page.targets <= set(page.ids)


def test_nothing_is_loaded_from_elsewhere(data: ReportData) -> None:
    text = render(data)
    assert not re.search(r"""(src|href)=["'](?!#|data:,)""", text)
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "Content-Security-Policy" in text


def test_text_from_the_data_is_escaped(data: ReportData) -> None:
    hostile = sample()
    renamed = {"progressive curriculum": f"{SCRIPT} & $x$"}
    changed = ReportData(
        **{
            **hostile.__dict__,
            "title": SCRIPT,
            "metrics": hostile.metrics.with_columns(pl.col("system").replace(renamed)),
            "gains": hostile.gains.with_columns(pl.col("system").replace(renamed)),
            "curves": hostile.curves.with_columns(stage=pl.lit(SCRIPT)),
            "found_by": pl.DataFrame({"segment": ["all"], "channels": [SCRIPT], "pairs": [1]}),
            "config": {SCRIPT: {SCRIPT: [SCRIPT]}},
            "best": {"stage": SCRIPT, "step": 40, "ndcg": 0.4},
        }
    )
    parsed = _Page(render(changed))
    assert parsed.tags["script"] == 0
    assert parsed.tags["b"] == 0
    assert parsed.tags["svg"] == 5 + 1 + 1 + 1 + 1
    assert parsed.words.count(SCRIPT) >= 8
    assert "$x$" in parsed.words
    assert _Page(render(data)).tags["script"] == 0


def test_figures_are_named_and_described(page: _Page) -> None:
    names = {figure["id"] for figure in page.figures}
    expected = {f"reliability-{grade}" for grade in GRADES} | {"loss-1", "loss-2", "loss-3"}
    assert names == expected | {"forest", "validation", "upset"}
    assert all(figure["role"] == "img" and figure["aria-label"] for figure in page.figures)
    assert page.tags["caption"] == page.tags["table"]


def test_sentences_say_the_figures_of_the_data(data: ReportData, page: _Page) -> None:
    gap = {"raw": 0.0, "calibrated": 0.0}
    pairs = dict.fromkeys(gap, 0)
    for row in data.reliability.iter_rows(named=True):
        gap[row["kind"]] += abs(row["accuracy"] - row["confidence"]) * row["count"]
        pairs[row["kind"]] += row["count"]
    raw, calibrated = (gap[kind] / pairs[kind] for kind in ("raw", "calibrated"))
    for sentence in (
        "progressive curriculum reaches nDCG@10 0.452 on 2,366 queries: +4.9% (+0.021)",
        "p < 0.001 against click-trained (simulated).",
        "dictionary and dense share 23% of their top 500; dictionary and bm25, 48%.",
        "83% of 1,238,411 candidates come from a single channel.",
        "the judge's accuracy is 0.473 [0.461, 0.485] on 8,120 pairs of 705 queries.",
        f"calibration error from {raw:.3f} to {calibrated:.3f}.",
        "100,982 examples in 5 levels; the least certain is hard positive, where 54% of 312 pairs",
        "It cannot be told whether training will help: 61% of 923 pairs are right.",
        "The checkpoint of refine, step 30, is kept: validation nDCG@10 0.454, against 0.400",
        "The stages took 2 h 05 min; the longest, annotate, 1 h 26 min.",
    ):
        assert sentence in page.words
    assert "not run" not in page.words
    assert "Simulated data." in page.words


def test_an_interval_that_holds_zero_is_said(data: ReportData) -> None:
    unsure = data.gains.with_columns(ci_low=pl.lit(-0.01), p_value=pl.lit(0.3))
    words = _Page(render(ReportData(metrics=data.metrics, gains=unsure))).words
    assert "p = 0.300 against click-trained (simulated); the interval does not leave" in words


def test_missing_parts_are_said_not_blank(data: ReportData) -> None:
    bare = _Page(render(ReportData(metrics=data.metrics.filter(segment="all"))))
    for part in ("Comparison with a baseline", "Segments by frequency", "Mining", "Judge"):
        assert f"{part}: not run." in bare.words
    for part in ("Levels", "Training", "Log of the stages", "Configuration"):
        assert f"{part}: not run." in bare.words
    assert "Simulated data." not in bare.words
    assert bare.tags["svg"] == 0
    assert bare.targets <= set(bare.ids)


@pytest.mark.parametrize(
    ("given", "left_out"),
    [
        ("overlap", "Count of candidates by channel"),
        ("found_by", "Overlap"),
        ("agreement", "Reliability"),
        ("reliability", "Confusion of grades"),
        ("confusion", "Agreement"),
        ("levels", "Examples"),
        ("level_examples", "Count of examples"),
    ],
)
def test_half_a_part_is_shown(data: ReportData, given: str, left_out: str) -> None:
    words = _Page(render(ReportData(metrics=data.metrics, **{given: getattr(data, given)}))).words
    assert f"{left_out}: not run." in words


def test_training_without_validation_or_loss(data: ReportData) -> None:
    curves = data.curves
    none = pl.lit(None, dtype=pl.Float64)
    blind = render(ReportData(metrics=data.metrics, curves=curves.with_columns(ndcg=none)))
    mute = render(ReportData(metrics=data.metrics, curves=curves.with_columns(loss=none)))
    assert "Validation: not run." in _Page(blind).words
    assert "Loss: not run." in _Page(mute).words


def test_the_same_data_give_the_same_bytes(data: ReportData) -> None:
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_report import render, sample\n"
        "print(hashlib.sha256(render(sample()).encode()).hexdigest())"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout.strip() == hashlib.sha256(render(data).encode()).hexdigest()


def test_the_best_value_is_the_lowest_where_lower_is_better(data: ReportData) -> None:
    cells = re.findall(r'<td class="best">([^<]*)<', render(data))
    assert cells == ["0.452", "0.895", "0.758", "0.552", "0.023", "0.068"]


def test_terminal_table_holds_every_system_and_measure(data: ReportData) -> None:
    table = results_table(data.metrics, data.gains)
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    text = console.file.getvalue()
    assert [str(column.header) for column in table.columns][1:] == list(SYSTEMS)
    for measure in data.metrics["measure"].unique():
        assert measure in text
    for words in ("0.452", "[0.444, 0.460]", "0.758", "2,366", "+4.9% (+0.021)"):
        assert words in text
    assert "gain in" in text
    console = Console(file=io.StringIO(), width=160)
    console.print(results_table(data.metrics))
    assert "gain in" not in console.file.getvalue()


def test_terminal_table_of_three_systems_fits_eighty_columns(data: ReportData) -> None:
    short = {name: f"system {place}" for place, name in enumerate(SYSTEMS)}
    three = list(short.values())[:3]
    metrics = data.metrics.with_columns(pl.col("system").replace(short)).filter(
        pl.col("system").is_in(three)
    )
    console = Console(file=io.StringIO(), width=80)
    console.print(results_table(metrics))
    assert "…" not in console.file.getvalue()


def test_terminal_markup_in_names_is_text(data: ReportData) -> None:
    named = data.metrics.with_columns(pl.col("system") + " [bold]x[/bold]")
    console = Console(file=io.StringIO(), width=260)
    console.print(results_table(named))
    assert "[bold]x[/bold]" in console.file.getvalue()


def test_markdown_table_is_rectangular(data: ReportData) -> None:
    piped = data.metrics.with_columns(pl.col("system").str.replace("MiniLM", "Mini|LM"))
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in results_markdown(piped).splitlines()]
    measures = piped["measure"].unique(maintain_order=True).to_list()
    assert [head.strip() for head in rows[0]] == ["system", *measures, "queries"]
    assert {len(row) for row in rows} == {len(measures) + 2}
    assert len(rows) == 2 + len(SYSTEMS)
    assert rows[2][0].strip() == r"Mini\|LM as it is"
    assert rows[2][1].strip() == "0.412 [0.404, 0.420]"


def test_metrics_without_an_overall_segment_are_refused(data: ReportData) -> None:
    with pytest.raises(InputError, match="segment 'all'"):
        render(ReportData(metrics=data.metrics.filter(segment="tail")))


def test_a_table_that_is_not_metrics_is_refused(data: ReportData) -> None:
    with pytest.raises(InputError, match="column 'value'"):
        render(ReportData(metrics=data.metrics.drop("value")))


def test_what_the_budget_bought_is_shown_by_stratum() -> None:
    schema = TALLY | {"yield": pl.Float64, "shrunk_easy_positive": pl.Float64}
    rows = [
        ("easy_positive", "bm25+<b>", "1-10", 4_000, 300, 75, 30, 15, 0, 0.4, 0.9),
        ("token_similar", "none", "0.2-0.3", 900, 0, 0, 0, 0, 0, None, 0.9),
    ]
    spending = pl.DataFrame(rows, schema=schema, orient="row")
    page = render(replace(sample(), spending=spending))
    table = page.split('id="figure-spending"')[1].split("</table>")[0]
    cells = [re.sub("<[^>]+>", " ", row).split() for row in table.split("<tr>")[2:]]
    assert cells[0][-5:] == ["4,000", "300", "100.0%", "35.0%", "5.0%"]
    assert cells[1][-5:] == ["900", "0", "0.0%", "\u2013", "\u2013"]
    assert "bm25+&lt;b&gt;" in table
    for nothing in (None, spending.clear()):
        assert "figure-spending" not in render(replace(sample(), spending=nothing))
