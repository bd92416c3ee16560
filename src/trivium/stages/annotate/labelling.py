"""Labels: each judge is asked about what the ones before it left open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from trivium.adapters.judges import collect
from trivium.adapters.judges.panel import Panel
from trivium.adapters.ledger import Prices
from trivium.domain.calibration import Calibrated
from trivium.domain.cascade import Settling
from trivium.foundation.tables import PROBABILITIES, labels_schema
from trivium.stages.annotate.cascading import FittedCascade


def label(
    pairs: pl.DataFrame, panel: Panel, fitted: FittedCascade, prices: Mapping[str, Prices]
) -> tuple[pl.DataFrame, int]:
    """Grade pairs with a cascade.

    Args:
        pairs: Columns query_id, item_id, query_text, item_text.
        panel: The judges.
        fitted: Their calibrations and thresholds.
        prices: What each judge costs.

    Returns:
        A labels table (`tables.labels_schema`, of the judges that have a say) sorted by query and
        item, and the number of pairs that no judge gave a usable answer to, which are left out.

    Raises:
        BudgetReached: If the run has spent its budget; what was answered is in the store.
    """
    settling = Settling(fitted.cascade, len(pairs))
    tokens, usd = np.zeros(len(pairs), np.int32), np.zeros(len(pairs))
    columns: dict[str, Any] = {}
    for name in fitted.cascade.judges:
        rows = settling.open(name)
        for judge in (*fitted.first[name], name):
            said = collect(panel[judge], pairs[rows])
            tokens[rows] += said.read + said.written
            per_token = prices[judge]
            usd[rows] += (
                said.read * per_token.usd_per_million_tokens
                + said.written * per_token.usd_per_million_written
            ) / 1e6
        calibrated = fitted.calibrations[name].apply(said.probabilities.astype(np.float64))
        settling.hear(name, rows, calibrated)
        columns[f"p_{name}"] = _column(calibrated, rows, len(pairs))
    settled = settling.table().drop("probabilities")
    table = pairs.select("query_id", "item_id").with_columns(
        *settled.get_columns(),
        pl.Series("tokens", tokens, dtype=pl.Int32),
        pl.Series("cost_usd", usd, dtype=pl.Float64),
        *(series.alias(name) for name, series in columns.items()),
    )
    labels = table.filter(pl.col("grade").is_not_null())
    schema = labels_schema(fitted.cascade.judges)
    return (
        labels.select(list(schema.columns)).sort("query_id", "item_id"),
        len(pairs) - len(labels),
    )


def _column(said: Calibrated, rows: np.ndarray, pairs: int) -> pl.Series:
    """A judge's calibrated probabilities, null where it was not asked or gave no answer."""
    whole = np.full((pairs, 5), np.nan, np.float32)
    whole[rows] = said.probabilities
    answered = pl.Series(~np.isnan(whole).any(axis=1))
    column = pl.Series("p", whole, dtype=PROBABILITIES)
    return pl.select(pl.when(answered).then(column)).to_series()
