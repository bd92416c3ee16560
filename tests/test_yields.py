"""What a labelled pair becomes, by stratum: counted, estimated, and put to use."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from small_shop import items, random_candidates
from trivium.domain.labels import settled
from trivium.domain.levels import machine_levels
from trivium.domain.yields import (
    BOUGHT,
    KEY,
    STRENGTH,
    TALLY,
    add_up,
    estimate,
    expected,
    placed,
    rates_of,
    tally,
)
from trivium.foundation.config import Config, parse_config
from trivium.stages.annotate.buying import bought_line, buy, buy_all
from trivium.stages.annotate.selection import pilot_queries

QUERIES = [f"q{k:02}" for k in range(24)]
SHRUNK = [f"shrunk_{level}" for level in BOUGHT]


def config_of(**annotate: object) -> Config:
    return parse_config({"annotate": annotate, "run": {"seed": 2}})


def grade_of(query_id: str, item_id: str) -> int:
    return (int(query_id[1:]) * 7 + int(item_id[1:]) * 3) % 5


def ask(pairs: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """A judge that is always right, and does not answer about one item."""
    known = pairs.filter(pl.col("item_id") != "i07")
    grades = [grade_of(q, i) for q, i in known.select("query_id", "item_id").iter_rows()]
    sure = np.eye(5, dtype=np.float32)[grades].reshape(len(known), 5) * 0.8 + 0.04
    labels = known.select("query_id", "item_id").with_columns(
        pl.Series("grade", grades, dtype=pl.Int8),
        pl.lit("oracle").alias("judge"),
        pl.lit(0.84, pl.Float32).alias("confidence"),
        pl.Series("p_oracle", sure, dtype=pl.Array(pl.Float32, 5)),
    )
    return labels, len(pairs) - len(known)


@pytest.fixture(scope="module")
def candidates() -> pl.DataFrame:
    return random_candidates(items(), QUERIES, seed=2)


def plain_tally(candidates: pl.DataFrame, labels: pl.DataFrame, config: Config) -> list[tuple]:
    by_grade = config.examples.model_copy(update={"by": "grade"})
    sections = (by_grade, config.mine)
    made = machine_levels(candidates, settled(labels), *sections)[0]
    level = {(q, i): name for q, i, name in made.select("query_id", "item_id", "level").iter_rows()}
    labelled = set(labels.select("query_id", "item_id").iter_rows())
    counts: dict[tuple, list[int]] = {}
    for row in placed(candidates, config.annotate, *sections).to_dicts():
        if row["stratum"] is None:
            continue
        own = counts.setdefault(tuple(row[name] for name in KEY), [0] * 6)
        pair = row["query_id"], row["item_id"]
        own[0] += 1
        own[1] += pair in labelled
        if pair in level:
            own[2 + BOUGHT.index(level[pair])] += 1
    return sorted((*key, *own) for key, own in counts.items())


def test_what_was_bought_is_counted_by_stratum(candidates):
    config = config_of(pairs_per_query=9)
    bought = buy(candidates, ask, config)
    assert sorted(bought.counts.rows()) == plain_tally(candidates, bought.labels, config)
    assert bought.counts["pairs"].sum() == len(bought.labels)
    assert bought.left_out["no judge answered"] == len(bought.pairs) - len(bought.labels) > 0
    assert bought.left_out.total() + len(bought.labels) == len(candidates)
    assert bought.foreseen == {}


def test_tallies_of_shards_add_up(candidates):
    config = config_of(pairs_per_query=9)
    parts = [buy(part, ask, config).counts for part in candidates.partition_by("query_id")]
    assert add_up(parts).equals(buy(candidates, ask, config).counts)
    assert add_up([]).schema == pl.Schema(TALLY)


def plain_estimate(counts: pl.DataFrame) -> dict[tuple, list[float]]:
    rows, rates = counts.to_dicts(), {}
    for row in rows:
        groups = [
            [r for r in rows if all(r[name] == row[name] for name in KEY[:depth])]
            for depth in (1, 2, 3)
        ]
        own = []
        for level in BOUGHT:
            made = [sum(r[level] for r in group) for group in groups]
            labelled = [sum(r["pairs"] for r in group) for group in groups]
            rate = (made[0] + 0.5) / (labelled[0] + 2.5)
            for m, n in zip(made[1:], labelled[1:], strict=True):
                rate = (m + STRENGTH * rate) / (n + STRENGTH)
            own.append(rate)
        rates[tuple(row[name] for name in KEY)] = own
    return rates


def test_yields_are_drawn_towards_those_of_coarser_strata(candidates):
    counts = buy(candidates, ask, config_of(pairs_per_query=9)).counts
    got, plain = estimate(counts), plain_estimate(counts)
    for row in got.to_dicts():
        assert [row[name] for name in SHRUNK] == pytest.approx(plain[tuple(row[k] for k in KEY)])
        made = sum(row[level] for level in BOUGHT)
        assert row["yield"] == (made / row["pairs"] if row["pairs"] else None)
        assert row["shrunk"] == pytest.approx(sum(row[name] for name in SHRUNK))
        assert 0.0 < row["shrunk"] < 1.0
    np.testing.assert_array_equal(rates_of(got), got.select(SHRUNK).to_numpy())


def test_a_stratum_without_labels_yields_what_the_coarser_one_does():
    counts = pl.DataFrame(
        [("hard_negative", "bm25", "1-10", 9, 1000, 0, 0, 800, 0)], schema=TALLY, orient="row"
    )
    asked = pl.DataFrame(
        [
            ("hard_negative", "bm25", "11-50"),
            ("hard_negative", "dense", "1-10"),
            ("easy_positive", "bm25+dense", "1-10"),
        ],
        schema=KEY,
        orient="row",
    )
    got = {tuple(r[k] for k in KEY): r for r in estimate(counts, asked).to_dicts()}
    assert len(got) == 4
    for key in asked.rows()[:2]:
        assert got[key]["shrunk_hard_negative"] == pytest.approx(0.8, abs=0.01)
        assert got[key]["yield"] is None
    assert got[asked.row(2)]["shrunk"] == pytest.approx(0.8)
    thin = counts.with_columns(pairs=pl.lit(1, pl.Int64), hard_negative=pl.lit(0, pl.Int64))
    both = pl.concat([counts, thin.with_columns(band=pl.lit("11-50"))])
    few = estimate(both).filter(pl.col("band") == "11-50")
    assert few["yield"].item() == 0.0
    assert few["shrunk_hard_negative"].item() == pytest.approx(0.8 * 10 / 11, abs=0.02)


def test_what_is_expected_of_pairs_is_the_sum_of_their_yields(candidates):
    config = config_of(pairs_per_query=9)
    bought = buy(candidates, ask, config)
    yields = estimate(bought.counts)
    offered = placed(candidates, config.annotate, config.examples, config.mine)
    pairs = offered.join(bought.pairs, on=["query_id", "item_id"], how="semi")
    got = expected(pairs, yields, {"positive": 2, "negative": 10**6})
    rates = {row[:3]: row[-4:] for row in yields.iter_rows()}
    sums = np.zeros((len(QUERIES), 4))
    for row in pairs.to_dicts():
        sums[QUERIES.index(row["query_id"])] += rates[tuple(row[k] for k in KEY)]
    assert [got[level] for level in BOUGHT] == pytest.approx(sums.sum(axis=0))
    usable = np.minimum(sums[:, :2].sum(axis=1), 2).sum() + sums[:, 2:].sum()
    assert got["usable"] == pytest.approx(usable)


def test_the_pilot_comes_first_and_teaches_the_rest(candidates):
    config = config_of(pairs_per_query=9, pilot=0.25)
    pilot, rest = buy_all(candidates, ask, config)
    drawn = pilot_queries(pl.Series(QUERIES), 0.25, 2)["query_id"]
    assert set(pilot.labels["query_id"]) == set(drawn)
    assert not set(rest.labels["query_id"]) & set(drawn)
    assert rest.labels["query_id"].n_unique() == len(QUERIES) - len(drawn)
    others = candidates.filter(~pl.col("query_id").is_in(drawn.implode()))
    again = buy(others, ask, config, estimate(pilot.counts))
    assert again.labels.equals(rest.labels)
    assert again.foreseen == rest.foreseen
    line = bought_line(add_up([pilot.counts, rest.counts]), [pilot.foreseen, rest.foreseen])
    assert "100 labels made" in line
    assert "in turn" in line
    (alone,) = buy_all(candidates, ask, config_of(pairs_per_query=9))
    assert "in turn" not in bought_line(alone.counts, [alone.foreseen])
    assert bought_line(pl.DataFrame(schema=TALLY), []) == ""


def test_learned_dealing_buys_more_where_yields_differ():
    """Of two sets of channels one gives nothing but grade 2: its pairs are not worth a label."""
    rng = np.random.default_rng(0)
    pairs = pl.DataFrame({"query_id": [f"q{k:03}" for k in range(120)]}).join(
        pl.DataFrame({"item_id": [f"i{k:02}" for k in range(60)]}), how="cross"
    )
    barren = pl.Series(rng.random(len(pairs)) < 0.5)
    ranks = pl.Series(rng.integers(1, 100, len(pairs)), dtype=pl.Int32)
    nothing = pl.lit(None, pl.Int32)
    mined = pairs.with_columns(
        rank_bm25=pl.when(barren).then(ranks).otherwise(nothing),
        rank_dictionary=nothing,
        rank_dense=pl.when(barren).then(nothing).otherwise(ranks),
        channels=pl.lit(1, pl.Int8),
        tfidf=pl.lit(0.3, pl.Float32),
    )
    worthless = set(mined.filter(barren).select("query_id", "item_id").iter_rows())

    def judge(pairs: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        asked = pairs.select("query_id", "item_id").rows()
        grades = [2 if pair in worthless else 0 for pair in asked]
        sure = np.eye(5, dtype=np.float32)[grades].reshape(len(asked), 5)
        labels = pairs.select("query_id", "item_id").with_columns(
            pl.Series("grade", grades, dtype=pl.Int8),
            pl.lit("oracle").alias("judge"),
            pl.lit(0.84, pl.Float32).alias("confidence"),
            pl.Series("p_oracle", sure, dtype=pl.Array(pl.Float32, 5)),
        )
        return labels, 0

    made = {}
    for pilot in (0.0, 0.1):
        bought = buy_all(mined, judge, config_of(pairs_per_query=12, pilot=pilot))
        counts = add_up([part.counts for part in bought])
        assert counts["pairs"].sum() == 12 * 120
        made[pilot] = counts["hard_negative"].sum() / counts["pairs"].sum()
    assert made[0.1] > 1.4 * made[0.0]


def test_floors_count_where_something_is_learned(candidates):
    strict = {"min_p_relevant": 0.9, "min_p_irrelevant": 0.9}
    for pilot, made in ((0.0, True), (0.5, False)):
        config = parse_config({"annotate": {"pilot": pilot}, "examples": strict})
        counts = buy(candidates, ask, config).counts
        assert (counts.select(pl.sum_horizontal(BOUGHT).sum()).item() > 0) == made


def test_a_tally_of_nothing_is_empty(candidates):
    config = config_of()
    nothing = placed(candidates.clear(), config.annotate, config.examples, config.mine)
    pair = pl.DataFrame(schema={"query_id": pl.String, "item_id": pl.String})
    made = pair.with_columns(level=pl.lit("", pl.String))
    assert tally(nothing, pair, made).schema == pl.Schema(TALLY)
    assert estimate(tally(nothing, pair, made)).is_empty()
