"""What the settings of every channel have, whatever its kind."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from trivium.foundation.sections import Section

Role = Literal["lexical", "dense"]

_TAKEN = ("all", "none")  # what tables call the pairs that every channel found, or none did


class ChannelSection(Section):
    """What every channel has."""

    role: ClassVar[Role | None] = None
    """What channels of this kind are, unless mine.lexical or mine.dense say otherwise."""

    kind: str = Field(description="an entry point of the group trivium.channels")
    name: str = Field("", description="of its columns rank_<name>, score_<name>; else its kind")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get("name"):
            return raw
        default = cls.model_fields["kind"].default
        return raw | {"name": raw.get("kind", default if isinstance(default, str) else "")}

    @model_validator(mode="after")
    def _usable(self) -> ChannelSection:
        if not re.fullmatch(r"[a-z0-9]\w*", self.name) or self.name in _TAKEN:
            taken = " or ".join(map(repr, _TAKEN))
            raise ValueError(
                f"a name of small letters, digits and '_', not {taken}, not {self.name!r}"
            )
        return self
