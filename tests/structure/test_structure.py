"""The house rules that a machine can hold: import direction, no Python where it would be a trap, configs that parse."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINES = {"zenml", "mlflow", "dvc", "dvc_data", "great_expectations", "kubernetes"}
# Doors: they may call the adapters, and import them inside their commands only.
ENTRY_POINTS = sorted(
    [
        *(f"selftrain/api/{name}.py" for name in ("calls", "learning", "loading")),
        *(str(path.relative_to(ROOT)) for path in (ROOT / "selftrain" / "cli").rglob("[!_]*.py")),
    ]
)
# What Keras cannot say for all backends, these files ask TensorFlow itself, only where it computes: Keras spreads a
# training over devices under JAX only, and chooses no kernels.
# And a SavedModel is TensorFlow's own format; ONNX is called from inside its graph.
OF_TENSORFLOW = (
    *(f"selftrain/learn/networks/{name}.py" for name in ("devices", "depthwise", "fused_norm")),
    *(f"selftrain/learn/adoption/{name}.py" for name in ("saved_graph", "onnx_model")),
)
# They train, or draw: what they import is heavy.
HEAVY_ROOMS = (
    "selftrain.learn.",
    "selftrain.selflabel.detection.",
    "selftrain.selflabel.teaching.",
    "selftrain.report.",
    "selftrain.scaffold.",
)


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path, *, running_only: bool = False) -> set[str]:
    nodes = ast.parse(path.read_text()).body if running_only else list(ast.walk(ast.parse(path.read_text())))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def core() -> list[Path]:
    return [path for path in sources("selftrain") if path.relative_to(ROOT).parts[1] not in {"adapters", "api", "cli"}]


@pytest.mark.parametrize("path", core(), ids=relative)
def test_the_core_imports_no_engine_and_nothing_above_it(path: Path) -> None:
    for name in imported(path):
        assert name.split(".")[0] not in ENGINES | {"steps", "pipelines"}, f"{relative(path)} imports {name}"
        assert not name.startswith("selftrain.adapters"), f"{relative(path)} imports {name}"


@pytest.mark.parametrize("path", core(), ids=relative)
def test_the_core_is_backend_neutral(path: Path) -> None:
    allowed = {"tensorflow"} if relative(path) in OF_TENSORFLOW else set()
    assert not ({"tensorflow", "torch", "jax"} - allowed) & {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", sources("selftrain/adapters"), ids=relative)
def test_adapters_import_no_steps(path: Path) -> None:
    assert not {"steps", "pipelines"} & {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", sources("steps"), ids=relative)
def test_steps_are_thin(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.If | ast.For | ast.While | ast.Try), f"{relative(path)}:{node.lineno} decides"
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or 0) - node.body[1].lineno + 1  # without its docstring
            assert lines <= 15, f"{relative(path)}: {node.name} has {lines} lines"
    assert "pipelines" not in {name.split(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", sources("steps"), ids=relative)
def test_how_a_machine_works_is_in_no_key_of_a_cached_step(path: Path) -> None:
    text = path.read_text()
    if "machine: Machine" in text and "enable_cache=False" not in text:
        (ignored,) = re.findall(r"ignored_inputs=\[([^\]]*)\]", text)
        assert '"machine"' in ignored
        assert ('"dataset_version"' in ignored) == ("dataset_version: str" in text)


@pytest.mark.parametrize("path", ENTRY_POINTS)
def test_the_command_line_imports_adapters_inside_its_commands_only(path: str) -> None:
    names = imported(ROOT / path, running_only=True)
    assert not [name for name in names if name.startswith("selftrain.adapters")]


@pytest.mark.parametrize("folder", ["mlflow", "docker"])
def test_folders_named_like_packages_hold_no_python(folder: str) -> None:
    assert not list((ROOT / folder).rglob("*.py"))


def test_mlflow_is_the_library() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "import mlflow; print(mlflow.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.strip().endswith("site-packages/mlflow/__init__.py")


def test_importing_the_core_loads_nothing_heavy() -> None:
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in core() if path.name != "__init__.py"]
    light = [name for name in modules if not name.startswith(HEAVY_ROOMS)]
    heavy = "{'tensorflow', 'keras', 'keras_hub', 'matplotlib', 'zenml', 'mlflow', 'dvc', 'great_expectations'}"
    code = f"import sys, {', '.join(light)}\nprint(sorted({heavy} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_lock_holds_hashes_and_no_addresses() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "--hash=sha256:" in lock
    assert "http" + "://" not in lock
    assert "https" + "://" not in lock


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=relative)
def test_every_config_parses_and_its_header_says_command_hardware_and_result(path: Path) -> None:
    from selftrain.config.text.file import read_experiment

    read_experiment(path)
    header = path.read_text().split("parameters:")[0]
    for word in ("Command", "Hardware", "Expected"):
        assert word in header, f"{relative(path)} has no {word}"
