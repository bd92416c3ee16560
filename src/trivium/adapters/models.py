"""Where a model's files are, and a fingerprint of them.

A model is named in the configuration by a hub name (`microsoft/deberta-v3-base`), a folder, or
`package:NAME/FOLDER`, a folder inside an installed Python package.
"""

from __future__ import annotations

import hashlib
import importlib.resources
from pathlib import Path

from trivium.foundation.errors import DependencyError

PACKAGE_PREFIX = "package:"
MODEL_SUFFIXES = frozenset({".json", ".safetensors", ".bin", ".gguf", ".txt", ".model"})
_CHUNK = 1 << 20


def resolve_model(name: str) -> str:
    """Turn a configured model name into what `from_pretrained` takes.

    Args:
        name: A hub name, a folder, or `package:NAME/FOLDER`.

    Returns:
        The folder's path, or the hub name unchanged.

    Raises:
        DependencyError: If the package is not installed or holds no such folder, or a path that
            cannot be a hub name leads nowhere.
    """
    if name.startswith(PACKAGE_PREFIX):
        return str(_package_folder(name))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder.absolute())
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DependencyError.of(
            name, got="no such folder", expected="a folder with a model", fix="correct the path"
        )
    return name


def model_fingerprint(name: str) -> str:
    """Identify a model's content: SHA-256 over the names and bytes of its files.

    Args:
        name: A model as `resolve_model` takes it.

    Returns:
        The hexadecimal digest for a local folder, the name itself for a hub model.

    Raises:
        DependencyError: As `resolve_model`.
    """
    folder = Path(resolve_model(name))
    if not folder.is_dir():
        return name
    digest = hashlib.sha256()
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix in MODEL_SUFFIXES]
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _package_folder(name: str) -> Path:
    package, _, inside = name.removeprefix(PACKAGE_PREFIX).partition("/")
    install = f"pip install {package.replace('_', '-')}"
    try:
        folder = Path(str(importlib.resources.files(package))) / inside
    except (ModuleNotFoundError, TypeError, ValueError):
        raise DependencyError.of(
            name, got=f"no installed package '{package}'", expected="that package", fix=install
        ) from None
    if not folder.is_dir():
        raise DependencyError.of(
            name,
            got=f"no folder '{inside}' in the package '{package}'",
            expected="package:NAME/FOLDER with a folder that holds a model",
            fix=f"correct the folder, or renew the package: {install} --upgrade",
        )
    return folder
