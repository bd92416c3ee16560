"""What goes wrong with PostgreSQL: what may pass, and what must be mended."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from trivium.adapters.channels.engines.asking import Trouble
from trivium.adapters.channels.engines.web import refused
from trivium.adapters.credentials import Secrets

if TYPE_CHECKING:
    from psycopg import Error

NO_CONNECTION_STRING = "set it to postgresql://USER:PASSWORD@HOST:PORT/DATABASE"

# Classes of SQLSTATE: connections, conflicts, resources, operators, the system itself.
_PASSING = {"08", "40", "53", "55", "57", "58"}
_LET_IN = "correct the connection string in the environment"
_MEND = {
    "28": _LET_IN,
    "3D": _LET_IN,
    "42P01": "correct the setting `table`, or the statement",
    "42703": "correct the settings of the columns, or the statement",
    "42704": "correct the setting `language`, or the statement",
    "42501": "let the user of the connection string read the table",
    "42": "correct the settings of table and columns, or the statement",
    "22": "correct the statement, or the column: do its vectors come from the channel's `model`?",
}
# Errors of connecting have no SQLSTATE.
_SHUT = re.compile(r"password|authenticat|pg_hba|does not exist|permission denied")


def failure(where: str, error: Error, secrets: Secrets) -> Exception:
    """What an error means: a `Trouble`, or an error to raise.

    Args:
        where: The channel and the database.
        error: What psycopg raised.
        secrets: What must not be shown of its text.
    """
    said = secrets.hide(str(error))
    state = error.sqlstate
    if state is None and not _SHUT.search(str(error)):
        return Trouble("no connection", said)
    if state is None:
        return refused(where, got=said, fix=_LET_IN)
    if state == "57014":
        return Trouble("timeout")
    if state[:2] in _PASSING:
        return Trouble(f"SQLSTATE {state}", said)
    fix = _MEND.get(state) or _MEND.get(state[:2], "correct the statement")
    return refused(where, got=f"SQLSTATE {state}: {said}", fix=fix)
