"""Examples in the formats of other trainers, read back by the readers that install."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from datasets import Features, List, Value, load_dataset

import trivium
from trivium.adapters.exports.example_files import EXAMPLE_FORMATS, FILES
from trivium.foundation.errors import InputError, WorkspaceError
from trivium.foundation.tables import EXAMPLES, RELEVANT
from trivium.stages.export import export_examples

ITEMS = pl.DataFrame(
    {
        "item_id": [f"i{n}" for n in range(8)],
        "title": [*(f"thing {n}" for n in range(6)), "twin", "twin"],
        "brand": ["Acme", *[""] * 7],
    }
).with_columns(
    text=pl.when(pl.col("brand") != "")
    .then(pl.format("{} {}", "title", "brand"))
    .otherwise("title")
)
QUERIES = pl.DataFrame({"query_id": ["q0", "q1", "q2", "q3"], "query": ["a", "ü", "c", "d"]})
QUERIES = QUERIES.with_columns(pl.col("query").alias("text"))
ROWS = (
    ("q0", "i0", "seed_positive", 4, 4.0),
    ("q0", "i1", "easy_positive", 3, 3.25),
    ("q0", "i6", "easy_positive", 3, 3.0),
    ("q0", "i7", "hard_negative", 1, 1.0),  # its words are those of i6
    ("q0", "i2", "random_negative", None, None),
    ("q0", "i3", "seed_negative", 0, 0.0),
    ("q0", "i4", "hard_negative", 1, 0.75),
    ("q1", "i0", "hard_positive", 4, 3.5),
    ("q1", "i5", "token_similar_negative", 0, 0.125),
    ("q2", "i0", "seed_positive", 4, 4.0),
    ("q3", "i0", "seed_negative", 1, 1.0),
)


@pytest.fixture
def examples() -> pl.DataFrame:
    names = ["query_id", "item_id", "level", "grade", "expected_grade"]
    rows = pl.DataFrame(ROWS, schema=names, orient="row")
    rows = rows.with_columns(
        p_relevant=(pl.col("grade") >= RELEVANT).cast(pl.Float32),
        p_irrelevant=(pl.col("grade") < RELEVANT).cast(pl.Float32),
        confidence=pl.lit(1.0),
        source=pl.lit("judge"),
        reason=pl.lit(""),
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in EXAMPLES.columns.items())


@pytest.fixture
def shards(examples: pl.DataFrame) -> list[pl.DataFrame]:
    cut = pl.col("query_id") == "q0"
    return [examples.filter(cut), examples.filter(~cut)]


def exported(shards: list[pl.DataFrame], folder: Path, name: Any, **options: Any) -> dict[str, int]:
    return export_examples(shards, QUERIES, ITEMS, folder, name, **options)


def loaded(folder: Path, kind: str, cache: Path) -> Any:
    (path,) = folder.iterdir()
    return load_dataset(kind, data_files=str(path), split="train", cache_dir=str(cache))


def test_anchors_for_sentence_transformers(shards: list[pl.DataFrame], tmp_path: Path) -> None:
    counts = exported(shards, tmp_path / "out", "sentence-transformers", negatives=2)
    assert counts == {
        "rows": 3,
        "negatives with the words of a positive": 1,
        "positives with fewer than 2 negatives": 2,
    }
    rows = loaded(tmp_path / "out", "parquet", tmp_path / "cache")
    assert rows.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    # The surest negatives first, then round about: 3, 4, 2, 3, 4, 2.
    assert [tuple(row.values()) for row in rows] == [
        ("a", "thing 0 Acme", "thing 3", "thing 4"),
        ("a", "thing 1", "thing 2", "thing 3"),
        ("a", "twin", "thing 4", "thing 2"),
    ]


def test_pairs_alone(shards: list[pl.DataFrame], tmp_path: Path) -> None:
    counts = exported(shards, tmp_path / "out", "sentence-transformers", negatives=0)
    assert counts["rows"] == 5
    rows = loaded(tmp_path / "out", "parquet", tmp_path / "cache")
    assert rows.column_names == ["anchor", "positive"]


def test_the_trainer_of_sentence_transformers_takes_them(
    shards: list[pl.DataFrame], tmp_path: Path
) -> None:
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.trainer import SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.training_args import (
        SentenceTransformerTrainingArguments,
    )

    from tiny_towers import static_tower

    exported(shards, tmp_path / "out", "sentence-transformers", negatives=2)
    model = static_tower()
    before = next(model.parameters()).clone()
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "run"), max_steps=1, report_to=[], use_cpu=True, disable_tqdm=True
    )
    SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=loaded(tmp_path / "out", "parquet", tmp_path / "cache"),
        loss=MultipleNegativesRankingLoss(model),
    ).train()
    assert not next(model.parameters()).equal(before)


def test_passages_for_tevatron(shards: list[pl.DataFrame], tmp_path: Path) -> None:
    counts = exported(shards, tmp_path / "out", "tevatron")
    assert counts["rows"] == 2
    assert counts["queries without a positive or a negative"] == 2
    rows = loaded(tmp_path / "out", "json", tmp_path / "cache")
    text = Value("string")
    passages = List({"docid": text, "title": text, "text": text})
    assert rows.features == Features(
        query_id=text, query=text, positive_passages=passages, negative_passages=passages
    )
    first, second = rows
    assert (first["query_id"], second["query"]) == ("q0", "ü")
    assert first["positive_passages"] == [
        {"docid": "i0", "title": "thing 0", "text": "Acme"},
        {"docid": "i1", "title": "", "text": "thing 1"},
        {"docid": "i6", "title": "", "text": "twin"},
    ]
    assert [p["docid"] for p in first["negative_passages"]] == ["i3", "i4", "i2"]
    # As its trainers join them: what a tower reads.
    joined = [f"{p['title']} {p['text']}".strip() for p in first["positive_passages"]]
    assert joined == ["thing 0 Acme", "thing 1", "twin"]


def test_the_reader_of_tevatron(shards: list[pl.DataFrame], tmp_path: Path) -> None:
    preprocessor = pytest.importorskip("tevatron.datasets.preprocessor")
    from transformers import AutoTokenizer

    from tiny_towers import MODEL

    exported(shards, tmp_path / "out", "tevatron")
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    rows = loaded(tmp_path / "out", "json", tmp_path / "cache")
    read = preprocessor.TrainPreProcessor(tokenizer)(rows[0])
    assert tokenizer.decode(read["positives"][0]) == "thing 0 acme"
    assert (len(read["positives"]), len(read["negatives"])) == (3, 3)


def test_scores_for_flagembedding(shards: list[pl.DataFrame], tmp_path: Path) -> None:
    assert exported(shards, tmp_path / "out", "flagembedding")["rows"] == 2
    rows = loaded(tmp_path / "out", "json", tmp_path / "cache")
    texts, scores = List(Value("string")), List(Value("float64"))
    assert rows.features == Features(
        query=Value("string"), pos=texts, pos_scores=scores, neg=texts, neg_scores=scores
    )
    assert rows[0]["pos"] == ["thing 0 Acme", "thing 1", "twin"]
    assert rows[0]["pos_scores"] == [4.0, 3.25, 3.0]
    assert rows[0]["neg"] == ["thing 3", "thing 4", "thing 2"]
    assert rows[0]["neg_scores"] == [0.0, 0.75, 0.0]


def test_the_reader_of_flagembedding(shards: list[pl.DataFrame], tmp_path: Path) -> None:
    dataset = pytest.importorskip(
        "FlagEmbedding.abc.finetune.embedder.AbsDataset", exc_type=ImportError
    )
    exported(shards, tmp_path / "out", "flagembedding")
    arguments = SimpleNamespace(
        train_data=[str(tmp_path / "out")],
        shuffle_ratio=0,
        max_example_num_per_dataset=100,
        cache_path=str(tmp_path / "cache"),
        knowledge_distillation=True,
        train_group_size=3,
        query_instruction_for_retrieval=None,
        passage_instruction_for_retrieval=None,
    )
    query, passages, scores = dataset.AbsEmbedderTrainDataset(arguments, None)[1]
    assert (query, passages[0], scores[0]) == ("ü", "thing 0 Acme", 3.5)
    assert set(passages[1:]) == {"thing 5"}


@pytest.mark.parametrize("name", EXAMPLE_FORMATS)
def test_shards_make_the_file_that_the_whole_makes(
    shards: list[pl.DataFrame], examples: pl.DataFrame, tmp_path: Path, name: str
) -> None:
    given = {"cut": shards, "one": [examples]}
    counts = [exported(g, tmp_path / place, name, negatives=2) for place, g in given.items()]
    assert counts[0] == counts[1]
    cut, one = ((tmp_path / folder / FILES[name]) for folder in ("cut", "one"))
    if name == "sentence-transformers":
        assert pl.read_parquet(cut).equals(pl.read_parquet(one))
    else:
        assert cut.read_bytes() == one.read_bytes()
        assert all(json.loads(line) for line in cut.read_text(encoding="utf-8").splitlines())


def test_nothing_to_write_is_an_error_that_leaves_nothing(
    shards: list[pl.DataFrame], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="5 positives with fewer than 9 negatives"):
        exported(shards, tmp_path / "out", "sentence-transformers", negatives=9)
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays_unless_asked(shards: list[pl.DataFrame], tmp_path: Path) -> None:
    exported(shards, tmp_path / "out", "tevatron")
    with pytest.raises(WorkspaceError, match="something that exists"):
        exported(shards, tmp_path / "out", "flagembedding")
    assert "query_id" in (tmp_path / "out/train.jsonl").read_text()
    exported(shards, tmp_path / "out", "flagembedding", overwrite=True)
    assert "query_id" not in (tmp_path / "out/train.jsonl").read_text()


def test_the_function_of_the_api(examples: pl.DataFrame, tmp_path: Path) -> None:
    template = ["{title}", "by {brand}"]
    counts = trivium.export_examples(
        examples.to_pandas(),
        ITEMS.drop("text").to_pandas(),
        QUERIES.drop("text").to_pandas(),
        tmp_path / "out",
        format="flagembedding",
        item_text=template,
    )
    assert counts["rows"] == 2
    assert '"thing 0 by Acme"' in (tmp_path / "out/train.jsonl").read_text()
