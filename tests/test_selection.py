"""Which candidates are worth a label, against the rules applied one by one."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest

from small_shop import CHANNELS, items, random_candidates
from trivium.domain.sampling import hash_strings
from trivium.domain.yields import BOUGHT, KEY, SIGNS, TALLY, estimate, placed
from trivium.foundation.annotate_config import AnnotateConfig
from trivium.foundation.budgets import parse_budget
from trivium.foundation.config import Config, parse_config
from trivium.foundation.errors import ConfigError
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig
from trivium.stages.annotate.selection import Selection, caps, pilot_queries, select

STRATA = ("easy_positive", "hard_positive", "hard_negative", "token_similar")
SEED = 5


def plain_stratum(row: dict) -> str | None:
    ranks = {c: row[f"rank_{c}"] for c in CHANNELS if row[f"rank_{c}"] is not None}
    lexical = min((r for c, r in ranks.items() if c != "dense"), default=math.inf)
    if len(ranks) == 3:
        return "easy_positive"
    if lexical <= 50 and "dense" not in ranks:
        return "hard_positive"
    if len(ranks) == 1 and min(ranks.values()) <= 100:
        return "hard_negative"
    in_band = 0.2 - 1e-6 <= row["tfidf"] <= 0.6 + 1e-6
    return "token_similar" if not ranks and in_band else None


def plain_key(row: dict) -> tuple[str | None, str, str]:
    """Stratum, channels and band."""
    ranks = {c: row[f"rank_{c}"] for c in CHANNELS if row[f"rank_{c}"] is not None}
    if not ranks:
        ends = [(end, f"{end - 0.1:.1f}-{end:.1f}") for end in (0.3, 0.4, 0.5, 0.6)]
        inside = (name for end, name in ends if row["tfidf"] <= end + 1e-6)
        band = "below 0.2" if row["tfidf"] < 0.2 - 1e-6 else next(inside, "over 0.6")
    else:
        bands = ((10, "1-10"), (50, "11-50"), (100, "51-100"), (math.inf, "over 100"))
        band = next(name for end, name in bands if min(ranks.values()) <= end)
    return plain_stratum(row), "+".join(ranks) or "none", band


def lot(query_id: str, item_id: str) -> int:
    return int(hash_strings([f"{query_id}\t{item_id}"], SEED)[0])


def offers(candidates: pl.DataFrame, *, by_lot: bool) -> dict[str, list[tuple]]:
    """Each query's usable pairs as (place in its stratum, key, item), the first to take first."""
    found = defaultdict(list)
    for row in candidates.iter_rows(named=True):
        key = plain_key(row)
        ranks = [row[f"rank_{c}"] for c in CHANNELS if row[f"rank_{c}"] is not None]
        drawn = lot(row["query_id"], row["item_id"])
        place = (min(ranks), -row["tfidf"]) if ranks else (math.inf, drawn)
        if key[0] is not None:
            entry = ((drawn,) if by_lot else place, row["item_id"], key)
            found[row["query_id"]].append(entry)
    return {query_id: sorted(rows) for query_id, rows in found.items()}


def fits(pattern: str, key: tuple) -> bool:
    stratum, _, rest = pattern.partition("/")
    if stratum in STRATA:
        return key[0] == stratum and (not rest or set(rest.split("+")) == set(key[1].split("+")))
    return set(pattern.split("+")) == set(key[1].split("+"))


def plain_turns(candidates: pl.DataFrame, cap: int, budgets: dict[str, int]) -> list[tuple]:
    """The rules taking turns, one candidate at a time, with one budget at most."""
    kept = []
    for query_id, rows in offers(candidates, by_lot=False).items():
        for pattern, most in budgets.items():
            seen, used, left = Counter(), 0, []
            by_turn = []
            for _place, item_id, key in rows:
                by_turn.append((seen[key[0]], STRATA.index(key[0]), item_id, key))
                seen[key[0]] += 1
            dropped = set()
            for _turn, _order, item_id, key in sorted(by_turn):
                if fits(pattern, key):
                    used += 1
                    dropped |= {item_id} if used > most else set()
            left = [row for row in rows if row[1] not in dropped]
            rows = left
        seen, by_turn = Counter(), []
        for _place, item_id, key in rows:
            by_turn.append((seen[key[0]], STRATA.index(key[0]), item_id, key))
            seen[key[0]] += 1
        kept += [(query_id, item_id, *key) for _turn, _order, item_id, key in sorted(by_turn)[:cap]]
    return sorted(kept)


def plain_deal(candidates: pl.DataFrame, config: Config, yields: pl.DataFrame | None) -> list:
    """Dealing, one pair at a time."""
    section, kept = config.annotate, []
    rates = {} if yields is None else {row[:3]: row[-4:] for row in yields.iter_rows()}
    spread = section.pairs_per_query
    spread = spread if yields is None else round(section.explore * spread)
    for query_id, rows in offers(candidates, by_lot=yields is None).items():
        queues = defaultdict(list)
        for _place, item_id, key in rows:
            queues[key].append(item_id)
        names = sorted(queues, key=lambda key: (STRATA.index(key[0]), key[1:]))
        own = int(hash_strings([query_id], SEED)[0])
        turn = {key: own ^ int(hash_strings(["\t".join(key)], SEED)[0]) for key in names}
        taken, expected = Counter(), np.zeros(4)
        for step in range(section.pairs_per_query):
            used = {p: sum(n for key, n in taken.items() if fits(p, key)) for p in section.budgets}
            spent = [p for p, n in used.items() if n >= section.budgets[p]]
            free = [
                key
                for key in names
                if taken[key] < len(queues[key]) and not any(fits(p, key) for p in spent)
            ]
            if not free:
                break
            of_rule = Counter()
            for key, n in taken.items():
                of_rule[key[0]] += n
            even = min(
                free,
                key=lambda key: (
                    of_rule[key[0]],
                    STRATA.index(key[0]),
                    taken[key],
                    turn[key],
                ),
            )
            chosen = even
            if step >= spread:
                room = caps(config.examples)
                totals = {
                    s: sum(e for e, own in zip(expected, SIGNS, strict=True) if own == s)
                    for s in room
                }
                short = [
                    (totals[sign] < room[sign]) / (1 + e)
                    for e, sign in zip(expected, SIGNS, strict=True)
                ]
                worth = [sum(s * r for s, r in zip(short, rates[key], strict=True)) for key in free]
                chosen = free[int(np.argmax(worth))] if max(worth) > 0 else even
            taken[chosen] += 1
            expected += rates.get(chosen, (0.0,) * 4)
        kept += [(query_id, i, *key) for key in names for i in queues[key][: taken[key]]]
    return sorted(kept)


def config_of(**annotate: object) -> Config:
    return parse_config({"annotate": annotate, "examples": {"max_positives": 6}})


def chosen(candidates: pl.DataFrame, config: Config, yields: pl.DataFrame | None = None):
    sections = (config.annotate, config.examples, config.mine)
    return select(candidates, *sections, yields=yields, seed=SEED)


def some_yields(candidates: pl.DataFrame, config: Config) -> pl.DataFrame:
    """Yields as of labels drawn by lot, for some of the strata."""
    rng = np.random.default_rng(3)
    keys = placed(candidates, config.annotate, config.examples, config.mine).select(KEY)
    keys = keys.drop_nulls().unique().sort(KEY)
    made = rng.multinomial(20, [0.3, 0.2, 0.2, 0.1, 0.2], len(keys))
    counts = keys.with_columns(
        available=pl.lit(90), pairs=pl.lit(20), **{b: made[:, k] for k, b in enumerate(BOUGHT)}
    )
    return estimate(counts.select(pl.col(n).cast(t) for n, t in TALLY.items())[::2], keys)


@pytest.fixture(scope="module")
def candidates() -> pl.DataFrame:
    return random_candidates(items(), ["a", "b", "c", "d"], seed=1)


BUDGETS = [
    {},
    {"hard_positive": 2},
    {"bm25": 1},
    {"token_similar/none": 0},
    {"bm25+dictionary": 3, "dense": 1, "hard_negative/bm25": 0},
]


@pytest.mark.parametrize("budgets", BUDGETS[:4])
@pytest.mark.parametrize("cap", [1, 6, 13, 500])
def test_turns_equal_the_rules_applied_one_by_one(candidates, cap, budgets):
    got = chosen(candidates, config_of(pairs_per_query=cap, budgets=budgets))
    assert got.pairs.rows() == plain_turns(candidates, cap, budgets)
    assert got.counts["pairs"].sum() == len(candidates)
    check_reasons(got, candidates, cap)


def check_reasons(got: Selection, candidates: pl.DataFrame, cap: int) -> None:
    reasons = dict(got.counts.group_by("reason").agg(pl.col("pairs").sum()).iter_rows())
    of_query = dict(got.pairs.group_by("query_id").len().iter_rows())
    usable = Counter(r["query_id"] for r in candidates.to_dicts() if plain_stratum(r))
    over = {"over_cap": 0, "over_budget": 0}
    for query_id, pairs in usable.items():
        kept = of_query.get(query_id, 0)
        over["over_cap" if kept >= cap else "over_budget"] += pairs - kept
    assert reasons.get("kept", 0) == len(got.pairs)
    assert reasons.get("no_level", 0) == len(candidates) - sum(usable.values())
    assert {name: reasons.get(name, 0) for name in over} == over


@pytest.mark.parametrize("budgets", BUDGETS)
@pytest.mark.parametrize("cap", [1, 7, 24, 500])
@pytest.mark.parametrize("explore", [0.0, 0.3, 1.0])
def test_dealing_equals_dealing_one_pair_at_a_time(candidates, cap, explore, budgets):
    config = config_of(pairs_per_query=cap, pilot=0.5, explore=explore, budgets=budgets)
    yields = some_yields(candidates, config)
    got = chosen(candidates, config, yields)
    assert got.pairs.rows() == plain_deal(candidates, config, yields)
    check_reasons(got, candidates, cap)
    assert chosen(candidates, config).pairs.rows() == plain_deal(candidates, config, None)


def test_token_similar_pairs_are_drawn_by_lot_however_deep_they_were_found(candidates):
    """Out of sight begins at rank 60: of what lies there the nearest must not take every place."""
    config = config_of(pairs_per_query=500, budgets={"token_similar": 4})
    config = config.model_copy(update={"examples": ExamplesConfig(retrieved_depth=60)})
    offered = placed(candidates, config.annotate, config.examples, config.mine)
    similar = offered.filter(stratum="token_similar")
    assert 0 < similar["best"].null_count() < len(similar)
    assert similar["best"].min() > 60
    got = chosen(candidates, config).pairs.filter(stratum="token_similar")
    hashed = hash_strings(
        [f"{q}\t{i}" for q, i in similar.select("query_id", "item_id").rows()], SEED
    )
    lots = sorted(zip(hashed.tolist(), similar.select("query_id", "item_id").rows(), strict=True))
    drawn = {
        q: [pair for _, pair in lots if pair[0] == q][:4] for q in similar["query_id"].unique()
    }
    assert set(got.select("query_id", "item_id").rows()) == {
        p for own in drawn.values() for p in own
    }


def test_bands_and_channels_are_told_apart(candidates):
    config = config_of(rank_bands=[100, 50, 10])
    got = placed(candidates, config.annotate, config.examples, config.mine)
    assert got.select(KEY).rows() == [plain_key(row) for row in candidates.to_dicts()]
    coarse = config_of(rank_bands=[7, 7], tfidf_bands=1)
    bands = placed(candidates, coarse.annotate, coarse.examples, coarse.mine)["band"]
    assert set(bands) == {"1-7", "over 7", "0.2-0.6", "below 0.2", "over 0.6"}


@pytest.mark.parametrize("pilot", [0.0, 0.5])
def test_selection_does_not_depend_on_the_shard_or_the_order(candidates, pilot):
    config = config_of(pairs_per_query=9, pilot=pilot, budgets={"bm25": 2})
    yields = some_yields(candidates, config) if pilot else None
    for known in {id(yields): yields, 0: None}.values():
        whole = chosen(candidates, config, known).pairs
        shuffled = candidates.sample(fraction=1.0, shuffle=True, seed=3)
        assert chosen(shuffled, config, known).pairs.equals(whole)
        parts = [candidates.filter(pl.col("query_id") == q) for q in "abcd"]
        assert pl.concat([chosen(part, config, known).pairs for part in parts]).equals(whole)
        nothing = chosen(candidates.clear(), config, known)
        assert nothing.pairs.schema == whole.schema
        assert nothing.counts.is_empty()


def test_token_similar_pairs_come_from_the_whole_band(candidates):
    many = pl.DataFrame(
        {"query_id": "a", "item_id": [f"i{k:04}" for k in range(800)], "channels": 0},
        schema_overrides={"channels": pl.Int8},
    ).with_columns(
        *(pl.lit(None, pl.Int32).alias(f"rank_{c}") for c in CHANNELS),
        tfidf=pl.Series(np.linspace(0.2, 0.6, 800), dtype=pl.Float32),
    )
    got = chosen(many, config_of(pairs_per_query=80)).pairs
    quarters = Counter(got["band"])
    assert len(quarters) == 4
    assert min(quarters.values()) >= 10


def test_a_pilot_is_a_share_of_the_queries_whatever_their_order():
    ids = pl.Series([f"q{k}" for k in range(1000)])
    drawn = pilot_queries(ids, 0.1, SEED)["query_id"]
    assert len(drawn) == 100
    assert pilot_queries(ids.reverse(), 0.1, SEED)["query_id"].equals(drawn)
    assert set(pilot_queries(ids, 0.05, SEED)["query_id"]) < set(drawn)
    assert not pilot_queries(ids, 0.1, SEED + 1)["query_id"].equals(drawn)
    assert len(pilot_queries(ids, 1e-9, SEED)) == 1
    assert pilot_queries(ids, 0.0, SEED).is_empty()
    assert pilot_queries(ids.clear(), 0.1, SEED).is_empty()


def test_random_negatives_leave_less_room():
    assert caps(ExamplesConfig()) == {"positive": 50, "negative": 40}
    assert caps(ExamplesConfig(max_negatives=3))["negative"] == 1


@pytest.mark.parametrize(
    ("pattern", "read"),
    [
        ("hard_negative", ("hard_negative", None)),
        ("dense+bm25", (None, frozenset({"bm25", "dense"}))),
        ("none", (None, frozenset())),
        ("token_similar/none", ("token_similar", frozenset())),
    ],
)
def test_patterns_are_read(pattern, read):
    assert parse_budget(pattern) == read


@pytest.mark.parametrize(
    ("pattern", "got", "near"),
    [
        ("hard_negativ", "hard_negativ", "hard_negative"),
        ("bm25+dens", "dens", "dense"),
        ("hard_negative/bm52", "bm52", "bm25"),
        ("token_similr/bm25", "token_similr", "token_similar"),
        ("", "", None),
        ("hard_negative/", "", None),
    ],
)
def test_a_budget_of_an_unknown_name_is_refused_at_load(pattern, got, near):
    with pytest.raises(ConfigError) as refused:
        config_of(budgets={pattern: 3})
    (fault,) = refused.value.faults
    assert fault.got == f"unknown name '{got}'"
    assert near is None or f"'{near}'" in fault.fix


def test_settings_out_of_range_are_refused():
    for wrong in (
        {"budgets": {"bm25": -1}},
        {"pilot": 1.5},
        {"explore": -0.1},
        {"rank_bands": [0]},
        {"rank_bands": []},
        {"tfidf_bands": 0},
    ):
        with pytest.raises(ConfigError):
            config_of(**wrong)


def test_defaults_take_turns():
    assert AnnotateConfig().pilot == 0.0
    assert MineConfig().names == CHANNELS
