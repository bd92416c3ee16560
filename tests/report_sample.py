"""A report's data as a run would give them, made up for the tests of the report."""

from __future__ import annotations

from typing import Any

import polars as pl

from trivium.foundation.tables import GRADES, METRICS
from trivium.stages.report.data import ReportData

SYSTEMS = {
    "MiniLM as it is": (0.412, 0.664, 0.073),
    "click-trained (simulated)": (0.431, 0.726, 0.079),
    "published three stages": (0.407, 0.634, 0.073),
    "progressive curriculum": (0.452, 0.758, 0.068),
}
BASELINE = "click-trained (simulated)"
SEGMENT_SHIFTS = {"all": 0.0, "head": 0.05, "torso": 0.01, "tail": -0.06}
SEGMENT_QUERIES = {"all": 2366, "head": 39, "torso": 811, "tail": 1516}
SCRIPT = "<script>alert('x')</script>"


def _frame(names: str, rows: list[tuple[Any, ...]], **types: Any) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=names.split(), orient="row", schema_overrides=types)


def _metrics() -> pl.DataFrame:
    rows = []
    for system, (ndcg, recall, bad) in SYSTEMS.items():
        for segment, shift in SEGMENT_SHIFTS.items():
            queries = SEGMENT_QUERIES[segment]
            width = 0.4 / queries**0.5
            values = {
                "nDCG@10": ndcg + shift,
                "condensed nDCG@10": 0.85 + ndcg / 10 + shift / 4,
                "R@100": recall + shift,
                "P@1": ndcg + 0.1 + shift,
                "embarrassing@10": bad / 3,
                "bad@10": bad,
                "unjudged@10": 0.81 - ndcg / 5,
            }
            rows += [
                (system, segment, measure, value, value - width, value + width, None, queries)
                for measure, value in values.items()
            ]
    return pl.DataFrame(rows, schema=dict(METRICS.columns), orient="row")


def _gains() -> pl.DataFrame:
    rows = []
    start = SYSTEMS[BASELINE][0]
    for system in [name for name in SYSTEMS if name != BASELINE]:
        for segment, shift in SEGMENT_SHIFTS.items():
            gain = SYSTEMS[system][0] - start - shift / 4
            queries = SEGMENT_QUERIES[segment]
            width = 0.25 / queries**0.5
            p_value = 0.0005 if abs(gain) > width else 0.21
            relative = gain / (start + shift)
            interval = (gain - width, gain + width)
            rows.append((system, segment, "nDCG@10", gain, *interval, relative, p_value, queries))
    names = "system segment measure difference ci_low ci_high relative p_value queries"
    return _frame(names, rows)


def _overlap() -> pl.DataFrame:
    shares = {10: (0.31, 0.12, 0.17), 100: (0.42, 0.19, 0.21), 500: (0.48, 0.23, 0.24)}
    pairs = (("dictionary", "bm25"), ("dictionary", "dense"), ("bm25", "dense"))
    queries = {"all": 5677, "head": 102, "torso": 1903, "tail": 3672}
    rows = [
        (segment, depth, a, b, share + shift, share / (2 - share), share * 0.9, queries[segment])
        for segment, shift in SEGMENT_SHIFTS.items()
        for depth, overlaps in shares.items()
        for (a, b), share in zip(pairs, overlaps, strict=True)
    ]
    return _frame("segment depth a b overlap jaccard rbo queries", rows)


def _reliability() -> pl.DataFrame:
    rows = [
        (kind, grade, place, (place + 0.5) / 10)
        for grade in GRADES
        for kind in ("raw", "calibrated")
        for place in range(2, 10)
    ]
    slope = pl.when(pl.col("kind") == "raw").then(0.72).otherwise(0.97)
    lift = pl.col("predicted") % 3 * 0.02
    return _frame("kind predicted bin confidence", rows).with_columns(
        accuracy=(pl.col("confidence") * slope + lift).clip(0, 1),
        count=20 + 13 * pl.col("predicted") * (pl.col("bin") % 4),
    )


def _curves() -> pl.DataFrame:
    rows: list[tuple[Any, ...]] = []
    stages = (("seed", 200, 2.4, 0.400), ("hard", 160, 1.6, 0.425), ("refine", 40, 0.09, 0.438))
    for stage, steps, loss, start in stages:
        rows.append((stage, 0, None, start))
        for step in range(10, steps + 1, 10):
            wobble = ((step * 37) % 17) / 100
            ndcg = start + 0.02 * (step / steps) ** 0.5 - wobble / 40
            measured = ndcg if step % (steps // 4) == 0 else None
            rows.append((stage, step, loss * (0.45 + 0.55 / (1 + step / 30) + wobble), measured))
    return _frame("stage step loss ndcg", rows, loss=pl.Float64, ndcg=pl.Float64)


def _examples() -> pl.DataFrame:
    rows: list[tuple[Any, ...]] = [
        ("easy_positive", "cordless drill 18v", "18V Cordless Drill Driver Kit", 4, "found by all"),
        ("hard_positive", "light for shed", "Solar Wall Lantern, Sensor", 3, "bm25 31, no dense"),
        ("hard_negative", "drill bit set", "Hammer Drill, Corded, 800 W", 1, "dense 44 alone"),
        ("token_similar_negative", SCRIPT, "Hose Reel & <b>Cart</b>, 30 m", 0, "tf-idf 0.34"),
        ("random_negative", "white paint 5l", "Cedar Fence Picket 6 ft", None, "drawn"),
    ]
    return _frame("level query title grade reason", rows)


def sample() -> ReportData:
    """A whole run of a plausible size."""
    manifest: list[tuple[Any, ...]] = [
        ("mine", 412.0, 1_238_411, ["5,677 queries, 3 channels", "no query set aside"]),
        ("annotate", 5_190.4, 152_398, ["accuracy 0.47 on the agreement part", "5.1 ms a pair"]),
        ("examples", 9.2, 61_022, ["left out: 31,004 of grade 2, 12,551 over the cap"]),
        ("train", 1_803.7, 400, ["kept: refine, step 30"]),
        ("evaluate", 96.1, 112, ["4 systems, 2,366 queries"]),
    ]
    names = "dictionary bm25 dense bm25+dictionary dense+dictionary bm25+dense"
    found = [*names.split(), "bm25+dense+dictionary"]
    counts = [301_220, 122_845, 598_310, 144_020, 9_150, 12_433, 50_433]
    agreement = [
        ("accuracy", 0.473, 0.461, 0.485, 8120, 705),
        ("within_one", 0.861, 0.852, 0.870, 8120, 705),
        ("kappa", 0.356, 0.335, 0.377, 8120, 705),
        ("spearman", 0.510, 0.489, 0.531, 8120, 705),
        ("precision_0", None, None, None, 0, 705),
    ]
    confusion = [
        (human, judged, 900 * (human + 1) // (1 + 2 * abs(human - judged)) + 13)
        for human in GRADES
        for judged in GRADES
    ]
    levels = [
        ("easy_positive", 12_004, 2_498, 0.901, 611, 0.87, 0.93, 0.72, "better than chance"),
        ("hard_positive", 9_231, 3_974, 0.541, 312, 0.47, 0.61, 0.49, "not shown"),
        ("hard_negative", 18_730, 3_917, 0.683, 205, 0.61, 0.75, 0.44, "better than chance"),
        ("token_similar_negative", 4_247, 1_419, None, 0, None, None, None, "not shown"),
        ("random_negative", 56_770, 5_677, None, 0, None, None, None, None),
    ]
    return ReportData(
        title="Trivium on a hardware catalog",
        metrics=_metrics(),
        gains=_gains(),
        config={
            "mine": {"channels": ["dictionary", "bm25", "dense"], "depth": 500, "model": "a/b"},
            "train": {"recipe": "default", "stages": [], "scale": 1.0, "model": None, "bf16": True},
        },
        manifest=_frame("stage seconds rows summary", manifest),
        simulated=True,
        overlap=_overlap(),
        found_by=pl.DataFrame({"segment": "all", "channels": found, "pairs": counts}),
        reliability=_reliability(),
        agreement=_frame("measure value ci_low ci_high pairs queries", agreement),
        confusion=_frame("human judged pairs", confusion),
        levels=_frame(
            "level rows queries precision precision_pairs ci_low ci_high chance verdict", levels
        ),
        payoff="It cannot be told whether training will help: 61% of 923 pairs are right.",
        level_examples=_examples(),
        curves=_curves(),
        best={"stage": "refine", "step": 30, "ndcg": 0.4536},
    )
