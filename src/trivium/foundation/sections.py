"""What the sections of the configuration share: their base, and types of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


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
