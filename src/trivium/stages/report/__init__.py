"""From a run's tables to a self-contained HTML page, and to tables for a terminal and for Markdown.

In: `ReportData`, all of it but the metrics optional. Out: text. Command: `trivium report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from trivium.adapters import figures, templates
from trivium.foundation.errors import InputError
from trivium.foundation.tables import GRADE_NAMES, GRADES, METRICS, SEGMENTS, validate
from trivium.stages.report import judging, mining
from trivium.stages.report.data import ReportData

if TYPE_CHECKING:
    from rich.table import Table

OVERALL = "all"
"""The segment of `metrics` and `gains` that holds all queries."""

_LOWER_IS_BETTER = ("embarrassing@", "bad@")
_NEUTRAL = ("unjudged@",)

Row = Mapping[str, Any]


def render(data: ReportData) -> str:
    """Lay a run out as one HTML page: no script, nothing loaded from elsewhere.

    The same data give the same bytes, and all text from the data is escaped.

    Raises:
        InputError: If the metrics are not a metrics table.
    """
    view = {
        "title": data.title,
        "simulated": data.simulated,
        "grades": [f"{grade} {name}" for grade, name in zip(GRADES, GRADE_NAMES, strict=True)],
        "results": _results(data),
        "mining": mining.view(data),
        "judge": judging.view(data),
        "levels": _levels(data.levels, data.level_examples, data.payoff),
        "training": _training(data.curves, data.best),
        "run": _run(data.manifest),
        "config": data.config,
    }
    return templates.render("report.html", view)


def results_table(metrics: pl.DataFrame, gains: pl.DataFrame | None = None) -> Table:
    """Lay the metrics over all queries out for a terminal: a column a system, a row a measure.

    Args:
        metrics: `tables.METRICS`.
        gains: As in `ReportData`; adds the gain in the first measure over the baseline.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    grid = _grid(metrics, gains)
    table = Table(box=SIMPLE_HEAD, show_lines=False)
    table.add_column("95% intervals below")
    for row in grid["rows"]:
        table.add_column(Text(row["system"]), justify="right")
    for place, measure in enumerate(grid["measures"]):
        cells = (templates.with_limits(row["cells"][place]) for row in grid["rows"])
        table.add_row(Text(measure), *(Text(cell.replace(" [", "\n[")) for cell in cells))
    table.add_row("queries", *(templates.count(row["queries"]) for row in grid["rows"]))
    if gains is not None:
        words = (templates.gain_in_words(row["gain"]) for row in grid["rows"])
        stacked = (Text(cell.replace(" [", "\n[").replace(", p", "\np")) for cell in words)
        table.add_row(Text(f"gain in {grid['measures'][0]}"), *stacked)
    return table


def results_markdown(metrics: pl.DataFrame) -> str:
    """Lay the metrics over all queries out as a Markdown table, a row a system."""
    grid = _grid(metrics, None)
    heads = ["system", *grid["measures"], "queries"]
    lines = [
        [row["system"], *map(templates.with_limits, row["cells"]), templates.count(row["queries"])]
        for row in grid["rows"]
    ]
    rule = ["---", *["---:"] * (len(heads) - 1)]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in (heads, rule, *lines)]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def _results(data: ReportData) -> dict[str, Any]:
    metrics = validate(data.metrics, METRICS)
    grid = _grid(metrics, data.gains)
    measure = grid["measures"][0]
    gains = None if data.gains is None else data.gains.filter(measure=measure)
    baseline = data.baseline or _baseline(grid["rows"], data.gains)
    lead = _lead(grid["rows"], baseline)
    return grid | {
        "measure": measure,
        "baseline": baseline,
        "lead": lead,
        "sentence": _lead_sentence(lead, measure, baseline),
        "segments": _segments(metrics.filter(measure=measure), gains),
        "gains": None if gains is None else gains.to_dicts(),
        "forest": None if gains is None else figures.forest(gains, (OVERALL, *SEGMENTS)),
    }


def _grid(metrics: pl.DataFrame, gains: pl.DataFrame | None) -> dict[str, Any]:
    """Measures, and a row a system, over all queries, both in the order of the metrics."""
    overall = metrics.filter(segment=OVERALL)
    if overall.is_empty():
        raise InputError.of(
            "metrics: column 'segment'",
            got=f"no row of the segment '{OVERALL}' among {len(metrics)} rows",
            expected=f"values over all queries, in the segment '{OVERALL}'",
            fix="evaluate at least one system on the test queries",
        )
    measures = overall["measure"].unique(maintain_order=True).to_list()
    cells = {(row["system"], row["measure"]): row for row in overall.iter_rows(named=True)}
    best = {measure: _best(overall.filter(measure=measure)) for measure in measures}
    rows = []
    for system in overall["system"].unique(maintain_order=True):
        found = [cells.get((system, measure)) for measure in measures]
        rows.append(
            {
                "system": system,
                "cells": found,
                "best": [c is not None and c["value"] == best[c["measure"]] for c in found],
                "queries": max(cell["queries"] for cell in found if cell),
                "gain": _first(gains, system=system, segment=OVERALL, measure=measures[0]),
            }
        )
    return {"measures": measures, "rows": rows}


def _best(values: pl.DataFrame) -> float | None:
    """The best value of one measure; None where neither end is better."""
    measure = values["measure"][0]
    if measure.startswith(_NEUTRAL):
        return None
    low, high = values.select(low=pl.min("value"), high=pl.max("value")).row(0)
    return float(low if measure.startswith(_LOWER_IS_BETTER) else high)


def _baseline(rows: Sequence[Row], gains: pl.DataFrame | None) -> str | None:
    if gains is None:
        return None
    others = [row["system"] for row in rows if not row["gain"]]
    return others[0] if len(others) == 1 else None


def _lead(rows: Sequence[Row], baseline: str | None) -> Row:
    """The system that is best in the first measure, among those with a gain if any has one."""
    scored = [row for row in rows if row["cells"][0]]
    own = [row for row in scored if row["gain"] and row["system"] != baseline] or scored
    return max(own, key=lambda row: row["cells"][0]["value"])


def _lead_sentence(lead: Row, measure: str, baseline: str | None) -> str:
    value = templates.number(lead["cells"][0]["value"])
    head = f"{lead['system']} reaches {measure} {value} on {lead['queries']:,} queries"
    gain = lead["gain"]
    if not gain:
        return f"{head}, the highest in this run."
    sure = gain["ci_low"] is not None and (gain["ci_low"] > 0 or gain["ci_high"] < 0)
    doubt = "" if sure else "; the interval does not leave out zero"
    return f"{head}: {templates.gain_in_words(gain)} against {baseline or 'the baseline'}{doubt}."


def _segments(metrics: pl.DataFrame, gains: pl.DataFrame | None) -> dict[str, Any] | None:
    names = [name for name in SEGMENTS if name in set(metrics["segment"])]
    if not names:
        return None
    rows = []
    for system in metrics["system"].unique(maintain_order=True):
        cells = []
        for segment in names:
            cell = _first(metrics, system=system, segment=segment)
            gain = _first(gains, system=system, segment=segment)
            cells.append(None if cell is None else cell | {"gain": gain})
        rows.append({"system": system, "cells": cells})
    largest = metrics.group_by("segment").agg(pl.col("queries").max())
    return {"names": names, "rows": rows, "queries": dict(largest.iter_rows())}


def _levels(
    levels: pl.DataFrame | None, examples: pl.DataFrame | None, payoff: str
) -> dict[str, Any] | None:
    if levels is None and examples is None:
        return None
    largest = 1 if levels is None else max([1, *levels["rows"].to_list()])
    return {
        "sentence": None if levels is None else _levels_sentence(levels),
        "payoff": payoff,
        "rows": None if levels is None else levels.to_dicts(),
        "largest": largest,
        "examples": None if examples is None else examples.to_dicts(),
    }


def _levels_sentence(levels: pl.DataFrame) -> str:
    made = (levels["rows"] > 0).sum()
    sentence = f"{levels['rows'].sum():,} examples in {made} levels"
    known = levels.filter(pl.col("precision").is_not_null()).sort("precision", "level")
    if known.is_empty():
        return f"{sentence}; no level could be checked against human grades."
    worst = known.row(0, named=True)
    return (
        f"{sentence}; the least certain is {templates.words(worst['level'])}, where "
        f"{templates.percent(worst['precision'], 0)} of {worst['precision_pairs']:,} pairs with a "
        "human grade are what the level says."
    )


def _training(curves: pl.DataFrame | None, best: Row | None) -> dict[str, Any] | None:
    if curves is None:
        return None
    sentence = _training_sentence(curves, best)
    return {
        "sentence": sentence,
        "losses": figures.losses(curves),
        "validation": figures.validation(curves, best, f"By step. {sentence or ''}".strip()),
    }


def _training_sentence(curves: pl.DataFrame, best: Row | None) -> str | None:
    if best is None:
        return None
    where, ndcg = f"{best['stage']}, step {best['step']}", templates.number(best["ndcg"])
    sentence = f"The checkpoint of {where}, is kept: validation nDCG@10 {ndcg}"
    measured = curves["ndcg"].drop_nulls()
    if measured.is_empty():
        return f"{sentence}."
    return f"{sentence}, against {measured[0]:.3f} when first measured."


def _run(manifest: pl.DataFrame | None) -> dict[str, Any] | None:
    if manifest is None or manifest.is_empty():
        return None
    longest = manifest.sort("seconds", "stage", descending=[True, False]).row(0, named=True)
    total, most = (templates.duration(n) for n in (sum(manifest["seconds"]), longest["seconds"]))
    sentence = f"The stages took {total}; the longest, {longest['stage']}, {most}."
    return {"sentence": sentence, "rows": manifest.to_dicts()}


def _first(frame: pl.DataFrame | None, **where: Any) -> dict[str, Any] | None:
    found = None if frame is None else frame.filter(**where)
    return None if found is None or found.is_empty() else found.row(0, named=True)
