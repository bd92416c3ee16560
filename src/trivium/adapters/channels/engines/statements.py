"""The SQL of the channels of PostgreSQL."""

from __future__ import annotations

import re
from pathlib import Path

from trivium.foundation.engine_config import PgvectorConfig, PostgresConfig
from trivium.foundation.errors import ConfigError, TriviumError

_DISTANCES = {
    "cosine": ("<=>", "1 - ({distance})"),
    "inner_product": ("<#>", "-({distance})"),
    "l2": ("<->", "-({distance})"),
}
_TEXT_QUERIES = {
    "all": "plainto_tsquery(%(language)s::regconfig, %(query)s)",
    # The stems of the query, each quoted as both types write them.
    "any": "replace(strip(to_tsvector(%(language)s::regconfig, %(query)s))::text, ''' ''',"
    " ''' | ''')::tsquery",
}
_PLACEHOLDER = re.compile(r"%(?:%|\((\w+)\)s|(.?))", re.DOTALL)


def full_text(settings: PostgresConfig) -> str:
    """The statement of a full text search, ranked by ts_rank with its defaults."""
    item_id = f"({quoted(settings.id_column)})::text"
    texts = [f"coalesce({quoted(name)}, '')" for name in settings.text_columns]
    made = f"to_tsvector(%(language)s::regconfig, {' || chr(32) || '.join(texts)})"
    vector = quoted(settings.stored_column) if settings.stored_column else made
    return f"""
        SELECT {item_id} AS item_id, ts_rank({vector}, asked) AS score
        FROM {_table(settings.table)}, CAST({_TEXT_QUERIES[settings.match]} AS tsquery) AS asked
        WHERE {vector} @@ asked
        ORDER BY score DESC, {item_id} COLLATE "C" LIMIT %(k)s
    """


def nearest(settings: PgvectorConfig) -> str:
    """The statement of a search for the nearest vectors."""
    operator, score = _DISTANCES[settings.distance]
    item_id, vector = f"({quoted(settings.id_column)})::text", quoted(settings.vector_column)
    distance = f"{vector} {operator} %(vector)s"
    return f"""
        SELECT {item_id} AS item_id, {score.format(distance=distance)} AS score
        FROM {_table(settings.table)} WHERE {vector} IS NOT NULL
        ORDER BY {distance}, {item_id} COLLATE "C" LIMIT %(k)s
    """


def read_sql(path: Path, required: set[str], channel: str) -> str:
    """Read a statement of the user's.

    Args:
        path: The file.
        required: Parameters that it must name.
        channel: For errors.

    Raises:
        ConfigError: If it cannot be read, lacks a parameter, names another, or has a single %.
    """
    try:
        statement = path.read_text(encoding="utf-8").strip().rstrip(";")
    except (OSError, UnicodeDecodeError) as error:
        raise _faulty(channel, path, required, f"a file that cannot be read: {error}") from None
    found = [match for match in _PLACEHOLDER.finditer(statement) if match[0] != "%%"]
    if alone := [match for match in found if match[1] is None]:
        raise _faulty(channel, path, required, f"a single % in {alone[0][0]!r}")
    names = {match[1] for match in found}
    wrong = [f"no %({name})s" for name in sorted(required - names)]
    wrong += [f"unknown %({name})s" for name in sorted(names - required - {"query"})]
    if wrong:
        raise _faulty(channel, path, required, ", ".join(wrong))
    return statement


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever it holds.

    Example:
        >>> quoted('The "best" 5%')
        '"The ""best"" 5%%"'
    """
    doubled = name.replace('"', '""').replace("%", "%%")
    return f'"{doubled}"'


def _table(name: str) -> str:
    return ".".join(quoted(part) for part in name.split("."))


def _faulty(channel: str, path: Path, required: set[str], got: str) -> TriviumError:
    named = " and ".join(f"%({name})s" for name in sorted(required))
    return ConfigError.of(
        f"{channel}: {path}",
        got=got,
        expected=f"a statement with {named}, which gives item_id and score; other % doubled",
        fix="correct the statement",
    )
