"""Where a model's files are, and a fingerprint of them.

A model is named in the configuration by a hub name (`microsoft/deberta-v3-base`), a folder, or
`package:NAME/FOLDER`, a folder inside an installed Python package. Where a decoder is asked for it
may be a GGUF file, outside or inside a package.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from trivium.foundation.errors import DependencyError

PACKAGE_PREFIX = "package:"
MODEL_SUFFIXES = frozenset({".json", ".safetensors", ".bin", ".gguf", ".txt", ".model"})
_CHUNK = 1 << 20


def resolve_model(name: str) -> str:
    """Turn a configured model name into what `from_pretrained` takes.

    Args:
        name: A hub name, a folder, `package:NAME/FOLDER`, or a GGUF file in place of a folder.

    Returns:
        The path of the folder or file, or the hub name unchanged.

    Raises:
        DependencyError: If the package is not installed or holds no such folder, or a path that
            cannot be a hub name leads nowhere.
    """
    if name.startswith(PACKAGE_PREFIX):
        return str(_package_folder(name))
    folder = Path(name).expanduser()
    if _holds_model(folder):
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
    if not _holds_model(folder):
        return name
    digest = hashlib.sha256()
    if folder.is_file():
        folder, files = folder.parent, [folder]
    else:
        files = [p for p in folder.rglob("*") if p.is_file() and p.suffix in MODEL_SUFFIXES]
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _holds_model(place: Path) -> bool:
    return place.is_dir() or (place.suffix == ".gguf" and place.is_file())


def _package_folder(name: str) -> Path:
    package, _, inside = name.removeprefix(PACKAGE_PREFIX).partition("/")
    install = f"pip install {package.replace('_', '-')}"
    roots = _package_roots(package)
    if not roots:
        raise DependencyError.of(
            name, got=f"no installed package '{package}'", expected="that package", fix=install
        )
    folder = Path(roots[0]) / inside
    if not _holds_model(folder):
        raise DependencyError.of(
            name,
            got=f"no folder '{inside}' in the package '{package}'",
            expected="package:NAME/FOLDER with a folder that holds a model",
            fix=f"correct the folder, or renew the package: {install} --upgrade",
        )
    return folder


def _package_roots(package: str) -> list[str]:
    """Folders of an installed package, found without importing it."""
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ValueError, ModuleNotFoundError):
        spec = None
    return list(spec.submodule_search_locations or []) if spec else []
