"""The dictionary channel against its definition, and every expansion that it makes."""

import math

import polars as pl
import pytest

from channel_shop import QUERIES, as_lists, ask, build, catalog, plain_top, titled
from trivium.adapters.channels.aliases import spellings
from trivium.adapters.channels.bm25 import Bm25Channel
from trivium.adapters.channels.dictionary import DictionaryChannel
from trivium.adapters.channels.synonyms import read_synonyms
from trivium.adapters.channels.words import parts, tokens
from trivium.foundation.config import DataConfig
from trivium.foundation.errors import InputError
from trivium.foundation.mine_config import MineConfig


def own_entries(row):
    """The entries of one item with the weight of the best field, from the definition."""
    own = dict.fromkeys(tokens(row["title"]), 1.75)
    words = parts(row["title"])
    for n in (2, 3):
        own |= {" ".join(words[i : i + n]): 2.5 for i in range(len(words) - n + 1)}
    for value in filter(None, (row["brand"], row["colour"])):
        if len(parts(value)) > 1:
            own |= {word: max(own.get(word, 0), 2.0) for word in parts(value)}
        own[" ".join(parts(value))] = 3.0
    return own


def plain_dictionary(items, entries, k):
    weights = {row["item_id"]: own_entries(row) for row in items.iter_rows(named=True)}
    scores = dict.fromkeys(weights, 0.0)
    for entry, weight in entries.items():
        held = sum(entry in own for own in weights.values())
        for item, own in weights.items():
            if entry in own:
                scores[item] += (
                    weight * own[entry] * min(3.0, min(3.0, math.log1p(len(weights) / held)))
                )
    return plain_top({item: round(score, 4) for item, score in scores.items()}, k)


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("hole saws", {"hole saw": 1.0, "hole": 0.5, "saw": 0.5}),
        ("red hose", {"red": 1.0, "hose": 1.0}),
        ("matte black garden hose", {"matte black": 1.0, "matte": 0.5, "black": 0.5,
                                     "garden hose": 1.0, "garden": 0.5, "hose": 0.5}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("k", [4, 500])
def test_dictionary_equals_the_definition(text, entries, k):
    found = as_lists(build(DictionaryChannel).search(ask(text), k))["p"]
    expected = plain_dictionary(catalog(), entries, k)
    assert [item for item, _ in found] == [item for item, _ in expected]
    assert [s for _, s in found] == pytest.approx([s for _, s in expected], abs=2e-4)


def test_dictionary_reads_fields_that_the_text_does_not_hold():
    uses = ["type: Cordless; for: Roof Work", "indoor", "a long sentence of prose on roofs"]
    items = titled("drill", "saw", "hammer").with_columns(use=pl.Series(uses), price=1.5)
    queries = ask("roof work")
    runs = build(DictionaryChannel, items).search(queries, 9)
    assert runs["item_id"].to_list() == ["a"]
    assert build(Bm25Channel, items).search(queries, 9).height == 0


def test_dictionary_expands_synonyms_below_what_was_asked(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text("# colours\nred, crimson\nwall board, drywall\n")
    items = titled("red mug", "crimson mug", "drywall")
    channel = build(DictionaryChannel, items, DataConfig(synonyms=path))
    queries = ask("red", "wall boards")
    found = as_lists(channel.search(queries, 9))
    (first, high), (second, low) = found["p"]
    assert (first, second) == ("a", "b")
    assert low == pytest.approx(0.6 * high)
    assert [item for item, _ in found["q"]] == ["c"]
    assert build(DictionaryChannel, items).search(queries, 9)["item_id"].to_list() == ["a"]


def test_dictionary_replaces_what_a_mapping_replaces(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text("loo => toilet\nmug => mug, cup\n")
    items = titled("loo", "toilet", "mug", "cup")
    channel = build(DictionaryChannel, items, DataConfig(synonyms=path))
    queries = ask("loo", "mugs")
    found = as_lists(channel.search(queries, 9))
    assert [item for item, _ in found["p"]] == ["b"]
    assert [item for item, _ in found["q"]] == ["c", "d"]


def test_dictionary_knows_compounds_of_the_catalog():
    items = titled("dry wall knife", "dry wall saw", "dry wall screw", "drywall tape")
    queries = ask("drywall", "dry wall")
    found = as_lists(build(DictionaryChannel, items).search(queries, 9))
    assert {item for item, _ in found["p"]} == set("abcd")
    assert {item for item, _ in found["q"]} == set("abcd")


def steps_of(text, items, **settings):
    kept = {"kind": "dictionary", **settings}
    config = MineConfig.model_validate({"channels": [kept]})
    channel = build(DictionaryChannel, items, config=config)
    rows = channel.explain(text, []).steps.iter_rows()
    return [(part, became, weight and round(weight, 3), why) for part, became, weight, why in rows]


def test_spellings_of_one_brand_meet():
    spelt = ["Black & Decker", "Black and Decker", "BlackDecker", "O'Brien", "O Brien"]
    items = titled(*(f"{name} tool" for name in spelt)).with_columns(brand=pl.Series(spelt))
    channel = build(DictionaryChannel, items)
    queries = ask("black and decker", "blackdecker", "black decker", "obrien")
    found = as_lists(channel.search(queries, 9))
    assert [{item for item, _ in found[q]} for q in "pqr"] == [set("abc")] * 3
    assert {item for item, _ in found["s"]} == set("de")
    assert found["q"][0][0] == "c"
    assert ("blackdecker", "black decker", 0.6, "alias") in steps_of("blackdecker", items)


def test_words_that_are_together_in_one_catalog_are_found_apart():
    items = titled("showerhead", "shower", "head")
    assert (
        as_lists(build(DictionaryChannel, items).search(ask("shower heads"), 9))["p"][0][0] == "a"
    )
    assert ("shower head", "showerhead", 0.6, "alias") in steps_of("shower heads", items)


def test_short_and_numeric_words_are_not_joined():
    assert not spellings(["a b", "ab", "2 4", "24", "car go"])
    assert spellings(["wd 40", "wd40"]) == {"wd40": ["wd 40", "wd40"]}


SIZED = titled(
    "PVC Pipe 1/2 in. x 10 ft.", 'Pipe 0.5" x 120 in', "Battery (12-Pack)", "Battery, pack of 12",
    "Pail 5 gal.", "Bulb 60-Watt", "Lumber 2 in. x 4 in. x 8 ft.", "Pipe 1 in.", "2 Batteries",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1/2 inch pipe", "ab"),
        (".5in pipe", "ab"),
        ("pipe 10 feet", "ab"),
        ("12 pk", "cd"),
        ("12-count batteries", "cd"),
        ("12 per box", "cd"),
        ("5 gallon pail", "e"),
        ("60w", "f"),
        ("2x4", "g"),
        ("2 x 4 x 8", "g"),
        ("2x4x8 ft", "g"),
    ],
)
def test_sizes_meet_however_they_are_written(text, wanted):
    found = build(DictionaryChannel, SIZED).search(ask(text), 9)["item_id"].to_list()
    assert set(found[: len(wanted)]) == set(wanted)


def test_sizes_of_fields_count_and_those_of_prose_do_not():
    items = titled("pail", "tub", "can").with_columns(
        size=pl.Series(["5 gal", None, "5 gallons, though some say that it holds a little " * 2])
    )
    assert build(DictionaryChannel, items).search(ask("5-gallon"), 9)["item_id"].to_list() == ["a"]


def test_a_size_that_no_item_has_falls_back_to_its_numbers():
    assert steps_of("1 in 7 ft", SIZED) == [
        ("1 in", "1 inch", 1.0, "size"),
        ("1 in", "1", 0.5, "back-off"),
        ("7 ft", None, None, "not in the catalog"),
    ]
    assert ("10 lb", "10", 1.0, "word") in steps_of("10 lb", SIZED)


def test_units_and_spelling_can_be_turned_off():
    items = titled("hammer 5 gal", "hammer")
    assert steps_of("hamer 5 gal", items)[0][3] == "correction, word"
    assert steps_of("hamer", items, spelling=False) == [("hamer", None, None, "not in the catalog")]
    assert {why for *_, why in steps_of("5 gal", items, units=False)} == {"word"}


def test_a_corrected_word_joins_phrases_and_counts_less():
    items = titled("tool cabinet red", "tool cabinet blue", "tool cabinet", "box")
    assert steps_of("tool cabnet", items) == [
        ("tool cabnet", "tool cabinet", pytest.approx(0.833), "correction, phrase"),
        ("tool cabnet", "tool", pytest.approx(0.417), "back-off"),
        ("tool cabnet", "cabinet", pytest.approx(0.417), "back-off"),
    ]
    channel = build(DictionaryChannel, items)
    found = as_lists(channel.search(ask("cabnet", "cabinet"), 9))
    assert [item for item, _ in found["p"]] == [item for item, _ in found["q"]] == ["a", "b", "c"]
    assert found["p"][0][1] == pytest.approx(found["q"][0][1] * 5 / 6)


def test_words_of_the_users_synonyms_are_not_corrected(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text("hammr tool => mallet\n")
    items = titled("hammer", "hammer", "mallet")
    channel = build(DictionaryChannel, items, DataConfig(synonyms=path))
    assert channel.search(ask("hammr"), 9).height == 0
    assert channel.search(ask("hammr tools"), 9)["item_id"].to_list() == ["c"]


TEXTS = ["acme hole saws", "blak faucet 2 in", "gardenhose crest home", "red red hose", "dx-4821b"]


@pytest.mark.parametrize("channel", [DictionaryChannel, Bm25Channel])
@pytest.mark.parametrize("text", [*TEXTS, "zzqx", ""])
def test_explained_shares_sum_to_the_score(channel, text):
    built = build(channel)
    found = as_lists(built.search(ask(text), 60)).get("p", [])
    explained = built.explain(text, [item for item, _ in found])
    sums = dict(explained.matches.group_by("item_id").agg(pl.col("score").sum()).iter_rows())
    assert sums == pytest.approx(dict(found), rel=1e-5)
    assert explained.matches["item_id"].unique(maintain_order=True).to_list() == [
        item for item, _ in found
    ]
    searched = set(explained.steps["became"].drop_nulls())
    assert set(explained.matches["part"]) <= searched
    assert (explained.steps["became"].is_null() == explained.steps["weight"].is_null()).all()


def test_a_size_and_a_phrase_of_the_same_name_both_have_their_shares(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text("footlong => 12 inch\n")
    items = titled("12 inch ruler", "12 inch saw", "12 inch pan", "12 in pipe", "spoon")
    built = build(DictionaryChannel, items, DataConfig(synonyms=path))
    found = as_lists(built.search(ask("footlong 12 in"), 9))["p"]
    explained = built.explain("footlong 12 in", [item for item, _ in found])
    assert explained.steps["became"].to_list().count("12 inch") == 2
    sums = dict(explained.matches.group_by("item_id").agg(pl.col("score").sum()).iter_rows())
    assert sums == pytest.approx(dict(found), rel=1e-5)


@pytest.mark.parametrize("channel", [DictionaryChannel, Bm25Channel])
def test_items_that_a_query_does_not_find_have_no_shares(channel):
    built = build(channel, titled("red mug", "blue plate"))
    assert built.explain("red", ["b", "absent"]).matches.height == 0
    assert built.explain("red", ["a"]).matches["score"].min() > 0


def test_a_query_finds_the_same_whatever_is_asked_beside_it():
    channel = build(DictionaryChannel)
    together = channel.search(pl.DataFrame({"query_id": list("abcde"), "text": TEXTS}), 9)
    for query_id, text in zip("abcde", TEXTS, strict=True):
        alone = channel.search(pl.DataFrame({"query_id": [query_id], "text": [text]}), 9)
        assert alone.equals(together.filter(query_id=query_id))


def test_phrases_are_the_same_however_many_are_counted_at_once(monkeypatch):
    whole = build(DictionaryChannel).search(QUERIES, 9)
    monkeypatch.setattr("trivium.adapters.channels.lexicon.PHRASES_AT_ONCE", 7)
    assert build(DictionaryChannel).search(QUERIES, 9).equals(whole)


def test_synonyms_are_read_as_solr_does(tmp_path):
    path = tmp_path / "synonyms.txt"
    path.write_text(
        "# comment\n\nTVs, Television,  telly\nc#, csharp\nloo, wc => toilet, rest room\n"
    )
    synonyms = read_synonyms(path)
    assert synonyms.equivalents["tv"] == ["television", "telly"]
    assert synonyms.equivalents["telly"] == ["tv", "television"]
    assert synonyms.equivalents["c"] == ["csharp"]
    assert synonyms.replacements == {
        "loo": ["toilet", "rest room"],
        "wc": ["toilet", "rest room"],
    }


@pytest.mark.parametrize("line", ["a => ", "=> b", "a => b => c", "a,,b", "alone", "a, !"])
def test_a_malformed_line_of_synonyms_is_named(tmp_path, line):
    path = tmp_path / "synonyms.txt"
    path.write_text(f"good, fine\n{line}\n")
    with pytest.raises(InputError, match="line 2") as caught:
        read_synonyms(path)
    assert len(caught.value.faults) == 1


def test_an_absent_synonyms_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent\.txt"):
        read_synonyms(tmp_path / "absent.txt")
