"""What channels say of a query: the parts add up to the scores that the search gives."""

import json

import polars as pl
import pytest

from trivium.adapters.channels import build_channel
from trivium.foundation.config import DataConfig, MineConfig

TITLES = [
    "Acme shower head 1/2 in",
    "Acme shower hose 0.5 inch",
    "Bolt drywall screw, 12 pk",
    "Bolt dry wall anchor pack of 12",
    "Crest hole saw 2 in",
    "Crest shower faucet",
]
ITEMS = pl.DataFrame(
    {"item_id": [f"i{n}" for n in range(len(TITLES))], "title": TITLES, "text": TITLES}
)
CONFIG = MineConfig(channels=["dictionary", "bm25"])


@pytest.mark.parametrize("kind", ["dictionary", "bm25"])
@pytest.mark.parametrize("text", ["acme showers .5 in", "drywall 12-count", "hole saw", "shwoer"])
def test_the_parts_add_up_to_the_scores(kind, text):
    channel = build_channel(CONFIG.channel(kind), ITEMS, CONFIG, DataConfig())
    run = channel.search(pl.DataFrame({"query_id": ["q"], "text": [text]}), 10)
    said = channel.explain(text, run["item_id"].to_list())
    sums = dict(said.matches.group_by("item_id").agg(pl.col("score").sum()).iter_rows())
    found = dict(run.select("item_id", "score").iter_rows())
    assert sums == pytest.approx(found, abs=1e-4)
    assert said.steps.columns == ["part", "became", "weight", "why"]


def test_sizes_meet_however_they_are_written():
    channel = build_channel(CONFIG.channel("dictionary"), ITEMS, CONFIG, DataConfig())
    for text in ("1/2 in", "0.5 inch", '.5"'):
        run = channel.search(pl.DataFrame({"query_id": ["q"], "text": [text]}), 2)
        assert set(run["item_id"]) == {"i0", "i1"}
    pack = channel.search(pl.DataFrame({"query_id": ["q"], "text": ["12 ct"]}), 2)
    assert set(pack["item_id"]) == {"i2", "i3"}


def test_a_misspelt_word_is_corrected_and_counts_less():
    channel = build_channel(CONFIG.channel("dictionary"), ITEMS, CONFIG, DataConfig())
    steps = channel.explain("shwoer", []).steps
    assert steps["became"].to_list() == ["shower"]
    assert 0 < steps["weight"][0] < 1
    assert "correction" in steps["why"][0]
    assert channel.explain("shower", []).steps["weight"].to_list() == [1.0]


def test_the_command_shows_every_channel(shop, cli):
    title = shop.table("items")["title"][0]
    shown = cli(
        "explain", title, "--config", shop.config, "--channel", "bm25", "--top", "3", "--json"
    )
    assert shown.code == 0
    assert title.split()[0].lower() in json.dumps(json.loads(shown.out)).lower()
