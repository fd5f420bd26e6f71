"""The examples in the package's docstrings: each runs, in an empty folder, and answers what it says."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
API = {  # tests/api/test_examples.py runs them in one folder
    "selftrain.api.calls",
    "selftrain.api.learning",
    "selftrain.api.loading",
    "selftrain.learn.pretraining.representation",
}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


WITH_EXAMPLES = [
    name
    for path in sorted((ROOT / "selftrain").rglob("*.py"))
    if (name := name_of(path)) not in API and ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_of_a_module_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed  # what an example answered instead is printed
