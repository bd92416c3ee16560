"""The report's figures as SVG text that takes its colours and its font from the page around it.

Every function gives one `<svg>` element for HTML: text stays text, colours are CSS variables with
a light fallback, ids start with the figure's own name, and the same numbers give the same bytes.
One unit of the drawing is one CSS pixel.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import polars as pl

from trivium.adapters import templates
from trivium.foundation.tables import GRADE_NAMES

PALETTE = {
    "ink": "#1d2433",
    "muted": "#5d677a",
    "line": "#d9dee7",
    "band": "#f2f4f8",
    "paper": "#fefeff",
    "accent": "#2457c5",
    "warm": "#c2570c",
}
"""CSS variable of the page to the colour drawn when the page does not set it."""

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 11,
    "text.color": PALETTE["ink"],
    "axes.edgecolor": PALETTE["line"],
    "axes.labelcolor": PALETTE["muted"],
    "axes.labelsize": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": PALETTE["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALETTE["line"],
    "grid.linewidth": 0.8,
    "xtick.color": PALETTE["line"],
    "ytick.color": PALETTE["line"],
    "xtick.labelcolor": PALETTE["muted"],
    "ytick.labelcolor": PALETTE["muted"],
    "legend.frameon": False,
    "axes.unicode_minus": True,
}
_LONGEST_NAME = 30
_SVG = "http://www.w3.org/2000/svg"


def reliability(bins: pl.DataFrame) -> list[str]:
    """Draw accuracy against confidence, raw and calibrated, a figure a predicted grade.

    Args:
        bins: Columns predicted (the grade), kind ("raw" or "calibrated"), confidence, accuracy
            and count, one row a bin; a dot's area follows its count.
    """
    bins = bins.filter(pl.col("count") > 0)
    drawn = []
    for grade in bins["predicted"].unique().sort():
        rows = bins.filter(predicted=grade)
        title = f"{grade} {GRADE_NAMES[grade]}"
        pairs = rows.filter(kind=rows["kind"][0])["count"].sum()
        label = f"Reliability where the grade {title} is predicted, on {pairs} pairs"
        with canvas(192, 208) as figure:
            axes = figure.add_subplot()
            axes.plot([0, 1], [0, 1], color=PALETTE["muted"], linewidth=1, linestyle=(0, (3, 3)))
            for kind, colour in (("raw", PALETTE["warm"]), ("calibrated", PALETTE["accent"])):
                _reliability_line(axes, rows.filter(kind=kind).sort("confidence"), colour)
            axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), title=title, aspect="equal")
            axes.set(xlabel="confidence", ylabel="share right")
            axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
            drawn.append(svg(figure, f"reliability-{grade}", label))
    return drawn


def losses(curves: pl.DataFrame) -> list[str]:
    """Draw the training loss by step, a figure a stage: losses differ in scale.

    Args:
        curves: Columns stage, step (counted in its stage) and loss (nullable).
    """
    drawn: list[str] = []
    for (stage,), rows in curves.filter(pl.col("loss").is_not_null()).group_by(
        "stage", maintain_order=True
    ):
        points = rows.sort("step")
        label = f"Training loss of {stage}: {points['loss'][0]:.3f} to {points['loss'][-1]:.3f}"
        with canvas(280, 180) as figure:
            axes = figure.add_subplot()
            axes.plot(points["step"].to_list(), points["loss"].to_list(), **_line())
            axes.set(title=_short(str(stage)), xlabel="step", ylabel="loss")
            _few_ticks(axes)
            drawn.append(svg(figure, f"loss-{len(drawn) + 1}", label))
    return drawn


def validation(curves: pl.DataFrame, best: Mapping[str, Any] | None, label: str) -> str | None:
    """Draw validation nDCG@10 over all stages, each a band, and the chosen checkpoint.

    Args:
        curves: Columns stage, step (counted in its stage) and ndcg (nullable).
        best: stage, step and ndcg of the chosen checkpoint.
        label: What a screen reader says.

    Returns:
        The figure, or None if nothing was validated.
    """
    starts = _starts(curves)
    points = curves.filter(pl.col("ndcg").is_not_null()).with_columns(
        step=pl.col("step") + pl.col("stage").replace_strict(starts, return_dtype=pl.Int64)
    )
    if points.is_empty():
        return None
    points = points.sort("step")
    with canvas(460, 230) as figure:
        axes = figure.add_subplot()
        for stage in points.partition_by("stage", maintain_order=True):
            axes.plot(stage["step"].to_list(), stage["ndcg"].to_list(), marker="o", **_line())
        axes.margins(x=0.02, y=0.18)
        _bands(axes, starts)
        if best is not None:
            _mark_best(axes, starts.get(best["stage"], 0) + best["step"], best["ndcg"])
        axes.set(xlabel="step, over all stages", ylabel="validation nDCG@10")
        _few_ticks(axes)
        return svg(figure, "validation", label)


def forest(gains: pl.DataFrame, segments: Sequence[str]) -> str | None:
    """Draw differences from the baseline with their intervals, grouped by system.

    A dot is filled where the interval leaves out zero.

    Args:
        gains: Columns system, segment, difference, ci_low, ci_high and relative; systems are
            drawn in this order.
        segments: The order of the segments; others come after these.

    Returns:
        The figure, or None if there are no gains.
    """
    if gains.is_empty():
        return None
    order = pl.col("segment").replace_strict(
        {name: place for place, name in enumerate(segments)}, default=len(segments)
    )
    groups = gains.sort(order, "segment").partition_by("system", maintain_order=True)
    groups.sort(key=lambda rows: gains["system"].to_list().index(rows["system"][0]))
    spoken = (
        f"{row['system']}, {row['segment']}: {templates.difference(row['difference'])}"
        for rows in groups
        for row in rows.iter_rows(named=True)
    )
    with canvas(440, 56 + 19 * (len(gains) + len(groups))) as figure:
        axes = figure.add_subplot()
        ticks: list[str] = []
        for rows in groups:
            ticks.append(_short(rows["system"][0]))
            axes.axhline(len(ticks) - 1.55, color=PALETTE["line"], linewidth=0.8)
            for row in rows.iter_rows(named=True):
                _interval(axes, len(ticks), row)
                ticks.append(row["segment"])
        axes.axvline(0, color=PALETTE["muted"], linewidth=1)
        _forest_axes(axes, ticks, {_short(rows["system"][0]) for rows in groups})
        return svg(figure, "forest", f"Differences from the baseline. {'; '.join(spoken)}")


def _reliability_line(axes: Any, rows: pl.DataFrame, colour: str) -> None:
    x, y, count = (rows[name].to_list() for name in ("confidence", "accuracy", "count"))
    sizes = [10 + 60 * pairs / max(count) for pairs in count]
    axes.plot(x, y, color=colour, linewidth=1.5)
    axes.scatter(x, y, s=sizes, color=colour, edgecolor=PALETTE["paper"], linewidth=1, zorder=3)


def _line() -> dict[str, Any]:
    return {
        "color": PALETTE["accent"],
        "linewidth": 1.8,
        "markersize": 5,
        "markeredgecolor": PALETTE["paper"],
    }


def _starts(curves: pl.DataFrame) -> dict[str, int]:
    """Steps taken before each stage, in the order of the log."""
    starts: dict[str, int] = {}
    total = 0
    for stage, steps in curves.group_by("stage", maintain_order=True).agg(pl.max("step")).rows():
        starts[stage] = total
        total += steps
    return starts


def _bands(axes: Any, starts: Mapping[str, int]) -> None:
    left, right = axes.get_xlim()
    edges = [left, *list(starts.values())[1:], right]
    for place, stage in enumerate(starts):
        low, high = edges[place], edges[place + 1]
        if place % 2 == 0:
            axes.axvspan(low, high, color=PALETTE["band"], linewidth=0, zorder=0)
        axes.annotate(
            _short(stage),
            ((low + high) / 2, 1.03),
            xycoords=axes.get_xaxis_transform(),
            ha="center",
            color=PALETTE["muted"],
        )
    axes.set_xlim(left, right)


def _mark_best(axes: Any, step: float, ndcg: float) -> None:
    axes.scatter(step, ndcg, s=110, color="none", edgecolor=PALETTE["warm"], linewidth=2, zorder=4)
    right = step > sum(axes.get_xlim()) / 2
    axes.annotate(
        f"chosen, {ndcg:.3f}",
        (step, ndcg),
        xytext=(-10 if right else 10, 9),
        textcoords="offset points",
        ha="right" if right else "left",
        color=PALETTE["warm"],
        weight="bold",
    )


def _interval(axes: Any, place: float, row: Mapping[str, Any]) -> None:
    low, high, centre = row["ci_low"], row["ci_high"], row["difference"]
    known = low is not None and high is not None
    sure = known and (low > 0 or high < 0)
    colour = PALETTE["warm"] if sure and centre < 0 else PALETTE["accent"]
    if known:
        axes.plot([low, high], [place, place], color=colour, linewidth=1.8)
    axes.scatter(
        centre,
        place,
        s=30,
        facecolor=colour if sure else PALETTE["paper"],
        edgecolor=colour,
        linewidth=1.6,
        zorder=3,
    )
    if row["relative"] is not None:
        axes.annotate(
            templates.percent(row["relative"], signed=True),
            (1.015, place),
            xycoords=axes.get_yaxis_transform(),
            va="center",
            annotation_clip=False,
        )


def _forest_axes(axes: Any, ticks: Sequence[str], heads: set[str]) -> None:
    axes.set_yticks(range(len(ticks)), ticks)
    for text, label in zip(ticks, axes.get_yticklabels(), strict=True):
        if text in heads:
            label.set(weight="bold", color=PALETTE["ink"])
    axes.set_ylim(len(ticks) - 0.3, -0.7)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("difference (right: relative)")


def _few_ticks(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"


def standalone(drawing: str) -> str:
    """A figure as a file of its own: colours written out, on the paper's ground."""
    colours = re.sub(r"var\(--\w+, (#\w+)\)", r"\1", drawing)
    style = f"background: {PALETTE['paper']}; font-family: system-ui, sans-serif"
    return colours.replace("<svg ", f'<svg xmlns="{_SVG}" style="{style}" ', 1) + "\n"


@contextmanager
def canvas(width: int, height: int) -> Iterator[Any]:
    """A figure of so many CSS pixels (72 points an inch, one point a pixel)."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        yield Figure(figsize=(width / 72, height / 72), layout="constrained")


def svg(figure: Any, name: str, label: str) -> str:
    """The figure as an `<svg>` element.

    Args:
        figure: Of `canvas`.
        name: Its id.
        label: What a screen reader says.
    """
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    head = (
        f'<svg id="{name}" role="img" aria-label="{html.escape(label)}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    )
    return head + _for_page(text.getvalue(), name)


def _for_page(drawing: str, name: str) -> str:
    """What follows the opening tag, fit to stand beside other figures in one HTML page."""
    body = drawing[drawing.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    body = re.sub(r" ?font-family: [^;\"]*;?", "", body)
    for variable, colour in PALETTE.items():
        body = body.replace(colour, f"var(--{variable}, {colour})")
    return body[body.index(">") + 1 :].strip()
