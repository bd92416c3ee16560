"""The report: figures from the data, nothing unescaped, the same bytes, missing parts said."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from trivium.foundation.errors import InputError
from trivium.foundation.tables import GRADES, METRICS
from trivium.stages.report import ReportData, render, results_markdown, results_table

SYSTEMS = {
    "MiniLM as it is": (0.412, 0.664, 0.073),
    "click-trained (simulated)": (0.431, 0.726, 0.079),
    "published three stages": (0.407, 0.634, 0.073),
    "progressive curriculum": (0.452, 0.758, 0.068),
}
BASELINE = "click-trained (simulated)"
SEGMENT_SHIFTS = {"all": 0.0, "head": 0.05, "torso": 0.01, "tail": -0.06}
SEGMENT_QUERIES = {"all": 2366, "head": 39, "torso": 811, "tail": 1516}
SCRIPT = "<script>alert('x')</script>"


def _frame(names: str, rows: list[tuple[Any, ...]], **types: Any) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=names.split(), orient="row", schema_overrides=types)


def _metrics() -> pl.DataFrame:
    rows = []
    for system, (ndcg, recall, bad) in SYSTEMS.items():
        for segment, shift in SEGMENT_SHIFTS.items():
            queries = SEGMENT_QUERIES[segment]
            width = 0.4 / queries**0.5
            values = {
                "nDCG@10": ndcg + shift,
                "condensed nDCG@10": 0.85 + ndcg / 10 + shift / 4,
                "R@100": recall + shift,
                "P@1": ndcg + 0.1 + shift,
                "embarrassing@10": bad / 3,
                "bad@10": bad,
                "unjudged@10": 0.81 - ndcg / 5,
            }
            rows += [
                (system, segment, measure, value, value - width, value + width, None, queries)
                for measure, value in values.items()
            ]
    return pl.DataFrame(rows, schema=dict(METRICS.columns), orient="row")


def _gains() -> pl.DataFrame:
    rows = []
    start = SYSTEMS[BASELINE][0]
    for system in [name for name in SYSTEMS if name != BASELINE]:
        for segment, shift in SEGMENT_SHIFTS.items():
            gain = SYSTEMS[system][0] - start - shift / 4
            queries = SEGMENT_QUERIES[segment]
            width = 0.25 / queries**0.5
            p_value = 0.0005 if abs(gain) > width else 0.21
            relative = gain / (start + shift)
            interval = (gain - width, gain + width)
            rows.append((system, segment, "nDCG@10", gain, *interval, relative, p_value, queries))
    names = "system segment measure difference ci_low ci_high relative p_value queries"
    return _frame(names, rows)


def _overlap() -> pl.DataFrame:
    shares = {10: (0.31, 0.12, 0.17), 100: (0.42, 0.19, 0.21), 500: (0.48, 0.23, 0.24)}
    pairs = (("dictionary", "bm25"), ("dictionary", "dense"), ("bm25", "dense"))
    rows = [
        (depth, a, b, share, share / (2 - share), 5677)
        for depth, overlaps in shares.items()
        for (a, b), share in zip(pairs, overlaps, strict=True)
    ]
    return _frame("depth a b overlap jaccard queries", rows)


def _reliability() -> pl.DataFrame:
    rows = [
        (kind, grade, place, (place + 0.5) / 10)
        for grade in GRADES
        for kind in ("raw", "calibrated")
        for place in range(2, 10)
    ]
    slope = pl.when(pl.col("kind") == "raw").then(0.72).otherwise(0.97)
    lift = pl.col("predicted") % 3 * 0.02
    return _frame("kind predicted bin confidence", rows).with_columns(
        accuracy=(pl.col("confidence") * slope + lift).clip(0, 1),
        count=20 + 13 * pl.col("predicted") * (pl.col("bin") % 4),
    )


def _curves() -> pl.DataFrame:
    rows: list[tuple[Any, ...]] = []
    stages = (("seed", 200, 2.4, 0.400), ("hard", 160, 1.6, 0.425), ("refine", 40, 0.09, 0.438))
    for stage, steps, loss, start in stages:
        rows.append((stage, 0, None, start))
        for step in range(10, steps + 1, 10):
            wobble = ((step * 37) % 17) / 100
            ndcg = start + 0.02 * (step / steps) ** 0.5 - wobble / 40
            measured = ndcg if step % (steps // 4) == 0 else None
            rows.append((stage, step, loss * (0.45 + 0.55 / (1 + step / 30) + wobble), measured))
    return _frame("stage step loss ndcg", rows, loss=pl.Float64, ndcg=pl.Float64)


def _examples() -> pl.DataFrame:
    rows: list[tuple[Any, ...]] = [
        ("easy_positive", "cordless drill 18v", "18V Cordless Drill Driver Kit", 4, "found by all"),
        ("hard_positive", "light for shed", "Solar Wall Lantern, Sensor", 3, "bm25 31, no dense"),
        ("hard_negative", "drill bit set", "Hammer Drill, Corded, 800 W", 1, "dense 44 alone"),
        ("token_similar_negative", SCRIPT, "Hose Reel & <b>Cart</b>, 30 m", 0, "tf-idf 0.34"),
        ("random_negative", "white paint 5l", "Cedar Fence Picket 6 ft", None, "drawn"),
    ]
    return _frame("level query title grade reason", rows)


def sample() -> ReportData:
    """A whole run of a plausible size."""
    manifest: list[tuple[Any, ...]] = [
        ("mine", 412.0, 1_238_411, ["5,677 queries, 3 channels", "no query set aside"]),
        ("annotate", 5_190.4, 152_398, ["accuracy 0.47 on the agreement part", "5.1 ms a pair"]),
        ("examples", 9.2, 61_022, ["left out: 31,004 of grade 2, 12,551 over the cap"]),
        ("train", 1_803.7, 400, ["kept: refine, step 30"]),
        ("evaluate", 96.1, 112, ["4 systems, 2,366 queries"]),
    ]
    names = "dictionary bm25 dense bm25+dictionary dense+dictionary bm25+dense"
    found = [*names.split(), "bm25+dense+dictionary"]
    counts = [301_220, 122_845, 598_310, 144_020, 9_150, 12_433, 50_433]
    agreement = [
        ("accuracy", 0.473, 0.461, 0.485, 8120, 705),
        ("within_one", 0.861, 0.852, 0.870, 8120, 705),
        ("kappa", 0.356, 0.335, 0.377, 8120, 705),
        ("spearman", 0.510, 0.489, 0.531, 8120, 705),
        ("precision_0", None, None, None, 0, 705),
    ]
    confusion = [
        (human, judged, 900 * (human + 1) // (1 + 2 * abs(human - judged)) + 13)
        for human in GRADES
        for judged in GRADES
    ]
    levels = [
        ("easy_positive", 12_004, 2_498, 0.901, 611),
        ("hard_positive", 9_231, 3_974, 0.541, 312),
        ("hard_negative", 18_730, 3_917, 0.683, 205),
        ("token_similar_negative", 4_247, 1_419, None, 0),
        ("random_negative", 56_770, 5_677, None, 0),
    ]
    return ReportData(
        title="Trivium on a hardware catalog",
        metrics=_metrics(),
        gains=_gains(),
        config={
            "mine": {"channels": ["dictionary", "bm25", "dense"], "depth": 500, "model": "a/b"},
            "train": {"recipe": "default", "stages": [], "scale": 1.0, "model": None, "bf16": True},
        },
        manifest=_frame("stage seconds rows summary", manifest),
        simulated=True,
        overlap=_overlap(),
        found_by=pl.DataFrame({"channels": found, "candidates": counts}),
        reliability=_reliability(),
        agreement=_frame("measure value ci_low ci_high pairs queries", agreement),
        confusion=_frame("human judged pairs", confusion),
        levels=_frame("level rows queries precision precision_pairs", levels),
        level_examples=_examples(),
        curves=_curves(),
        best={"stage": "refine", "step": 30, "ndcg": 0.4536},
    )


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
            "found_by": pl.DataFrame({"channels": [SCRIPT], "candidates": [1]}),
            "config": {SCRIPT: {SCRIPT: [SCRIPT]}},
            "best": {"stage": SCRIPT, "step": 40, "ndcg": 0.4},
        }
    )
    parsed = _Page(render(changed))
    assert parsed.tags["script"] == 0
    assert parsed.tags["b"] == 0
    assert parsed.tags["svg"] == 5 + 1 + 1 + 1
    assert parsed.words.count(SCRIPT) >= 8
    assert "$x$" in parsed.words
    assert _Page(render(data)).tags["script"] == 0


def test_figures_are_named_and_described(page: _Page) -> None:
    names = {figure["id"] for figure in page.figures}
    expected = {f"reliability-{grade}" for grade in GRADES} | {"loss-1", "loss-2", "loss-3"}
    assert names == expected | {"forest", "validation"}
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
