"""Annotate: a judge that has learned from human grades gives candidates a grade.

In: candidates, items and queries with the text the judge reads, and human judgments. Out: labels, a
grade with a calibrated confidence and five calibrated probabilities for each pair.

The judgments of queries of the part `seed` teach the judge, those of `calibration` calibrate it,
those of `agreement` measure it. Humans graded what some search engine returned, which says nothing
of pairs outside: random pairs join as weak grade 0, in teaching and in calibration at the same
share, never in the measuring.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.judges import Judge, load_judge
from trivium.domain.agreement import Agreement, agreement
from trivium.domain.calibration import Calibration, assess
from trivium.domain.cascade import settle
from trivium.domain.judgments import consensus
from trivium.domain.levels import STRATA, strata
from trivium.domain.sampling import draw_positions, hash_strings
from trivium.foundation.config import AnnotateConfig, Config, ExamplesConfig, MineConfig
from trivium.foundation.console import say
from trivium.foundation.errors import Fault, InputError
from trivium.foundation.tables import GRADES, PROBABILITIES, channels_of
from trivium.foundation.workspace import read_json, write_json, write_table

JUDGE = "cross_encoder"
FEWEST_QUERIES = 3
RESAMPLES = 2000
_TEACHING = ("seed", "calibration", "agreement")
_WITH_BACKGROUND = ("seed", "calibration")
_TABLES = ("agreement", "confusion", "calibration", "reliability", "teaching")
_SETTINGS = "fitted.json"


@dataclass(frozen=True)
class FittedJudge:
    """A judge that is ready to label.

    Attributes:
        judge: The trained judge.
        calibration: Its calibration.
        agreement: Its agreement with human grades, on queries that it has not seen.
        errors: Its calibration errors on the same pairs, by method and grade; see `assess`.
        reliability: Its reliability on the same pairs, by predicted grade; see `assess`.
        counts: Pairs that it was made from: columns part, source (human, background, or human with
            why they were left out), pairs, queries.
    """

    judge: Judge
    calibration: Calibration
    agreement: Agreement
    errors: pl.DataFrame
    reliability: pl.DataFrame
    counts: pl.DataFrame

    def save(self, folder: Path) -> None:
        """Write everything into a folder, and remove the checkpoints that were kept there."""
        self.judge.save(folder / "judge")
        tables = [self.agreement.measures, self.agreement.confusion]
        tables += [self.errors, self.reliability, self.counts]
        for name, table in zip(_TABLES, tables, strict=True):
            write_table(folder / f"{name}.parquet", table)
        write_json(folder / _SETTINGS, {"judge": JUDGE, "calibration": self.calibration.as_dict()})
        for left in folder.glob("training-*"):
            shutil.rmtree(left)

    @classmethod
    def load(cls, folder: Path) -> FittedJudge | None:
        """Read back what `save` wrote; nothing if it has not finished."""
        settings = read_json(folder / _SETTINGS)
        if settings is None:
            return None
        measures, confusion, errors, reliability, counts = (
            pl.read_parquet(folder / f"{name}.parquet") for name in _TABLES
        )
        return cls(
            load_judge(settings["judge"]).load(folder / "judge"),
            Calibration.from_dict(settings["calibration"]),
            Agreement(measures, confusion),
            errors,
            reliability,
            counts,
        )


@dataclass(frozen=True)
class Selection:
    """The candidates to annotate, and what became of the others.

    Attributes:
        pairs: Columns query_id, item_id, stratum; sorted by query and item.
        counts: Columns stratum (null = none), reason (kept, over_cap, no_level), pairs.
    """

    pairs: pl.DataFrame
    counts: pl.DataFrame


def annotate(
    candidates: pl.DataFrame,
    items: pl.DataFrame,
    queries: pl.DataFrame,
    judgments: pl.DataFrame,
    config: Config,
    folder: Path,
) -> pl.DataFrame:
    """Fit a judge on the judgments and label the candidates that some level could use.

    Args:
        candidates: A candidates table.
        items: Columns item_id and judge_text.
        queries: Columns query_id, judge_text and part.
        judgments: A judgments table.
        config: The sections annotate, examples and mine (which channels are lexical and dense),
            and the run's seed.
        folder: Where the judge is kept, and its checkpoints until it is fitted.

    Returns:
        A labels table, sorted by query and item.

    Raises:
        InputError: If there are too few judged queries, or one grade alone.
        DependencyError: If the judge's body cannot be loaded.
    """
    fitted = fit_once(
        judgments, items, queries, config.annotate, seed=config.run.seed, folder=folder
    )
    selection = select(candidates, config.annotate, config.examples, config.mine)
    labels = label(with_texts(selection.pairs, items, queries), fitted)
    agreed = fitted.agreement.measures.row(by_predicate=pl.col("measure") == "accuracy", named=True)
    say(f"labelled {len(labels)} of {len(candidates)} candidates")
    say(f"agreement with {agreed['pairs']} human grades: {agreed['value']:.1%}")
    return labels


def fit_once(
    judgments: pl.DataFrame,
    items: pl.DataFrame,
    queries: pl.DataFrame,
    config: AnnotateConfig,
    *,
    seed: int,
    folder: Path,
) -> FittedJudge:
    """Read the judge that an earlier run left in the folder, or `fit` it and save it there."""
    fitted = FittedJudge.load(folder)
    if fitted is None:
        fitted = fit(judgments, items, queries, config, seed=seed, folder=folder)
        fitted.save(folder)
    return fitted


def fit(
    judgments: pl.DataFrame,
    items: pl.DataFrame,
    queries: pl.DataFrame,
    config: AnnotateConfig,
    *,
    seed: int,
    folder: Path,
) -> FittedJudge:
    """Train, calibrate and measure a judge, each on queries of its own.

    Args:
        judgments: A judgments table; several raters of a pair count as their median.
        items: Columns item_id and judge_text.
        queries: Columns query_id, judge_text and part.
        config: The judge's settings.
        seed: Seed of background pairs, training and intervals.
        folder: Where checkpoints are kept; a fit that was killed goes on from them.

    Raises:
        InputError: If there are too few judged queries, or one grade alone.
        DependencyError: If the judge's body cannot be loaded.
    """
    human, left_out = human_grades(judgments, items, queries)
    check_enough(human)
    background = background_pairs(human, items, config.background, seed)
    pairs = with_texts(pl.concat([human, background]), items, queries)
    parts = {part: pairs.filter(pl.col("part") == part) for part in _TEACHING}
    judge = load_judge(JUDGE).fit(
        parts["seed"], _grades(parts["seed"]), config, seed=seed, folder=folder
    )
    held_out = judge.probabilities(parts["calibration"]).astype(np.float64)
    calibration = Calibration.fit(held_out, _grades(parts["calibration"]), config.min_calibration)
    unseen = judge.probabilities(parts["agreement"]).astype(np.float64)
    agreed = _agreement(parts["agreement"], calibration.apply(unseen), seed)
    errors, bins = assess(calibration, unseen, _grades(parts["agreement"]))
    return FittedJudge(judge, calibration, agreed, errors, bins, _counts(pairs, left_out))


def human_grades(
    judgments: pl.DataFrame, items: pl.DataFrame, queries: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Collect the grades that make a judge: one a pair, with its part.

    Several raters count as their median; between two grades it is rounded down, so that a pair in
    doubt is not called relevant.

    Returns:
        Columns query_id, item_id, grade, part, source; and the same for those left out, whose item
        is not in the catalog.
    """
    graded = (
        consensus(judgments)
        .join(queries.select("query_id", "part"), on="query_id", maintain_order="left")
        .filter(pl.col("part").is_in(_TEACHING))
    )
    known = graded["item_id"].is_in(items["item_id"].to_list())
    return (
        graded.filter(known).with_columns(pl.lit("human").alias("source")),
        graded.filter(~known).with_columns(pl.lit("human, item unknown").alias("source")),
    )


def background_pairs(
    human: pl.DataFrame, items: pl.DataFrame, share: float, seed: int
) -> pl.DataFrame:
    """Draw random items for the queries of teaching and calibration, as weak grade 0.

    Args:
        human: The first table of `human_grades`.
        items: Column item_id.
        share: Pairs to draw in a part, for each human grade there.
        seed: Seed of the draw.

    Returns:
        The columns of `human`; pairs that humans graded are never among them.
    """
    catalog = items["item_id"].sort()
    drawn = [human.clear()]
    for part in _WITH_BACKGROUND:
        rows = human.filter(pl.col("part") == part)
        wanted = round(share * len(rows))
        query_ids = rows["query_id"].unique().sort()
        each = 4 * (wanted // len(query_ids) + 1)  # enough to spare repeats
        at = draw_positions(hash_strings(query_ids.to_list(), seed), each, len(catalog))
        pairs = pl.DataFrame(
            {
                # The first draw of every query, then the second: queries share evenly.
                "query_id": pl.concat([query_ids] * each),
                "item_id": catalog.gather(pl.Series(at.T.ravel())),
            }
        )
        fresh = pairs.unique(maintain_order=True).join(
            human, on=["query_id", "item_id"], how="anti", maintain_order="left"
        )
        weak = {"grade": pl.lit(0, pl.Int8), "part": pl.lit(part), "source": pl.lit("background")}
        drawn.append(fresh.head(wanted).with_columns(**weak))
    return pl.concat(drawn)


def with_texts(pairs: pl.DataFrame, items: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """Add query_text and item_text, what the judge reads, to pairs."""
    return pairs.join(
        queries.select("query_id", query_text="judge_text"),
        on="query_id",
        how="left",
        maintain_order="left",
    ).join(items.select("item_id", item_text="judge_text"), on="item_id", maintain_order="left")


def select(
    candidates: pl.DataFrame,
    config: AnnotateConfig,
    examples: ExamplesConfig,
    mine: MineConfig,
) -> Selection:
    """Choose the candidates that some level of difficulty could use, whatever their grade.

    A candidate belongs to the stratum that `levels.strata` names. Under the cap the strata take
    turns, each with its best rank (highest TF-IDF where none) first, then item_id.

    Args:
        candidates: A candidates table, or a shard of one.
        config: pairs_per_query.
        examples: The levels' depths and band.
        mine: Which channels are lexical, which dense.
    """
    channels = channels_of(candidates)
    placed = candidates.select(
        "query_id",
        "item_id",
        "tfidf",
        strata(channels, examples, mine).alias("stratum"),
        pl.min_horizontal([pl.col(f"rank_{name}") for name in channels]).alias("best"),
    )
    turn = pl.int_range(pl.len()).over("query_id", "stratum").alias("turn")
    usable = (
        placed.filter(pl.col("stratum").is_not_null())
        .sort(["best", "tfidf", "item_id"], descending=[False, True, False], nulls_last=True)
        .with_columns(turn)
        .sort("query_id", "turn", pl.col("stratum").cast(pl.Enum(STRATA)))
        .with_columns(pl.int_range(pl.len()).over("query_id").alias("place"))
    )
    kept = pl.col("place") < config.pairs_per_query
    reasons = pl.when(kept).then(pl.lit("kept")).otherwise(pl.lit("over_cap"))
    unused = placed.filter(pl.col("stratum").is_null()).select(
        "stratum", pl.lit("no_level").alias("reason")
    )
    counts = (
        pl.concat([usable.select("stratum", reasons.alias("reason")), unused])
        .group_by("stratum", "reason")
        .agg(pl.len().cast(pl.Int64).alias("pairs"))
        .sort("stratum", "reason")
    )
    pairs = usable.filter(kept).select("query_id", "item_id", "stratum")
    return Selection(pairs.sort("query_id", "item_id"), counts)


def label(pairs: pl.DataFrame, fitted: FittedJudge) -> pl.DataFrame:
    """Grade pairs with a fitted judge.

    Args:
        pairs: Columns query_id, item_id, query_text, item_text.
        fitted: The judge.

    Returns:
        A labels table: the most probable grade, the calibrated confidence in it, the tokens read,
        and the calibrated distribution; sorted by query and item.
    """
    raw = fitted.judge.probabilities(pairs).astype(np.float64)
    calibrated = fitted.calibration.apply(raw)
    settled = settle({JUDGE: calibrated})
    tokens = pl.Series("tokens", fitted.judge.tokens(pairs), dtype=pl.Int32)
    distribution = pl.Series(f"p_{JUDGE}", calibrated.astype(np.float32), dtype=PROBABILITIES)
    columns = [*settled.get_columns(), tokens, distribution]
    return pairs.select("query_id", "item_id").with_columns(columns).sort("query_id", "item_id")


def check_enough(human: pl.DataFrame) -> None:
    """Refuse grades that are too few to teach, calibrate and measure a judge.

    Args:
        human: The first table of `human_grades`.

    Raises:
        InputError: If a part has too few judged queries, or one grade alone.
    """
    faults = []
    for part in _TEACHING:
        rows = human.filter(pl.col("part") == part)
        queries, grades = rows["query_id"].n_unique(), rows["grade"].unique().sort().to_list()
        if queries >= FEWEST_QUERIES and len(grades) > 1:
            continue
        faults.append(
            Fault(
                f"judgments: queries of the part '{part}'",
                got=f"{queries} judged queries, {len(rows)} grades, different ones: {grades}",
                expected=f"at least {FEWEST_QUERIES} judged queries and two different grades",
                fix="judge more queries, or give the part a larger share under [split]",
            )
        )
    if faults:
        raise InputError(*faults)


def _agreement(pairs: pl.DataFrame, calibrated: NDArray[np.float64], seed: int) -> Agreement:
    return agreement(
        pairs["query_id"],
        _grades(pairs),
        calibrated.argmax(axis=1),
        calibrated @ np.array(GRADES, dtype=np.float64),
        resamples=RESAMPLES,
        seed=seed,
    )


def _counts(pairs: pl.DataFrame, left_out: pl.DataFrame) -> pl.DataFrame:
    columns = ["query_id", "part", "source"]
    return (
        pl.concat([pairs.select(columns), left_out.select(columns)])
        .group_by("part", "source")
        .agg(
            pl.len().cast(pl.Int64).alias("pairs"),
            pl.col("query_id").n_unique().cast(pl.Int64).alias("queries"),
        )
        .sort("part", "source")
    )


def _grades(pairs: pl.DataFrame) -> NDArray[np.int64]:
    return pairs["grade"].cast(pl.Int64).to_numpy()
