"""Every table's schema, and the one check that a table passes when it crosses the border."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from trivium.foundation.errors import Fault, InputError

GRADES = (0, 1, 2, 3, 4)
GRADE_NAMES = ("embarrassing", "bad", "fair", "good", "excellent")
RELEVANT, IRRELEVANT = 3, 1
"""Lowest grade that is relevant, highest that is irrelevant; grade 2 is neither."""

SEGMENTS = ("head", "torso", "tail")
PARTS = ("seed", "calibration", "tuning", "agreement", "train", "validation", "test")
TAUGHT = ("seed", "calibration", "tuning", "agreement")
"""Parts whose human grades make the judges."""
POSITIVE_LEVELS = ("seed_positive", "easy_positive", "hard_positive", "click_positive")
NEGATIVE_LEVELS = (
    "seed_negative",
    "hard_negative",
    "token_similar_negative",
    "random_negative",
    "mined_negative",
)
BASELINE_LEVELS = ("click_positive", "mined_negative")
"""Levels that the baselines alone train on."""
LEVELS = POSITIVE_LEVELS + NEGATIVE_LEVELS
PROBABILITIES = pl.Array(pl.Float32, len(GRADES))


@dataclass(frozen=True)
class Schema:
    """A table's columns, which of them may be null, and its key.

    Attributes:
        name: The table's name as users meet it.
        columns: Column name to polars type; all are required but those in `optional`.
        key: Columns whose combination is unique.
        nullable: Columns that may hold nulls.
        optional: Columns that may be absent.
        open: Whether further columns are kept as they come.
    """

    name: str
    columns: Mapping[str, Any]
    key: tuple[str, ...] = ()
    nullable: frozenset[str] = field(default_factory=frozenset)
    optional: frozenset[str] = field(default_factory=frozenset)
    open: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that must be there."""
        return tuple(name for name in self.columns if name not in self.optional)


ITEMS = Schema("items", {"item_id": pl.String, "title": pl.String}, key=("item_id",), open=True)
QUERIES = Schema(
    "queries",
    {
        "query_id": pl.String,
        "query": pl.String,
        "frequency": pl.Int64,
        "segment": pl.String,
        "part": pl.String,
    },
    key=("query_id",),
    nullable=frozenset({"frequency", "segment", "part"}),
    optional=frozenset({"frequency", "segment", "part"}),
)
JUDGMENTS = Schema(
    "judgments",
    {"query_id": pl.String, "item_id": pl.String, "grade": pl.Int8, "rater": pl.String},
    key=("query_id", "item_id", "rater"),
    nullable=frozenset({"rater"}),
    optional=frozenset({"rater"}),
)
RUNS = Schema(
    "runs",
    {
        "query_id": pl.String,
        "item_id": pl.String,
        "channel": pl.String,
        "rank": pl.Int32,
        "score": pl.Float32,
    },
    key=("query_id", "item_id", "channel"),
)
EXAMPLES = Schema(
    "examples",
    {
        "query_id": pl.String,
        "item_id": pl.String,
        "level": pl.String,
        "grade": pl.Int8,
        "p_relevant": pl.Float32,
        "p_irrelevant": pl.Float32,
        "expected_grade": pl.Float32,
        "confidence": pl.Float32,
        "source": pl.String,
        "reason": pl.String,
    },
    key=("query_id", "item_id"),
    nullable=frozenset({"grade", "p_relevant", "p_irrelevant", "expected_grade", "confidence"}),
)
CLICKS = Schema(
    "clicks",
    {
        "query_id": pl.String,
        "item_id": pl.String,
        "clicks": pl.Int64,
        "impressions": pl.Int64,
        "rank": pl.Int32,
    },
    nullable=frozenset({"impressions", "rank"}),
    optional=frozenset({"impressions", "rank"}),
)
"""Clicks on results: how often an item was shown for a query, at which rank, how often clicked."""
DISTRIBUTIONS = Schema(
    "distributions",
    {"query_id": pl.String, "item_id": pl.String, "p": PROBABILITIES},
    key=("query_id", "item_id"),
)
"""A judge's five probabilities of pairs."""
METRICS = Schema(
    "metrics",
    {
        "system": pl.String,
        "segment": pl.String,
        "measure": pl.String,
        "value": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "p_value": pl.Float64,
        "queries": pl.Int64,
    },
    key=("system", "segment", "measure"),
    nullable=frozenset({"ci_low", "ci_high", "p_value"}),
)
PER_QUERY = Schema(
    "per_query",
    {
        "system": pl.String,
        "query_id": pl.String,
        "segment": pl.String,
        "measure": pl.String,
        "value": pl.Float64,
    },
    key=("system", "query_id", "measure"),
    nullable=frozenset({"segment"}),
)
TEACHING = Schema(
    "teaching",
    {
        "query_text": pl.String,
        "item_text": pl.String,
        "grade": pl.Int8,
        "catalog": pl.Int32,
        "query": pl.String,
    },
)
"""Graded pairs of other catalogs, numbered as in the configuration, with the query's own words."""


def candidates_schema(channels: tuple[str, ...]) -> Schema:
    """Schema of the candidates of some channels: a rank and a score each, null = not retrieved."""
    columns: dict[str, Any] = {"query_id": pl.String, "item_id": pl.String}
    for channel in channels:
        columns[f"rank_{channel}"] = pl.Int32
        columns[f"score_{channel}"] = pl.Float32
    columns |= {"channels": pl.Int8, "tfidf": pl.Float32}
    nullable = frozenset(name for name in columns if name.startswith(("rank_", "score_"))) | {
        "tfidf"
    }
    return Schema("candidates", columns, key=("query_id", "item_id"), nullable=nullable)


def labels_schema(judges: tuple[str, ...]) -> Schema:
    """Schema of the labels of some judges: `p_<judge>` holds the five calibrated probabilities.

    `judge` settled the pair, or "vote"; `settled` says how. A judge that was not asked about a
    pair, or gave no answer, has null there. `tokens` is what the judges asked read and wrote,
    `cost_usd` the price of them; machine hours, which no two runs share, are in the ledger alone.
    """
    columns: dict[str, Any] = {
        "query_id": pl.String,
        "item_id": pl.String,
        "grade": pl.Int8,
        "confidence": pl.Float32,
        "judge": pl.String,
        "settled": pl.String,
        "tokens": pl.Int32,
        "cost_usd": pl.Float64,
    }
    columns |= {f"p_{judge}": PROBABILITIES for judge in judges}
    nullable = frozenset(name for name in columns if name.startswith("p_"))
    return Schema(
        "labels",
        columns,
        key=("query_id", "item_id"),
        nullable=nullable,
        optional=frozenset({"settled", "tokens", "cost_usd"}),
    )


def channels_of(candidates: pl.DataFrame) -> tuple[str, ...]:
    """Names of the channels whose ranks a candidates table holds, in column order."""
    prefix = "rank_"
    return tuple(c.removeprefix(prefix) for c in candidates.columns if c.startswith(prefix))


def empty(schema: Schema) -> pl.DataFrame:
    """A table of that schema without rows."""
    return pl.DataFrame(schema=dict(schema.columns))


def validate(frame: pl.DataFrame, schema: Schema, where: str | None = None) -> pl.DataFrame:
    """Check a table against its schema and return it with the schema's types and column order.

    Args:
        frame: The table.
        schema: What it should be.
        where: The file it came from, for the errors; the schema's name when absent.

    Returns:
        The same rows, columns cast and ordered; unknown columns are dropped unless the schema is
        open.

    Raises:
        InputError: With every fault found: missing columns, types that cannot be cast, nulls, NaN,
            duplicate keys, grades outside 0-4, unknown segments or parts.
    """
    where = where or schema.name
    missing = [name for name in schema.required if name not in frame.columns]
    faults = [_missing(where, name, frame.columns) for name in missing]
    frame, uncast = _cast(frame, schema, where)
    known = [name for name in schema.columns if name in frame.columns]
    sound = [name for name in known if name not in uncast]
    faults += [*uncast.values(), *_content_faults(frame.select(sound), schema, where)]
    faults += _domain_faults(frame.select(known), where)
    if {*schema.key} <= {*sound, *(schema.optional - uncast.keys())}:
        faults += _duplicate_faults(frame, [name for name in schema.key if name in sound], where)
    if faults:
        raise InputError(*faults)
    rest = [name for name in frame.columns if name not in schema.columns] if schema.open else []
    return frame.select(known + rest)


def _missing(where: str, name: str, columns: list[str]) -> Fault:
    return Fault(
        f"{where}: column '{name}'",
        got=f"no such column among {', '.join(columns) or 'none'}",
        expected=f"a column '{name}'",
        fix="rename the column, or map it under [data.columns] in trivium.toml",
    )


def _cast(frame: pl.DataFrame, schema: Schema, where: str) -> tuple[pl.DataFrame, dict[str, Fault]]:
    """Give the columns their types; a column with values that have no such type is a fault."""
    faults = {}
    for name, dtype in schema.columns.items():
        if name not in frame.columns or frame.schema[name] == dtype:
            continue
        cast = converted(frame[name], dtype)
        lost = frame[name].filter(frame[name].is_not_null() & cast.is_null())
        if len(lost):
            faults[name] = Fault(
                f"{where}: column '{name}'",
                got=f"{len(lost)} value(s) such as {lost[:1].to_list()[0]!r}",
                expected=_expected_type(dtype),
                fix="correct these rows at the source",
            )
        frame = frame.with_columns(cast.alias(name))
    return frame, faults


def converted(column: pl.Series, dtype: Any) -> pl.Series:
    """A column as another type, null where a value has none.

    Example:
        >>> converted(pl.Series(["3", "2.0", "2.5", "good"]), pl.Int8).to_list()
        [3, 2, None, None]
    """
    if dtype.is_integer() and column.dtype == pl.String:
        column = column.cast(pl.Float64, strict=False)
    if dtype.is_integer() and column.dtype.is_float():
        whole = column.is_nan() | (column != column.round(0))
        column = column.set(whole.fill_null(value=False), None)
    nothing = pl.Series(column.name, [None] * len(column), dtype=dtype)
    if column.dtype.is_nested() and not dtype.is_nested():
        return nothing
    try:
        return column.cast(dtype, strict=False)
    except pl.exceptions.PolarsError:
        return nothing


def _expected_type(dtype: Any) -> str:
    names = {pl.String: "text"}
    return "a whole number" if dtype.is_integer() else names.get(dtype, f"values of type {dtype}")


def _content_faults(frame: pl.DataFrame, schema: Schema, where: str) -> list[Fault]:
    faults = []
    for name in frame.columns:
        column = frame[name]
        if name not in schema.nullable and column.null_count():
            faults.append(_null_fault(where, name, column))
        if column.dtype.is_float() and column.is_nan().any():
            faults.append(
                Fault(
                    f"{where}: column '{name}'",
                    got=f"{int(column.is_nan().sum())} NaN",
                    expected="finite numbers",
                    fix="fill or drop these rows at the source",
                )
            )
    return faults


def _null_fault(where: str, name: str, column: pl.Series) -> Fault:
    first = column.is_null().arg_max()
    return Fault(
        f"{where}: column '{name}'",
        got=f"{column.null_count()} empty value(s), the first in row {(first or 0) + 1}",
        expected="a value in every row",
        fix="fill or drop these rows at the source",
    )


def _domain_faults(frame: pl.DataFrame, where: str) -> list[Fault]:
    faults = []
    allowed: dict[str, tuple[Any, ...]] = {"grade": GRADES, "segment": SEGMENTS, "part": PARTS}
    for name, values in allowed.items():
        if name not in frame.columns:
            continue
        column = frame[name].drop_nulls()
        if name == "segment" and "measure" in frame.columns:
            values = (*values, "all")
        wrong = column.filter(~column.is_in(list(values)))
        if len(wrong):
            shown = ", ".join(str(value) for value in values)
            faults.append(
                Fault(
                    f"{where}: column '{name}'",
                    got=f"{len(wrong)} value(s) such as {wrong[0]!r}",
                    expected=f"one of {shown}",
                    fix="map these values before the table is read",
                )
            )
    return faults


def _duplicate_faults(frame: pl.DataFrame, key: list[str], where: str) -> list[Fault]:
    if not key:
        return []
    repeated = frame.filter(frame.select(key).is_duplicated()).select(key)
    if not len(repeated):
        return []
    first = ", ".join(f"{name}={value!r}" for name, value in repeated.row(0, named=True).items())
    return [
        Fault(
            f"{where}: key ({', '.join(key)})",
            got=f"{len(repeated)} rows that share a key, such as {first}",
            expected="one row for each key",
            fix="drop the duplicates at the source",
        )
    ]
