"""Frozen code: the modules that a served model needs, copied with it as a package of another name.

MLflow puts a model's code first on `sys.path`. A copy called `selftrain` would hide the installed package, or be hidden
by it. Two versions could not be loaded side by side. So the copy is named by its content.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from selftrain.adapters.process import code_digest
from selftrain.version import __version__

CLASSIFIER = "served.ServedModel"
DETECTOR = "served_detector.ServedDetector"
"""What is served: a module of this room, and its class."""
GROUND = ("selftrain.errors", "selftrain.progress", "selftrain.naming", "selftrain.version", "selftrain.ladder")
SETTINGS = "selftrain.config"
ENTRY = """\
from mlflow.models import set_model

from {package}.adapters.serving.{module} import {name}

set_model({name}())
"""
IMPORT = re.compile(r"^(\s*(?:from|import)\s+)selftrain(?=[\s.])", re.MULTILINE)
OF_KERAS_HUB = ("keras-hub", "tensorflow-text")


def write_package(into: Path, ground: Sequence[str] = GROUND, *, served: str = CLASSIFIER) -> tuple[Path, Path]:
    """Write the package of what is `served` and its entry file below `into`; returns (entry file, package folder).

    `ground` are modules that every copy holds, besides those that the served model imports.
    """
    sources = _sources(ground, served)
    text = "".join(f"{name}\n{source}" for name, source in sorted(sources.items()))
    package = f"selftrain_{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    folder = into / "code" / package
    for name, source in sources.items():
        path = folder / code_digest.source_of(name).relative_to(code_digest.ROOT / code_digest.PACKAGE)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(IMPORT.sub(rf"\g<1>{package}", source))
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        if not (inner / "__init__.py").exists():
            (inner / "__init__.py").write_text(f'__version__ = "{__version__}"\n')
    entry = into / "served_model.py"
    module, name = served.split(".")
    entry.write_text(ENTRY.format(package=package, module=module, name=name))
    return entry, folder


def _sources(ground: Sequence[str] = GROUND, served: str = CLASSIFIER) -> dict[str, str]:
    """Source text of every selftrain module that the served model needs, by module name."""
    settings = {f"{SETTINGS}.{path.stem}" for path in code_digest.source_of(SETTINGS).parent.glob("[!_]*.py")}
    names = code_digest.closure([f"selftrain.adapters.serving.{served.split('.')[0]}"]) | {*ground, SETTINGS} | settings
    paths = {name: code_digest.source_of(name) for name in names}
    return {name: path.read_text() for name, path in paths.items() if path.is_file()}


@contextmanager
def importable(package: Path) -> Iterator[None]:
    """Make `package` importable while the block runs; afterwards `sys.path` and `sys.modules` lack it again."""
    sys.path.insert(0, str(package.parent))
    try:
        yield
    finally:
        sys.path.remove(str(package.parent))
        for name in [name for name in sys.modules if name.split(".")[0] == package.name]:
            del sys.modules[name]


def requirements(model_file: Path, *, served: str = CLASSIFIER) -> list[str]:
    """The pinned distributions that serving `model_file` (a `.keras`) needs, as installed here."""
    modules = {"keras", os.environ.get("KERAS_BACKEND", "tensorflow")}
    modules.update(name for source in _sources(served=served).values() for name in _imported_at_once(source))
    by_module = importlib.metadata.packages_distributions()
    owners = {module: by_module[module] for module in modules if module in by_module}
    wanted = {module if module in names else names[0] for module, names in owners.items()}
    if _uses_keras_hub(model_file):
        wanted.update(OF_KERAS_HUB)
    wanted.discard("selftrain")  # a copy of it travels with the model
    installed = {name.lower().replace("_", "-"): importlib.metadata.version(name) for name in wanted}
    return [f"{name}=={version}" for name, version in sorted(installed.items())]


def _uses_keras_hub(model_file: Path) -> bool:
    with zipfile.ZipFile(model_file) as archive:
        return b"keras_hub" in archive.read("config.json")


def _imported_at_once(source: str) -> list[str]:
    """Top-level packages that a module imports when it is imported itself."""
    names: list[str] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return [name.split(".")[0] for name in names]
