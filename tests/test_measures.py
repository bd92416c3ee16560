import math

import numpy as np
import polars as pl
import pytest
import pytrec_eval
from polars.testing import assert_frame_equal

from trivium.domain.measures import left_out, measure, measure_names

NDCG, CONDENSED, RECALL, PRECISION, EMBARRASSING, BAD, UNJUDGED = measure_names()


def run_of(rankings):
    rows = [(q, i, r) for q, items in rankings.items() for r, i in enumerate(items, start=1)]
    schema = {"query_id": pl.String, "item_id": pl.String, "rank": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row")


def qrels_of(grades):
    rows = [(q, i, g) for q, items in grades.items() for i, g in items.items()]
    schema = {"query_id": pl.String, "item_id": pl.String, "grade": pl.Int8}
    return pl.DataFrame(rows, schema=schema, orient="row")


def as_dict(table):
    return {(q, m): v for q, m, v in table.rows()}


def random_case(seed, queries=40, catalog=60, longest=30):
    """Rankings of uneven lengths and sparse grades: some queries lack results, gain or grades."""
    rng = np.random.default_rng(seed)
    names = [f"i{i}" for i in range(catalog)]
    rankings, grades = {}, {}
    for q in range(queries):
        length = int(rng.integers(0, longest))
        rankings[f"q{q}"] = list(rng.permutation(names)[:length])
        judged = rng.permutation(names)[: int(rng.integers(0, 40))]
        ceiling = int(rng.integers(1, 6))
        grades[f"q{q}"] = {i: int(rng.integers(0, ceiling)) for i in judged}
    return rankings, {q: g for q, g in grades.items() if g}


def slow_measures(rankings, grades, cutoff, depth, gain, complete):
    """Every measure from its definition, one query at a time."""

    def gained(grade):
        return 2**grade - 1 if gain == "exponential" else grade

    def dcg(gains):
        return sum(g / math.log2(r + 1) for r, g in enumerate(gains[:cutoff], start=1))

    expected = {}
    for q, judged in grades.items():
        ranking = rankings.get(q, [])[:depth]
        known = dict.fromkeys(ranking, 0) | judged if complete else judged
        ideal = dcg(sorted(map(gained, judged.values()), reverse=True))
        relevant = {i for i, g in judged.items() if g >= 3}
        if ideal > 0:
            expected[q, f"nDCG@{cutoff}"] = dcg([gained(judged.get(i, 0)) for i in ranking]) / ideal
            condensed = [i for i in ranking if i in known]
            expected[q, f"condensed nDCG@{cutoff}"] = (
                dcg([gained(known[i]) for i in condensed]) / ideal
            )
        if relevant:
            expected[q, f"R@{depth}"] = len(relevant & set(ranking)) / len(relevant)
        expected[q, "P@1"] = float(bool(ranking) and ranking[0] in relevant)
        top = ranking[:cutoff]
        size = max(len(top), 1)
        expected[q, f"embarrassing@{cutoff}"] = sum(known.get(i) == 0 for i in top) / size
        expected[q, f"bad@{cutoff}"] = sum(known.get(i, 9) <= 1 for i in top) / size
        expected[q, f"unjudged@{cutoff}"] = sum(i not in known for i in top) / size
    return expected


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("gain", ["exponential", "linear"])
@pytest.mark.parametrize(("cutoff", "depth"), [(10, 100), (3, 7)])
def test_measures_equal_their_definitions(gain, complete, cutoff, depth):
    for seed in range(5):
        rankings, grades = random_case(seed)
        options = {"cutoff": cutoff, "depth": depth, "gain": gain, "complete": complete}
        found = as_dict(measure(run_of(rankings), qrels_of(grades), **options))
        expected = slow_measures(rankings, grades, **options)
        assert found.keys() == expected.keys()
        assert max(abs(found[key] - expected[key]) for key in expected) < 1e-6


@pytest.mark.parametrize("gain", ["exponential", "linear"])
def test_measures_equal_trec_eval(gain):
    rankings, grades = random_case(11, queries=200, longest=60)
    found = as_dict(measure(run_of(rankings), qrels_of(grades), gain=gain))
    scores = {q: {i: -r for r, i in enumerate(items)} for q, items in rankings.items() if items}
    gains = {
        q: {i: 2**g - 1 if gain == "exponential" else g for i, g in items.items()}
        for q, items in grades.items()
    }
    wanted = {"ndcg_cut_10": NDCG}
    ndcg = pytrec_eval.RelevanceEvaluator(gains, wanted).evaluate(scores)
    condensed = pytrec_eval.RelevanceEvaluator(gains, wanted, judged_docs_only_flag=1)
    condensed = condensed.evaluate(scores)
    relevance = pytrec_eval.RelevanceEvaluator(grades, {"recall_100", "P_1"}, relevance_level=3)
    relevance = relevance.evaluate(scores)
    checked = 0
    for q in scores.keys() & grades.keys():
        for name, value in (
            (NDCG, ndcg[q]["ndcg_cut_10"]),
            (CONDENSED, condensed[q]["ndcg_cut_10"]),
            (RECALL, relevance[q]["recall_100"]),
            (PRECISION, relevance[q]["P_1"]),
        ):
            if (q, name) in found:
                assert found[q, name] == pytest.approx(value, abs=1e-6)
                checked += 1
    assert checked > 400


def test_unjudged_is_the_rest_of_judged():
    from ir_measures import Judged, Qrel, ScoredDoc

    rankings, grades = random_case(5)
    found = as_dict(measure(run_of(rankings), qrels_of(grades)))
    qrels = [Qrel(q, i, g) for q, items in grades.items() for i, g in items.items()]
    run = [ScoredDoc(q, i, -r) for q, items in rankings.items() for r, i in enumerate(items)]
    values = {m.query_id: m.value for m in (Judged @ 10).iter_calc(qrels, run)}
    shown = [q for q in grades if rankings[q]]
    assert len(shown) > 20
    for q in shown:
        assert found[q, UNJUDGED] == pytest.approx(1 - values[q])


def test_one_ranking_by_hand():
    run = run_of({"q": ["zero", "new", "four", "one"]})
    qrels = qrels_of({"q": {"four": 4, "three": 3, "one": 1, "zero": 0}})
    found = as_dict(measure(run, qrels))
    ideal = 15 / 1 + 7 / math.log2(3) + 1 / math.log2(4)
    assert found["q", NDCG] == pytest.approx((15 / math.log2(4) + 1 / math.log2(5)) / ideal)
    assert found["q", CONDENSED] == pytest.approx((15 / math.log2(3) + 1 / math.log2(4)) / ideal)
    assert found["q", RECALL] == 0.5
    assert found["q", PRECISION] == 0.0
    assert found["q", EMBARRASSING] == 0.25
    assert found["q", BAD] == 0.5
    assert found["q", UNJUDGED] == 0.25

    linear = as_dict(measure(run, qrels, gain="linear"))
    ideal = 4 / 1 + 3 / math.log2(3) + 1 / math.log2(4)
    assert linear["q", NDCG] == pytest.approx((4 / math.log2(4) + 1 / math.log2(5)) / ideal)
    assert linear["q", RECALL] == 0.5


def test_absent_pairs_are_grade_0_when_the_qrels_are_complete():
    run = run_of({"q": ["new", "four", "newer", "zero"]})
    qrels = qrels_of({"q": {"four": 4, "zero": 0}})
    sparse = as_dict(measure(run, qrels))
    complete = as_dict(measure(run, qrels, complete=True))
    assert (sparse["q", EMBARRASSING], complete["q", EMBARRASSING]) == (0.25, 0.75)
    assert (sparse["q", BAD], complete["q", BAD]) == (0.25, 0.75)
    assert (sparse["q", UNJUDGED], complete["q", UNJUDGED]) == (0.5, 0.0)
    assert sparse["q", CONDENSED] == 1.0
    assert complete["q", CONDENSED] == complete["q", NDCG] == sparse["q", NDCG]
    assert complete["q", NDCG] == pytest.approx(1 / math.log2(3))


def test_recall_stops_at_the_depth_and_the_rest_at_the_cutoff():
    items = [f"i{n:03}" for n in range(120)]
    found = as_dict(
        measure(
            run_of({"q": items}),
            qrels_of({"q": {"i010": 3, "i099": 4, "i100": 4, "i050": 0}}),
        )
    )
    assert found["q", RECALL] == pytest.approx(2 / 3)
    assert found["q", NDCG] == 0.0
    assert found["q", CONDENSED] > 0.0
    assert found["q", EMBARRASSING] == 0.0
    assert found["q", UNJUDGED] == 1.0


def test_a_query_without_results_scores_zero_and_stays():
    qrels = qrels_of({"found": {"a": 4}, "lost": {"a": 3, "b": 0}})
    found = as_dict(measure(run_of({"found": ["a"]}), qrels))
    assert {name for query, name in found if query == "lost"} == set(measure_names())
    assert {value for (query, _), value in found.items() if query == "lost"} == {0.0}
    assert found["found", NDCG] == 1.0

    nothing = as_dict(measure(run_of({}), qrels))
    assert set(nothing.values()) == {0.0}
    assert len(nothing) == 2 * len(measure_names())


def test_all_results_unjudged():
    found = as_dict(measure(run_of({"q": ["x", "y"]}), qrels_of({"q": {"a": 4}})))
    assert found.pop(("q", UNJUDGED)) == 1.0
    assert set(found.values()) == {0.0}


def test_queries_without_gain_or_relevance_are_left_out_and_counted():
    grades = {"none": {"a": 0}, "fair": {"a": 2, "b": 0}, "good": {"a": 3}}
    run = run_of({q: ["a", "b"] for q in (*grades, "unjudged")})
    table = measure(run, qrels_of(grades))
    counts = dict(table.group_by("measure").len().rows())
    assert counts[NDCG] == counts[CONDENSED] == 2
    assert counts[RECALL] == 1
    assert all(counts[name] == 3 for name in (PRECISION, EMBARRASSING, BAD, UNJUDGED))
    queries = pl.DataFrame({"query_id": ["none", "fair", "good", "unjudged"]})
    counted = left_out(qrels_of(grades), queries)
    assert counted == {"unjudged": 1, "no gain": 1, "no relevant item": 2}


def test_ties_are_broken_by_score_and_then_item_id():
    run = pl.DataFrame(
        {
            "query_id": ["q"] * 3,
            "item_id": ["b", "a", "c"],
            "rank": [1, 1, 1],
            "score": [0.5, 0.5, 0.9],
        }
    )
    for first, others in (("c", "ab"), ("a", "b")):
        run = run.filter(pl.col("item_id").is_in([first, *others]))
        for item in run["item_id"]:
            found = as_dict(measure(run, qrels_of({"q": {item: 4}})))
            assert found["q", PRECISION] == float(item == first)


def test_gaps_in_the_ranks_are_closed():
    run = run_of({"q": ["a", "b"]}).with_columns(rank=pl.Series([5, 90], dtype=pl.Int32))
    found = as_dict(measure(run, qrels_of({"q": {"b": 4}})))
    assert found["q", NDCG] == pytest.approx(1 / math.log2(3))


def test_the_order_of_the_rows_does_not_matter():
    rankings, grades = random_case(3)
    run, qrels = run_of(rankings), qrels_of(grades)
    table = measure(run, qrels)
    shuffled = measure(
        run.sample(fraction=1.0, shuffle=True, seed=1),
        qrels.sample(fraction=1.0, shuffle=True, seed=2),
    )
    assert_frame_equal(table, shuffled)
