"""The docstrings of the API: every parameter is listed, and every example runs and answers what it says."""

from __future__ import annotations

import doctest
import inspect
import shutil
from pathlib import Path

import pytest

from selftrain import ensemble
from selftrain.api import calls, detection, learning, loading
from selftrain.learn.pretraining import representation

pytestmark = [
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

MODULES = (calls, detection, learning, loading, representation)
EXAMPLES = {
    test.name.rpartition(".")[2]: test
    for module in MODULES
    for test in doctest.DocTestFinder().find(module)
    if test.examples
}
CALLS = {
    name: call
    for module in MODULES
    for name, call in vars(module).items()
    if inspect.isfunction(call) and call.__module__ == module.__name__ and not name.startswith("_")
} | {"ensemble": ensemble}
OTHERS = [name for name in CALLS if name not in ("autolabel", "ensemble")]
KERAS = ("load_from", "distill", "learn_augmentation", "learn_optimization", "learn_representation")
MARKS = {name: [pytest.mark.keras] for name in KERAS} | {"fit": [pytest.mark.keras, pytest.mark.slow]}


def run(name: str) -> doctest.TestResults:
    """How the example of a call ended; what it answered instead is printed."""
    return doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(EXAMPLES[name])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the example of `autolabel` was run: others load what it left there."""
    place = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert not run("autolabel").failed
    return place


def test_the_example_of_autolabel_runs(folder: Path) -> None:
    assert (folder / "labels" / "analysis.json").is_file()


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, [])) for name in OTHERS])
def test_the_example_of_another_call_runs(
    name: str, folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "distill":
        shutil.copytree(request.getfixturevalue("colour_model"), folder / "colours")
    monkeypatch.chdir(folder)
    result = run(name)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("name", CALLS)
def test_a_docstring_lists_every_parameter_what_is_returned_and_what_is_raised(name: str) -> None:
    text = inspect.getdoc(CALLS[name]) or ""
    assert len(text.partition("\n")[0]) <= 120
    arguments = text.partition("\nArgs:\n")[2].partition("\nReturns:\n")[0]
    listed = "\n".join(line.partition(": ")[0] for line in arguments.splitlines() if line.startswith("  - "))
    for parameter in inspect.signature(CALLS[name]).parameters:
        assert f"`{parameter}`" in listed
    assert "\nReturns:\n" in text
    assert "\nRaises:\n" in text
