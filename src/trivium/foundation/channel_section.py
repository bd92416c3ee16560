"""What the settings of every channel have, whatever its kind."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from trivium.foundation.sections import NamedSection

Role = Literal["lexical", "dense"]


class ChannelSection(NamedSection):
    """What every channel has."""

    taken: ClassVar = ("all", "none")  # the pairs that every channel found, or none did

    role: ClassVar[Role | None] = None
    """What channels of this kind are, unless mine.lexical or mine.dense say otherwise."""

    kind: str = Field(description="an entry point of the group trivium.channels")
    name: str = Field("", description="of its columns rank_<name>, score_<name>; else its kind")
