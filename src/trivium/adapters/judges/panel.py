"""The judges of a run: fitted one after another, kept in a folder each, wrapped by the store."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trivium.adapters.judges import load_judge
from trivium.adapters.judges.stored import StoredJudge
from trivium.adapters.ledger import Budget, Prices
from trivium.adapters.models import model_fingerprint
from trivium.adapters.store import Store
from trivium.foundation.console import say
from trivium.foundation.errors import WorkspaceError
from trivium.foundation.judge_config import BUILT_IN, PRICE_FIELDS, UNDECIDING, made_of
from trivium.foundation.workspace import fingerprint, fingerprint_table, read_json, write_json

Panel = Mapping[str, StoredJudge]
"""Fitted judges by name, in the order in which they are asked."""

_DONE, _CHECKPOINTS = "fitted.json", "checkpoints"
# Pairs asked at once: by so many a budget may be overrun.
_CHUNK_PAID, _CHUNK_FREE = 64, 2048


@dataclass(frozen=True)
class Desk:
    """Where a run's judges keep what they know.

    Attributes:
        folder: Holds a folder for each fitted judge, named for all that decided it.
        store: Where answers are kept; None = nowhere.
        run: The run that pays.
        budget: What it may spend.
    """

    folder: Path
    store: Store | None = None
    run: str = ""
    budget: Budget | None = None


@dataclass(frozen=True)
class Fitted:
    """Judges just fitted or read back.

    Attributes:
        panel: The judges.
        places: Folder of each inside the desk's.
    """

    panel: Panel
    places: Mapping[str, str]


def fit_panel(
    configs: Sequence[Any],
    pairs_for: Callable[[Any], pl.DataFrame],
    desk: Desk,
    *,
    seed: int,
) -> Fitted:
    """Fit the judges that are not fitted yet, in order.

    Args:
        configs: The entries under `[[annotate.judges]]`.
        pairs_for: The graded pairs that a judge learns from, given its entry: columns query_text,
            item_text and grade.
        desk: Where they are kept; a judge that was fitted to the same pairs with the same settings
            is read back, and a fit that was killed goes on.
        seed: Seed of all randomness.

    Raises:
        DependencyError: If a judge's model or endpoint is not there.
    """
    panel: dict[str, StoredJudge] = {}
    places: dict[str, str] = {}
    for config in configs:
        pairs = pairs_for(config).select("query_text", "item_text", "grade")
        places[config.name] = f"{config.name}-{_key(config, pairs, seed, panel)}"
        place = desk.folder / places[config.name]
        if read_json(place / _DONE) is None:
            say(f"  preparing the judge {config.name}, {len(pairs):,} graded pairs to learn from")
            _fit(config, pairs, place, panel, seed)
        panel[config.name] = _load(config, desk, place, panel)
    return Fitted(panel, places)


def load_panel(configs: Sequence[Any], places: Mapping[str, str], desk: Desk) -> Panel:
    """Read back judges.

    Args:
        configs: Their entries under `[[annotate.judges]]`.
        places: Folder of each judge inside the desk's, as `Fitted` names them.
        desk: Where they are kept.

    Raises:
        WorkspaceError: If one of them is not there any more.
    """
    panel: dict[str, StoredJudge] = {}
    for config in configs:
        panel[config.name] = _load(config, desk, desk.folder / places[config.name], panel)
    return panel


def _fit(config: Any, pairs: pl.DataFrame, place: Path, earlier: Panel, seed: int) -> None:
    checkpoints = place / _CHECKPOINTS
    checkpoints.mkdir(parents=True, exist_ok=True)
    grades = pairs["grade"].cast(pl.Int64).to_numpy()
    judge = load_judge(config.kind).fit(
        pairs, grades, config, seed=seed, folder=checkpoints, earlier=earlier
    )
    judge.save(place)
    shutil.rmtree(checkpoints)
    write_json(place / _DONE, {"identity": _identity(config, place, earlier)})


def _load(config: Any, desk: Desk, place: Path, earlier: Panel) -> StoredJudge:
    done = read_json(place / _DONE)
    if done is None:
        raise WorkspaceError.of(
            str(place),
            got="no fitted judge",
            expected=f"the judge {config.name}",
            fix="fit it again: trivium judge train RUN --overwrite",
        )
    return StoredJudge(
        load_judge(config.kind).load(place, config, earlier),
        name=config.name,
        identity=done["identity"],
        store=desk.store,
        run=desk.run,
        prices=Prices.of(config),
        budget=desk.budget,
        kind=config.kind,
        chunk=_CHUNK_PAID if any(getattr(config, p) for p in PRICE_FIELDS) else _CHUNK_FREE,
    )


def _key(config: Any, pairs: pl.DataFrame, seed: int, earlier: Panel) -> str:
    """A hash of all that decides a fitted judge."""
    parts: list[Any] = [
        config.model_dump(mode="json", exclude=UNDECIDING),
        fingerprint_table(pairs),
        seed,
        [earlier[name].identity for name in made_of(config)],
    ]
    model, prompt = getattr(config, "model", None), getattr(config, "prompt", None)
    ours = config.kind in BUILT_IN
    if ours and model and config.kind != "chat":
        parts.append(model_fingerprint(model))
    if ours and prompt:
        parts.append(fingerprint(prompt))
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:12]


def _identity(config: Any, folder: Path, earlier: Panel) -> str:
    """A hash of a judge's kind, of everything that it saved, and of the judges it is made of."""
    digest = hashlib.sha256(config.kind.encode())
    for name in made_of(config):
        digest.update(earlier[name].identity.encode())
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != _DONE):
        digest.update(f"\0{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
