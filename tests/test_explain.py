"""`trivium explain`, on the command line and on frames."""

import json
import shutil

import polars as pl
import pytest

import trivium
from channel_shop import MODEL, catalog

QUERY = "cordless dril 12 volt"


@pytest.fixture(scope="module")
def mined(market, tmp_path_factory, cli):
    folder = tmp_path_factory.mktemp("explained") / "run"
    made = cli("mine", folder, "--config", market / "trivium.toml")
    assert made.code == 0, made.err
    return folder


def explained(cli, *args):
    result = cli("explain", *args, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_every_channel_says_what_it_did_and_why_each_item_came(cli, mined):
    told = explained(cli, QUERY, "--run", mined, "--top", 5)
    assert told["query"] == QUERY
    channels = {channel["channel"]: channel for channel in told["channels"]}
    assert list(channels) == ["dictionary", "bm25", "dense"]
    for name, channel in channels.items():
        assert [item["rank"] for item in channel["items"]] == [1, 2, 3, 4, 5]
        for item in channel["items"]:
            for other, rank in item["other_ranks"].items():
                same = [o for o in channels[other]["items"] if o["item_id"] == item["item_id"]]
                assert not same or same[0]["rank"] == rank
                assert rank is None or 1 <= rank <= channels[other]["found"]
            if name in {"dictionary", "bm25"}:
                shares = sum(match["score"] for match in item["matches"])
                assert shares == pytest.approx(item["score"], rel=1e-5)
    whys = {step["why"] for step in channels["dictionary"]["steps"]}
    assert any("correction" in why for why in whys)
    assert "size" in whys


def test_tables_name_parts_ranks_and_reasons(cli, mined):
    result = cli("explain", QUERY, "--run", mined, "--top", 2, "--channel", "dictionary")
    assert result.code == 0
    for word in ("dictionary: the query", "correction", "12 volt", "the first 2 of", "why"):
        assert word in result.out
    assert "bm25" not in result.out
    nothing = cli("explain", "zzqqxv", "--run", mined, "--channel", "bm25")
    assert "bm25 found nothing" in nothing.out
    assert "not in the catalog" in nothing.out


def test_explaining_changes_nothing_in_a_run(cli, mined):
    before = {p: p.stat().st_mtime_ns for p in mined.rglob("*.parquet")}
    explained(cli, QUERY, "--run", mined)
    assert {p: p.stat().st_mtime_ns for p in mined.rglob("*.parquet")} == before


def test_a_query_of_the_run_is_asked_by_its_id(cli, mined):
    queries = pl.read_parquet(mined / "inputs" / "queries.parquet")
    text, query_id = queries.row(0, named=True)["query"], queries["query_id"][0]
    same = queries.filter(query=text)["query_id"].min()
    result = cli("explain", text, "--run", mined, "--channel", "bm25")
    assert f"query {same} of the run" in result.err, query_id


def test_a_configuration_alone_will_do(cli, market):
    told = explained(
        cli, QUERY, "--config", market / "trivium.toml", "--set", 'mine.channels=["bm25"]'
    )
    assert [channel["channel"] for channel in told["channels"]] == ["bm25"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("  ",), 3, ["query"]),
        (("mug", "--channel", "absent"), 4, ["'absent'", "dictionary, bm25, dense"]),
        (("mug", "--config", "absent.toml"), 4, ["absent.toml"]),
        (("mug", "--set", "mine.depth=0"), 4, ["mine.depth"]),
    ],
)
def test_what_is_wrong_is_explained(cli, mined, args, code, words):
    cli("explain", *args, "--run", mined).explains(code, words)


def test_a_folder_without_a_run_is_named(cli, tmp_path):
    result = cli("explain", "mug", "--run", tmp_path / "none")
    assert result.code != 0
    assert "no run" in result.err


def test_a_faulty_catalog_is_named(cli, market, tmp_path):
    folder = shutil.copytree(market, tmp_path / "shop")
    (folder / "items.parquet").write_text("nothing")
    result = cli("explain", "mug", "--config", folder / "trivium.toml")
    assert result.code != 0
    assert "items.parquet" in result.err
    assert "Traceback" not in result.err


def test_on_frames_the_tables_agree():
    items = catalog()
    told = trivium.explain(items, "acme hole saws", top=3, channels=["dictionary", "bm25"])
    found = told["found"]
    assert found.columns == [
        "channel", "rank", "item_id", "title", "score", "rank_dictionary", "rank_bm25",
    ]  # fmt: skip
    for name in ("dictionary", "bm25"):
        own = found.filter(channel=name)
        assert own["rank"].to_list() == own[f"rank_{name}"].to_list() == [1, 2, 3]
    sums = told["matches"].group_by("channel", "item_id").agg(pl.col("score").sum().alias("sum"))
    both = found.join(sums, on=["channel", "item_id"])
    assert both.height == 6
    assert both["sum"].to_list() == pytest.approx(both["score"].to_list(), rel=1e-5)
    frames = trivium.explain(items.to_pandas(), "acme", channels=["bm25"])
    assert type(frames["found"]).__module__.startswith("pandas")


def test_a_channel_that_cannot_explain_still_shows_what_it_found():
    from trivium.foundation.config import DataConfig
    from trivium.foundation.mine_config import MineConfig
    from trivium.stages import explain as stage

    class Silent:
        name = "bm25"

        def __init__(self, built):
            self.search = built.search

    build = stage.build_channel
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "build_channel", lambda *args: Silent(build(*args)))
        made = stage.explain(
            "acme", catalog(), MineConfig(channels=["bm25"], model=MODEL), DataConfig(), top=2
        )
    assert made.unexplained == ("bm25",)
    assert made.steps.height == made.matches.height == 0
    assert made.found["rank"].to_list() == [1, 2]
