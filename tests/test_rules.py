"""Level rules as expressions: the published ones, one's own, and what a rule cannot be."""

from __future__ import annotations

import itertools
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.api.arguments import configure
from trivium.domain import levels
from trivium.domain.rules import rule_conditions
from trivium.foundation.config import parse_config
from trivium.foundation.errors import ConfigError
from trivium.foundation.examples_config import ExamplesConfig, RulesConfig
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.rules import LONGEST, WORDS, check_rules
from trivium.foundation.tables import candidates_schema
from trivium.pipeline.plans import READS, Planner

LEVELS = ("easy_positive", "hard_positive", "hard_negative", "token_similar")
SETUPS = {
    "one": ("dense",),
    "two": ("bm25", "dense"),
    "no dense": ("dictionary", "bm25"),
    "three": ("dictionary", "bm25", "dense"),
    "seven": ("dictionary", "bm25", "prod", "old", "dense", "dense_2", "dense_3"),
}


def mine_config(channels, lexical=None, dense=None) -> MineConfig:
    return MineConfig(
        channels=[{"kind": "given", "name": name} for name in channels],
        lexical=[c for c in channels if "dense" not in c] if lexical is None else lexical,
        dense=[c for c in channels if "dense" in c] if dense is None else dense,
    )


def table(channels, n: int = 3000, seed: int = 0) -> pl.DataFrame:
    """Random candidates, with every figure of the rules and its neighbours among them."""
    rng = np.random.default_rng(seed)
    edges = [1, 2, 49, 50, 51, 99, 100, 101, 500]
    cosines = np.float32([0, 0.2, 0.6, np.nextafter(np.float32(0.2), 0), 0.4])
    cosines = [*cosines, *np.nextafter(cosines, np.float32(1)), None]
    columns = {"query_id": ["q"] * n, "item_id": [f"i{k}" for k in range(n)]}
    for channel in channels:
        there = rng.random(n) < rng.random(n)
        ranks = rng.choice(edges, n)
        columns[f"rank_{channel}"] = [
            int(r) if t else None for r, t in zip(ranks, there, strict=True)
        ]
        columns[f"score_{channel}"] = [
            float(1 / r) if t else None for r, t in zip(ranks, there, strict=True)
        ]
    found = zip(*(columns[f"rank_{channel}"] for channel in channels), strict=True)
    columns["channels"] = [sum(rank is not None for rank in ranks) for ranks in found]
    columns["tfidf"] = [cosines[k] for k in rng.integers(0, len(cosines), n)]
    return pl.DataFrame(columns, schema=dict(candidates_schema(tuple(channels)).columns))


def before(channels, config: ExamplesConfig, mine: MineConfig) -> dict[str, pl.Expr]:
    """The published rules as they were before they could be written."""
    found = pl.col("channels")
    ranks = {channel: pl.col(f"rank_{channel}") for channel in channels}
    lexical = [rank for channel, rank in ranks.items() if channel in mine.lexical]
    dense = [rank for channel, rank in ranks.items() if channel in mine.dense]
    hard_positive = pl.lit(False)
    if lexical and dense:
        missed = pl.all_horizontal([rank.is_null() for rank in dense])
        hard_positive = missed & (pl.min_horizontal(lexical) <= config.hard_positive_depth)
    best = pl.min_horizontal(ranks.values())
    return {
        "easy_positive": found == len(channels),
        "hard_positive": hard_positive,
        "hard_negative": (found == 1) & (best <= config.hard_negative_depth),
        "token_similar": (found == 0)
        & pl.col("tfidf").is_between(config.tfidf_low, config.tfidf_high),
    }


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "figures", [{}, {"hard_positive_depth": 99, "hard_negative_depth": 2, "tfidf_low": 0.4}]
)
def test_the_default_rules_are_the_published_ones(setup, seed, figures):
    channels, config = SETUPS[setup], ExamplesConfig(retrieved_depth=500, **figures)
    mine, candidates = mine_config(channels), table(channels, seed=seed)
    old = before(channels, config, mine)
    new = rule_conditions(channels, config, mine)
    assert tuple(new) == tuple(old) == LEVELS == levels.STRATA
    for level in LEVELS:
        wanted = candidates.filter(old[level])
        assert candidates.filter(new[level]).equals(wanted)
        assert wanted.height or (level == "hard_positive" and setup in {"one", "no dense"})


def holds(rule: str, channels=SETUPS["seven"], candidates=None, mine=None, **figures) -> set[str]:
    """Items of the candidates for which a rule holds."""
    candidates = table(channels) if candidates is None else candidates
    config = ExamplesConfig(rules=RulesConfig(hard_negative=rule), **figures)
    condition = rule_conditions(channels, config, mine or mine_config(channels))["hard_negative"]
    return set(candidates.filter(condition)["item_id"])


def plain(test, channels=SETUPS["seven"]) -> set[str]:
    """Items for which a test of Python holds; ranks not found are infinite."""
    kept = set()
    for row in table(channels).iter_rows(named=True):
        ranks = {c: math.inf if (r := row[f"rank_{c}"]) is None else r for c in channels}
        lexical = [r for c, r in ranks.items() if "dense" not in c]
        dense = [r for c, r in ranks.items() if "dense" in c]
        counts = [sum(r < math.inf for r in some) for some in (lexical, dense)]
        if test(ranks, row, *counts):
            kept.add(row["item_id"])
    return kept


RULES = {
    "lexical >= 2 AND dense = 0": lambda r, row, lex, den: lex >= 2 and den == 0,
    "rank_prod <= 50 and rank_old is null": lambda r, row, *_: (
        r["prod"] <= 50 and r["old"] == math.inf
    ),
    "NOT (found BETWEEN 1 AND 6)": lambda r, row, *_: not 1 <= row["channels"] <= 6,
    "best_dense <= 2 AND COALESCE(best_lexical, 1000) > 100": lambda r, row, *_: (
        min(r["dense"], r["dense_2"], r["dense_3"]) <= 2
        and min(r["prod"], r["old"], r["bm25"], r["dictionary"]) > 100
    ),
    "2 * found >= channels": lambda r, row, *_: 2 * row["channels"] >= 7,
    "LEAST(rank_bm25, rank_prod) <= hard_positive_depth": lambda r, row, *_: (
        min(r["bm25"], r["prod"]) <= 50
    ),
    "rank_dense_2 IN (1, 500)": lambda r, row, *_: r["dense_2"] in {1, 500},
    "tfidf >= 0.2 AND tfidf <= 0.6": lambda r, row, *_: (
        row["tfidf"] is not None and np.float32(0.2) <= np.float32(row["tfidf"]) <= np.float32(0.6)
    ),
    "score_bm25 >= 0.5": lambda r, row, *_: r["bm25"] <= 2,
    "CASE WHEN dense > 0 THEN best_dense <= 2 ELSE best <= 50 END": lambda r, row, lex, den: (
        min(r["dense"], r["dense_2"], r["dense_3"]) <= 2 if den else min(r.values()) <= 50
    ),
    "true": lambda *_: True,
    "channels = 7": lambda *_: True,
    "false": lambda *_: False,
    "hard_negative_depth < hard_positive_depth": lambda *_: False,
}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_holds_where_plain_python_says_so(rule):
    wanted = plain(RULES[rule])
    assert holds(rule) == wanted
    assert wanted or rule in {"false", "hard_negative_depth < hard_positive_depth"}


def test_a_role_that_the_run_lacks_makes_no_comparison_true():
    channels = ("dictionary", "bm25")
    for rule in ("dense = 0", "dense >= 0", "best_dense <= 500", "NOT dense > 0"):
        assert holds(rule, channels) == set()
    assert holds("dense IS NULL", channels) == set(table(channels)["item_id"])
    assert holds("lexical = 1", ("dense",), mine=mine_config(("dense",))) == set()


def test_a_level_is_switched_off_and_another_takes_what_it_had():
    channels = SETUPS["three"]
    mine, candidates = mine_config(channels), table(channels)
    off = ExamplesConfig(rules=RulesConfig(easy_positive="false", hard_negative="found = 3"))
    strata = candidates.select(s=levels.strata(channels, off, mine))["s"]
    usual = candidates.select(s=levels.strata(channels, ExamplesConfig(), mine))["s"]
    assert "easy_positive" not in strata.to_list()
    assert ((usual == "easy_positive") == (candidates["channels"] == 3)).all()
    assert (strata.filter(candidates["channels"] == 3) == "hard_negative").all()


NAMES = ("best", "found", "tfidf", "dense", "rank_bm25", "score_dense", "tfidf_low", "channels")
NUMBERS = st.one_of(
    st.sampled_from([*NAMES, "0", "1", "50", "0.5", "999999999", "null"]),
    st.integers(0, 600).map(str),
)
VALUES = st.recursive(
    NUMBERS,
    lambda deeper: st.one_of(
        st.tuples(deeper, st.sampled_from("+-*"), deeper).map("({0[0]} {0[1]} {0[2]})".format),
        st.tuples(st.sampled_from(["least", "GREATEST", "coalesce"]), deeper, deeper).map(
            "{0[0]}({0[1]}, {0[2]})".format
        ),
        deeper.map("-{}".format),
    ),
    max_leaves=4,
)
TESTS = st.one_of(
    st.tuples(VALUES, st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="]), VALUES).map(
        " ".join
    ),
    st.tuples(VALUES, VALUES, VALUES).map("{0[0]} BETWEEN {0[1]} AND {0[2]}".format),
    st.tuples(VALUES, VALUES, VALUES).map("{0[0]} in ({0[1]}, {0[2]})".format),
    st.tuples(VALUES, st.sampled_from(["is null", "IS NOT NULL"])).map(" ".join),
    st.sampled_from(["true", "false", "null", "found"]),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda deeper: st.one_of(
        st.tuples(deeper, st.sampled_from(["AND", "or"]), deeper).map(" ".join),
        deeper.map("not ({})".format),
        st.tuples(deeper, deeper, deeper).map(
            "case when {0[0]} then {0[1]} else {0[2]} end".format
        ),
    ),
    max_leaves=4,
)
ANYTHING = st.lists(
    st.sampled_from([*WORDS, *NAMES, *"=<>+-*/%(),", "<=", "1", "0.5", "1e3", ".5"]), max_size=10
).map(" ".join)


@given(st.one_of(CONDITIONS, ANYTHING))
@settings(deadline=None, max_examples=400)
def test_whatever_is_written_reads_each_pair_alone_or_is_refused(rule):
    channels = ("bm25", "dense")
    candidates = table(channels, n=12)
    try:
        kept = holds(rule, channels, candidates=candidates)
    except ConfigError:
        return
    alone = [holds(rule, channels, candidates=one) for one in candidates.iter_slices(1)]
    assert kept == set(itertools.chain(*alone))


FAULTY = [
    ("best_lexicl <= 50", "'best_lexicl'", "did you mean 'best_lexical'?"),
    ("rank_pord <= 50", "a channel 'pord' that is not among", "did you mean 'rank_prod'?"),
    ("rank_elsewhere < 9", "a channel 'elsewhere'", "use these names"),
    ("SUM(found) > 3", "the function 'SUM'", "over one pair"),
    ("ABS(found) > 1", "the function 'ABS'", "over one pair"),
    ("COUNT(*) > 1", "the function 'COUNT'", "over one pair"),
    ("best = MIN(best)", "the function 'MIN'", "over one pair"),
    ("rank_prod OVER (PARTITION BY found) = 1", "the function 'OVER'", "over one pair"),
    ("found = (SELECT 1)", "'SELECT'", "use these names"),
    ("found IN (SELECT best FROM items)", "'SELECT'", "use these names"),
    ("EXISTS (SELECT 1)", "the function 'EXISTS'", "over one pair"),
    ("read_csv('x') = 1", "the function 'read_csv'", "over one pair"),
    ("COLUMNS('rank.*') < 3", "the function 'COLUMNS'", "over one pair"),
    ("found", "a value of type Int64", "compare it"),
    ("tfidf + 1", "a value of type Float32", "compare it"),
    ("null", "a value of type Null", "compare it"),
    ("found = 1 best", "'best' without an operator", "AND or OR"),
    ("found = 1 AS dense", "'AS'", "use these names"),
    ("found > 'a'", "'a'", "use names, numbers"),
    ('"found" > 1', "'\"found\" > 1'", "use names, numbers"),
    ("found > 1; found > 2", "'; found > 2'", "use names, numbers"),
    ("prod.rank > 1", "'prod'", "use these names"),
    ("best::int > 1", "'::int > 1'", "use names, numbers"),
    ("found = 1 -- AND dense = 0", "'--'", "leave it out"),
    ("found = /* 2 */ 1", "'/* 2 */ 1'", "use names, numbers"),
    ("found / channels > 0.5", "'/ channels > 0.5'", "+ - * = < >"),
    ("found < 1234567890", "'1234567890'", "numbers of nine digits"),
    ("found < 1e3", "'e3'", "use these names"),
    ("found < 1.5.2", "'1.5.2'", "numbers of nine digits"),
    ("least() > 1", "'()'", "leave it out"),
    ("found = = 1", "unable to parse", "correct the rule"),
    ("true AND best", "Boolean and Int64", "correct the rule"),
    ("found == 1", "", ""),
    ("", "unable to parse", "correct the rule"),
    ("found = 1 OR " * 400 + "true", f"characters, over {LONGEST}", "shorten"),
    ("(" * 70 + "found = 1" + ")" * 70, "unable to parse", "correct the rule"),
]


@pytest.mark.parametrize(("rule", "got", "fix"), FAULTY)
def test_a_faulty_rule_is_refused_when_the_configuration_is_loaded(rule, got, fix):
    raw = {
        "mine": {"channels": ["bm25", "dense", {"kind": "run", "name": "prod", "files": ["a"]}]},
        "examples": {"rules": {"hard_positive": rule}},
    }
    if not got:
        parse_config(raw)
        return
    with pytest.raises(ConfigError) as error:
        parse_config(raw, where="trivium.toml")
    (fault,) = error.value.faults
    assert fault.where == "trivium.toml: examples.rules.hard_positive"
    assert got in fault.got
    assert rule[:50] in fault.got
    assert fix in fault.fix
    assert "best_lexical, channels, dense, found" in fault.expected
    assert "rank_bm25, rank_dense, rank_prod" in fault.expected


def test_all_faulty_rules_are_reported_together_and_no_other_level_exists():
    rules = RulesConfig(easy_positive="fond = 3", token_similar="tfidf")
    with pytest.raises(ConfigError) as error:
        check_rules(rules, ["bm25"], "trivium.toml")
    assert len(error.value.faults) == 2
    with pytest.raises(ConfigError, match="did you mean 'hard_positive'"):
        parse_config({"examples": {"rules": {"hard_positives": "false"}}})


def test_rules_are_settings_like_others():
    raw = {"examples": {"rules": {"hard_negative": "found = 1"}}}
    config = parse_config(raw, ["examples.rules.easy_positive=found >= 2"])
    assert config.examples.rules.easy_positive == "found >= 2"
    assert config.examples.rules.hard_negative == "found = 1"
    assert config.examples.rules.hard_positive == RulesConfig().hard_positive


def test_a_changed_rule_makes_what_reads_it_stale_and_nothing_else():
    def keys(**rules):
        plans = Planner(parse_config({"examples": {"rules": rules}})).plans
        return {stage: plan.key for stage, plan in plans.items()}

    usual, changed = keys(), keys(hard_negative="found = 1")
    later = ("annotate", "examples", "train", "evaluate", "report")
    assert {stage for stage in usual if usual[stage] != changed[stage]} == set(later)
    assert "examples.rules" in READS["annotate"].settings


@pytest.mark.parametrize("function", ["annotate", "build_examples"])
def test_rules_given_to_a_function_may_name_the_channels_of_its_candidates(function):
    candidates = table(("prod", "old"), n=3)
    config = configure(function, 0, {"rules": {"hard_positive": "rank_prod < 9"}}, candidates)
    assert config.examples.rules.hard_positive == "rank_prod < 9"
    assert config.mine.names == ("prod", "old")
    assert config.mine.lexical == MineConfig().lexical
    with pytest.raises(ConfigError, match="'bm25'"):
        configure(function, 0, {"rules": {"hard_positive": "rank_bm25 < 9"}}, candidates)
    mixed = {"rules": {"hard_positive": "lexical = 1"}, "lexical": ["prod"]}
    assert configure(function, 0, mixed, candidates).mine.lexical == ["prod"]
