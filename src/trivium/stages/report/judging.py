"""The report's section on judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from trivium.adapters import figures, templates
from trivium.foundation.tables import GRADES
from trivium.stages.report.data import ReportData

MEASURES = ("accuracy", "within_one", "kappa", "spearman", "rmse")
"""Measures of the table that compares judges."""


def view(data: ReportData) -> dict[str, Any] | None:
    """What the template's section on judges reads; None where nothing is known of them."""
    reliability, agreement, confusion = data.reliability, data.agreement, data.confusion
    if reliability is None and agreement is None and confusion is None:
        return None
    errors = {} if reliability is None else _calibration_errors(reliability)
    return {
        "promise": data.promise,
        "measures": MEASURES,
        "judges": _by_judge(data.judges),
        "settled": _rows(data.settled),
        "saved": _saved(data.settled),
        "rerank": _rows(data.rerank),
        "raters": _rows(data.against_raters),
        "strata": _strata(data.strata),
        "spending": _spending(data.spending),
        "sentence": _judge_sentence(agreement, errors),
        "agreement": None if agreement is None else agreement.to_dicts(),
        "reliability": None if reliability is None else figures.reliability(reliability),
        "errors": errors,
        "confusion": None if confusion is None else _confusion(confusion),
    }


def _calibration_errors(reliability: pl.DataFrame) -> dict[str, float]:
    """Expected calibration error of each kind: mean |accuracy - confidence| over all pairs."""
    gap = (pl.col("accuracy") - pl.col("confidence")).abs()
    weighted = (gap * pl.col("count")).sum() / pl.col("count").sum()
    filled = reliability.filter(pl.col("count") > 0)
    return dict(filled.group_by("kind").agg(weighted.alias("ece")).sort("kind").iter_rows())


def _judge_sentence(agreement: pl.DataFrame | None, errors: Mapping[str, float]) -> str | None:
    parts = []
    if agreement is not None and len(agreement):
        row = agreement.row(0, named=True)
        parts.append(
            f"Against human grades the judge's {templates.words(row['measure'])} is "
            f"{templates.with_limits(row)} on {row['pairs']:,} pairs of {row['queries']:,} queries."
        )
    if {"raw", "calibrated"} <= errors.keys():
        raw, calibrated = errors["raw"], errors["calibrated"]
        parts.append(
            f"Calibration takes the expected calibration error from {raw:.3f} to {calibrated:.3f}."
        )
    return " ".join(parts) or None


def _confusion(confusion: pl.DataFrame) -> list[dict[str, Any]]:
    pairs = {(h, j): n for h, j, n in confusion.select("human", "judged", "pairs").rows()}
    rows = []
    for human in GRADES:
        cells = [pairs.get((human, judged), 0) for judged in GRADES]
        rows.append({"cells": [(cell, cell / max(sum(cells), 1)) for cell in cells]})
    return rows


def _rows(table: pl.DataFrame | None) -> list[dict[str, Any]]:
    return [] if table is None else table.to_dicts()


def _by_judge(judges: pl.DataFrame | None) -> list[dict[str, Any]]:
    """A row a judge, its measures by name; none where there is only one."""
    if judges is None or judges["judge"].n_unique() < 3:  # a judge, and the cascade of it
        return []
    rows = []
    for name in judges["judge"].unique(maintain_order=True):
        of = {r["measure"]: r for r in judges.filter(pl.col("judge") == name).to_dicts()}
        rows.append({"judge": name, "cells": [of.get(measure) for measure in MEASURES]})
    return rows


def _saved(settled: pl.DataFrame | None) -> float | None:
    """The cascade's cost, as a share of asking the dearest judge about everything."""
    if settled is None or settled["judge"].n_unique() < 2:
        return None
    return float((settled["share"] * settled["cost"]).sum())


def _strata(strata: pl.DataFrame | None) -> list[dict[str, Any]]:
    """Agreement by how candidates were found, those without human grades among them."""
    if strata is None:
        return []
    return strata.filter(pl.col("measure") == "accuracy").to_dicts()


def _spending(spending: pl.DataFrame | None) -> list[dict[str, Any]]:
    """What was labelled of each stratum, and the examples that it made of 100 labels."""
    if spending is None or not (total := spending["pairs"].sum()):
        return []
    positive = pl.sum_horizontal(pl.col("^.*_positive$").exclude("^shrunk_.*$"))
    negative = pl.sum_horizontal(pl.col("^.*_negative$").exclude("^shrunk_.*$"))
    return spending.with_columns(
        share=pl.col("pairs") / total,
        positives=pl.when(pl.col("pairs") > 0).then(positive / pl.col("pairs")),
        negatives=pl.when(pl.col("pairs") > 0).then(negative / pl.col("pairs")),
    ).to_dicts()
