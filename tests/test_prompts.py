"""Prompt templates: what is accepted, what is refused, and that texts go in as they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest

from trivium.adapters.judges.prompts import Prompt, load_prompt
from trivium.foundation.errors import ConfigError


def template(folder: Path, text: str | bytes) -> Path:
    path = folder / "mine.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def pairs(*rows: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["query_text", "item_text"], orient="row")


@pytest.mark.parametrize(
    ("query", "item"),
    [
        ("{item}", "{query}"),
        ("{0} {{x}} {", "}"),
        ("%s \\1 $query", "5' x 3\" {item!r}"),
        ("café\nÜber 🛒", ""),
    ],
)
def test_texts_are_put_in_as_they_are(tmp_path, query, item):
    prompt = load_prompt(template(tmp_path, "Q={query}|I={item}|Q={query}"), "chat")
    assert prompt.fill(pairs((query, item))) == [f"Q={query}|I={item}|Q={query}"]


def test_every_pair_is_filled_in_order(tmp_path):
    prompt = load_prompt(template(tmp_path, '{{"a": "{query}/{item}"}}'), "chat")
    rows = [(f"q{n}", f"i{n}") for n in range(50)]
    assert prompt.fill(pairs(*rows)) == [f'{{"a": "{query}/{item}"}}' for query, item in rows]
    assert prompt.fill(pairs(*rows).head(0)) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("only {query}", "no {item}"),
        ("only {item}", "no {query}"),
        ("nothing", "no {item} and no {query}"),
        ("doubled {{query}} {item}", "no {query}"),
        ("{query} {item} {brand}", "unknown {brand}"),
        ("{query} {item} {}", "unknown {}"),
        ("{query} {item} {0}", "unknown {0}"),
        ("{query} {item!r}", "unknown {item!r}"),
        ("{query:>9} {item}", "unknown {query:>9}"),
        ("{query.__class__} {item}", "unknown {query.__class__}"),
        ('{query} {item} {"grade": 3}', 'unknown {"grade": 3}'),
        ("{query} {item} {", "stands alone"),
        ("{query} {item} }", "stands alone"),
        (b"{query} {item} \xff", "cannot be read"),
    ],
)
def test_a_faulty_template_is_explained(tmp_path, text, names):
    path = template(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_prompt(path, "chat")
    assert names in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_template_that_is_not_there_is_explained(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prompt(tmp_path / "none.txt", "chat")


def test_the_packaged_template_names_every_grade():
    prompt = load_prompt(None, "chat")
    assert all(f"{grade} = " in prompt.text for grade in range(5))
    (filled,) = prompt.fill(pairs(("red shoe", "a blue boot")))
    assert filled.count("red shoe") == filled.count("a blue boot") == 1
    assert "{" not in filled


def test_the_hash_follows_the_text_alone(tmp_path):
    unix = load_prompt(template(tmp_path, "{query}\n{item}:\n"), "chat")
    windows = load_prompt(template(tmp_path, "{query}\r\n{item}:\r\n\r\n"), "lora")
    assert unix == windows == Prompt("{query}\n{item}:")
    assert unix.hash == hashlib.sha256(b"{query}\n{item}:").hexdigest()
    assert load_prompt(template(tmp_path, "{query}\n{item}"), "chat").hash != unix.hash
