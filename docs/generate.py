"""Write docs/cli.md and docs/configuration.md from the code; `--check` only compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel

from trivium.cli.commands import app
from trivium.foundation.channel_config import BUILT_IN_CHANNELS
from trivium.foundation.config import Config
from trivium.foundation.judge_config import BUILT_IN
from trivium.foundation.sections import CatalogConfig
from trivium.foundation.tower_config import TowerConfig
from trivium.foundation.train_config import StageConfig

DOCS = Path(__file__).parent


def cli_page() -> str:
    """The reference of the commands."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = ["# Commands", "", "Written by `make docs` from the commands themselves.", ""]
    for name, command in commands.items():
        for words, leaf in _leaves(name, command):
            lines += _command(words, leaf)
    return "\n".join(lines).rstrip() + "\n"


def configuration_page() -> str:
    """The reference of the settings."""
    lines = [
        "# Configuration",
        "",
        "Written by `make docs` from the code. A `trivium.toml` has one section a stage; an",
        "unknown key is refused. `--set section.key=value` on the command line overrides the file.",
        "",
    ]
    entries = {
        "data": [("[[data.further]]", CatalogConfig)],
        "mine": [
            (f'[[mine.channels]] of kind "{kind}"', model)
            for kind, model in BUILT_IN_CHANNELS.items()
        ],
        "annotate": [
            (f'[[annotate.judges]] of kind "{kind}"', model) for kind, model in BUILT_IN.items()
        ],
        "train": [("[train.tower]", TowerConfig), ("[[train.stages]]", StageConfig)],
    }
    for name, field in Config.model_fields.items():
        lines += _section(f"[{name}]", field.annotation)
        for title, model in entries.get(name, []):
            lines += _section(title, model)
    return "\n".join(lines).rstrip() + "\n"


def _leaves(name: str, command: Any) -> list[tuple[str, Any]]:
    """A command, or those of a group."""
    if not hasattr(command, "commands"):
        return [(name, command)]
    return [(f"{name} {leaf}", each) for leaf, each in command.commands.items()]


def _command(name: str, command: Any) -> list[str]:
    lines = [f"## trivium {name}", "", (command.help or "").strip(), ""]
    lines += ["| option | what | default |", "|---|---|---|"]
    for parameter in command.params:
        if parameter.name in {"help", "debug"}:
            continue
        names = ", ".join(f"`{n}`" for n in parameter.opts) if parameter.opts else ""
        if parameter.param_type_name == "argument":
            names = f"`{(parameter.name or '').upper()}`"
        default = parameter.default
        shown = "" if default is None or default is False or callable(default) else f"`{default}`"
        lines.append(f"| {names} | {getattr(parameter, 'help', '') or ''} | {shown} |")
    return [*lines, "", (command.epilog or "").strip(), ""]


def _section(title: str, model: Any) -> list[str]:
    lines = [f"## {title}", "", (model.__doc__ or "").split("\n\n")[0].replace("\n", " "), ""]
    lines += ["| setting | default | what |", "|---|---|---|"]
    for key, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            lines.append(f"| `{key}` | | {(type(default).__doc__ or '').strip()} |")
            continue
        shown = "required" if field.is_required() else f"`{_plain(default)}`"
        lines.append(f"| `{key}` | {shown} | {field.description or ''} |")
    return [*lines, ""]


def _plain(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], BaseModel):
        return ", ".join(entry.name for entry in value)
    return json.dumps(value, default=str)


def main() -> None:
    """Write or compare the pages."""
    pages = {"cli.md": cli_page(), "configuration.md": configuration_page()}
    stale = [n for n, text in pages.items() if not _same(DOCS / n, text)]
    if "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(stale)}; run `make docs`" if stale else 0)
    for name in stale:
        (DOCS / name).write_text(pages[name], encoding="utf-8")


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    main()
