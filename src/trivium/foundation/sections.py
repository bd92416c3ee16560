"""What the sections of the configuration share: their base, and types of settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, Path)) else value


Paths = Annotated[list[Path], BeforeValidator(_as_list)]
Template = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0.0)]


class Section(BaseModel):
    """A section of the configuration: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NamedSection(Section):
    """An entry of a list of sections of several kinds, called by its kind if by nothing else."""

    taken: ClassVar[tuple[str, ...]] = ()
    """Names that tables use for something else."""

    kind: str
    name: str = ""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or raw.get("name"):
            return raw
        default = cls.model_fields["kind"].default
        return raw | {"name": raw.get("kind", default if isinstance(default, str) else "")}

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if not re.fullmatch(r"[a-z0-9]\w*", self.name) or self.name in self.taken:
            taken = " or ".join(map(repr, self.taken))
            raise ValueError(
                f"a name of small letters, digits and '_', not {taken}, not {self.name!r}"
            )
        return self


def tag_by_kind(built_in: Container[str]) -> Callable[[Any], str]:
    """What tells the sections of a list apart: their kind, or `plugin` if it is not built in."""

    def tag(raw: Any) -> str:
        kind = raw.get("kind") if isinstance(raw, dict) else getattr(raw, "kind", None)
        return str(kind) if kind in built_in else "plugin"

    return tag


class ColumnsConfig(Section):
    """Names of the project's columns mapped to the names in the user's files."""

    items: dict[str, str] = Field({}, description="such as {item_id = 'sku'}")
    queries: dict[str, str] = Field({}, description="such as {query = 'text'}")
    judgments: dict[str, str] = Field({}, description="such as {grade = 'label'}")


class CatalogConfig(Section):
    """Labels of another catalog, on the same scale of grades, which teach the judges."""

    items: Paths = Field(min_length=1, description="its catalog: item_id, title, further fields")
    queries: Paths = Field(min_length=1, description="query_id, query")
    judgments: Paths = Field(min_length=1, description="query_id, item_id, grade")
    columns: ColumnsConfig = ColumnsConfig()
    judge_query_text: Template = Field(["{query}"], description="what the judge reads")
    judge_item_text: Template = Field(["{title}"], description="what the judge reads")
