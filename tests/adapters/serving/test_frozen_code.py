"""The code that travels with a model: complete, of another name, and with the packages it needs pinned."""

import ast
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from selftrain.adapters.serving import frozen_code


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return frozen_code.write_package(tmp_path)[1]


def keras_file(folder: Path, config: str) -> Path:
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
    return path


def imported(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_nothing_in_the_copy_imports_the_package_it_was_copied_from(package: Path) -> None:
    names = {name for path in package.rglob("*.py") for name in imported(path)}
    assert not {name for name in names if name.split(".")[0] == "selftrain"}
    assert f"{package.name}.data.images.decode" in names


def test_every_module_the_copy_imports_from_itself_is_there(package: Path) -> None:
    names = {name for path in package.rglob("*.py") for name in imported(path) if name.startswith(package.name)}
    missing = [name for name in names if not package.parent.joinpath(*name.split(".")).with_suffix(".py").is_file()]
    assert missing == []


def test_the_copy_holds_no_pipeline_no_training_and_no_other_adapter(package: Path) -> None:
    there = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    assert not [path for path in there if path.startswith("learn/training/")]
    assert {path for path in there if path.startswith("adapters/")} == {
        "adapters/__init__.py",
        "adapters/serving/__init__.py",
        "adapters/serving/served.py",
    }


def test_the_copy_decodes_in_a_process_that_cannot_see_selftrain(package: Path, tmp_path: Path) -> None:
    script = (
        f"import sys, {package.name}.data.images.decode as d\n"
        "assert 'selftrain' not in sys.modules\n"
        "try: d.decode(b'', 8)\n"
        "except Exception as error: print(error.reason)\n"
    )
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(package.parent)!r})\n{script}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "zero_byte"


def test_the_copys_name_follows_from_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = frozen_code.write_package(tmp_path / "a")[1].name
    assert frozen_code.write_package(tmp_path / "b")[1].name == first
    assert frozen_code.write_package(tmp_path / "c", ("selftrain.errors",))[1].name != first


def test_requirements_are_pinned_as_installed_and_name_keras_hub_only_where_the_model_uses_it(tmp_path: Path) -> None:
    plain = frozen_code.requirements(keras_file(tmp_path, '{"module": "keras"}'))
    assert {f"{name}=={version(name)}" for name in ("keras", "numpy", "pillow", "pydantic", "mlflow")} <= set(plain)
    assert not [line for line in plain if line.startswith(("keras-hub", "selftrain", "zenml", "dvc"))]
    with_hub = frozen_code.requirements(keras_file(tmp_path, '{"module": "keras_hub.src.models"}'))
    assert {f"keras-hub=={version('keras-hub')}", f"tensorflow-text=={version('tensorflow-text')}"} <= set(with_hub)


def test_after_the_block_the_copy_is_importable_no_more(package: Path) -> None:
    before = list(sys.path)
    with frozen_code.importable(package):
        __import__(f"{package.name}.errors")
    assert sys.path == before
    assert not [name for name in sys.modules if name.startswith(package.name)]
