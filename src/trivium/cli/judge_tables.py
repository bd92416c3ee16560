"""Tables of judges and cascades for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from rich.table import Table

    from trivium.domain.cascade import Cascade
    from trivium.domain.drift import Drift

_MEASURES = ("accuracy", "within_one", "kappa", "spearman", "rmse")


def agreement_table(agreement: pl.DataFrame) -> Table:
    """Agreement with humans: a row a judge, and the cascade."""
    rows = []
    for judge in agreement["judge"].unique(maintain_order=True):
        of = {r["measure"]: r for r in agreement.filter(pl.col("judge") == judge).to_dicts()}
        rows.append([judge, *(_with_interval(of[m]) for m in _MEASURES), of["accuracy"]["pairs"]])
    heads = ["judge", *_MEASURES, "pairs"]
    return grid("agreement with humans on unseen queries, 95% intervals below", heads, rows)


def calibration_table(calibration: pl.DataFrame) -> Table:
    """Expected calibration error of every method: a row a judge."""
    overall = calibration.filter(pl.col("grade").is_null())
    methods = overall["method"].unique(maintain_order=True).to_list()
    rows = []
    for judge in overall["judge"].unique(maintain_order=True):
        of = overall.filter(pl.col("judge") == judge)
        errors = dict(of.select("method", "ece").iter_rows())
        rows.append([judge, *(_number(errors[method]) for method in methods)])
    return grid("expected calibration error by method", ["judge", *methods], rows)


def rerank_table(rerank: pl.DataFrame) -> Table:
    """Graded nDCG@10 of reranking the judged pools: a row a system."""
    rows = [
        [row["system"], _number(row["ndcg"]), _gain(row), row["queries"]]
        for row in rerank.to_dicts()
    ]
    heads = ["system", "nDCG@10", "against the starting tower", "queries"]
    return grid("reranking the judged items of unseen queries", heads, rows)


def settled_table(settled: pl.DataFrame) -> Table:
    """Who settles how much: a row a judge and a way of settling."""
    rows = [
        [
            row["judge"],
            row["settled"],
            f"{row['pairs']:,}",
            f"{row['share']:.1%}",
            f"{row['agreement']:.1%}",
            f"{row['cost']:.1%}",
        ]
        for row in settled.to_dicts()
    ]
    heads = ["judge", "how", "pairs", "share", "agreement", "cost of a pair"]
    return grid("who settles what, on unseen queries", heads, rows)


def curve_table(curve: pl.DataFrame) -> Table:
    """Accuracy against cost, the cheapest first; points that are the same are one row."""
    hidden = ("error_price", "cost_per_pair")
    heads = [n for n in curve.columns if n not in hidden and not curve.schema[n].is_nested()]
    points = curve.select(heads).unique(maintain_order=True)
    rows = [[_number(value) for value in row] for row in points.iter_rows()]
    return grid("agreement against cost, on the queries that tune", heads, rows)


def forecast_table(forecast: pl.DataFrame) -> Table:
    """What labelling would cost: a row a judge."""
    rows = [
        [
            row["judge"],
            f"{row['share']:.0%}",
            f"{row['pairs']:,}",
            f"{row['known']:,}",
            f"{row['tokens']:,}",
            f"{row['seconds']:,.0f}",
            f"{row['usd']:.4f}",
        ]
        for row in forecast.to_dicts()
    ]
    heads = ["judge", "asked about", "pairs to pay", "known already", "tokens", "seconds", "US $"]
    return grid("what annotating would cost, predicted", heads, rows)


def drift_tables(drift: Drift) -> list[Table]:
    """How two runs' grades differ."""
    shares = [
        [row["of"], row["name"], *(_percent(row[c]) for c in ("before", "after")), _gain_of(row)]
        for row in drift.shares.to_dicts()
    ]
    measures = [
        [row["measure"], _with_interval(row), _number(row["p_value"]), row["pairs"], row["queries"]]
        for row in drift.measures.to_dicts()
    ]
    return [
        grid("shares of the labels", ["of", "name", "before", "after", "difference"], shares),
        grid("drift", ["measure", "value", "p", "pairs", "queries"], measures),
    ]


def settings_text(cascade: Cascade, judges: Iterable[str], given: Mapping[str, Any]) -> str:
    """What to write into trivium.toml for this cascade of some of the judges."""
    lines = ["", "to have this cascade in trivium.toml:", "[annotate]"]
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen:
        lines += [f"{name} = {_toml(value)}" for name, value in chosen.items()]
        return "\n".join(lines)
    lines.append("[annotate.thresholds]")
    for judge in judges:
        numbers = ", ".join(repr(float(value)) for value in cascade.thresholds.get(judge, ()))
        lines.append(f"{judge} = [{numbers}]")
    return "\n".join(lines)


def grid(title: str, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table of a title, heads and rows, the first column to the left and the others right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for at, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if at == 0 else "right")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table


def _number(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _with_interval(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    if row["ci_low"] is None:
        return _number(row["value"])
    return f"{row['value']:.3f}\n[{row['ci_low']:.3f}, {row['ci_high']:.3f}]"


def _gain(row: Mapping[str, Any]) -> str:
    if row["gain"] is None:
        return ""
    return (
        f"{row['gain']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}], p {row['p_value']:.4f}"
    )


def _gain_of(row: Mapping[str, Any]) -> str:
    if row["ci_low"] is None or row["difference"] is None:
        return _percent(row["difference"])
    return f"{row['difference']:+.1%} [{row['ci_low']:+.1%}, {row['ci_high']:+.1%}]"


def _toml(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
