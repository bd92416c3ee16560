from __future__ import annotations

import json
import pickle
from collections import Counter

import polars as pl
import pytest

from trivium.adapters.ledger import NUMBERS, Budget, BudgetReached, Ledger, Prices, Spent
from trivium.foundation.errors import TriviumError
from trivium.foundation.judge_config import CrossEncoderConfig

SOME = Spent(10, 1, 4, 900, 20, 2.5, 0.25, {"timeout": 2})
MORE = Spent(5, 0, 2, 100, 10, 0.5, 0.75, {"timeout": 1, "malformed": 3})


def test_prices_come_from_the_settings_and_add_up_by_hand():
    config = CrossEncoderConfig(
        usd_per_million_tokens=0.15, usd_per_million_written=0.60, usd_per_hour=2.40
    )
    prices = Prices.of(config)
    assert prices == Prices(0.15, 0.60, 2.40)
    assert prices.usd(2_000_000, 0, 0.0) == pytest.approx(0.30)
    assert prices.usd(0, 500_000, 0.0) == pytest.approx(0.30)
    assert prices.usd(0, 0, 90.0) == pytest.approx(0.06)
    assert prices.usd(2_000_000, 500_000, 90.0) == pytest.approx(0.66)
    assert Prices().usd(10**9, 10**9, 10**6) == 0.0


def test_spent_adds_every_number_and_every_trouble():
    both = SOME + MORE
    for name in NUMBERS:
        assert getattr(both, name) == getattr(SOME, name) + getattr(MORE, name), name
    assert both.troubles == {"timeout": 3, "malformed": 3}
    assert SOME.troubles == {"timeout": 2}
    assert SOME + Spent() == SOME


def test_a_ledger_books_by_judge_and_merges_without_touching_its_parts():
    one, other = Ledger(), Ledger()
    one.add("small", SOME)
    one.add("small", MORE)
    other.add("large", SOME)
    other.add("small", SOME)
    merged = one.merge(other)
    assert merged.judges == {"small": SOME + MORE + SOME, "large": SOME}
    assert one.judges == {"small": SOME + MORE}
    assert other.judges == {"large": SOME, "small": SOME}
    assert merged.usd == pytest.approx(0.25 + 0.75 + 0.25 + 0.25)


def test_a_ledger_survives_json():
    ledger = Ledger({"small": SOME, "large": Spent(troubles=Counter(cut=1))})
    plain = json.loads(json.dumps(ledger.as_dict()))
    assert Ledger.from_dict(plain) == ledger
    assert plain["small"]["troubles"] == {"timeout": 2}


def test_the_table_has_a_row_a_judge_in_order():
    table = Ledger({"small": SOME + MORE, "large": Spent()}).table()
    assert table["judge"].to_list() == ["small", "large"]
    assert table["troubles"].to_list() == ["malformed 3, timeout 3", ""]
    assert table.row(0, named=True) | {"troubles": "", "judge": ""} == {
        **{name: getattr(SOME + MORE, name) for name in NUMBERS},
        "judge": "",
        "troubles": "",
    }
    assert table.schema["usd"] == pl.Float64
    assert Ledger().table().schema == table.schema


def test_a_budget_stops_at_its_sum_and_survives_the_way_to_another_process():
    Budget(None).check(1e9)
    Budget(1.0).check(0.9999)
    for usd in (1.0, 1.5):
        with pytest.raises(BudgetReached) as stopped:
            Budget(1.0).check(usd)
    error = pickle.loads(pickle.dumps(stopped.value))
    assert isinstance(error, TriviumError)
    assert error.exit_code == 7
    for words in ("annotate.max_budget", "$1.5000 spent", "$1.0000", "no answer is paid for twice"):
        assert words in str(error)
