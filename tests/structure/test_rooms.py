"""The rooms of the package: which may import which, and how many modules one holds."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("pipelines", "steps", "selftrain")
# Every room, from the doors to the ground. A module imports from its own room and from those below it, lazily or not;
# selftrain/__init__.py, the package's face, stands above all of them, and nothing imports it.
FLOORS = (
    "selftrain.cli",
    "selftrain.cli.production",
    "selftrain.cli.cluster",
    "selftrain.cli.shared",
    "pipelines",
    "steps",
    "selftrain.api",
    "selftrain.adapters.schedule",
    "selftrain.adapters.upkeep",
    "selftrain.adapters.doctor",
    "selftrain.adapters.lineage",
    "selftrain.adapters.review",
    "selftrain.adapters.report",
    "selftrain.adapters.snapshots",
    "selftrain.adapters.retraining",
    "selftrain.adapters.registry",
    "selftrain.adapters.serving.live",
    "selftrain.adapters.serving.detectors",
    "selftrain.adapters.serving",
    "selftrain.adapters.cluster",
    "selftrain.adapters.runs",
    "selftrain.adapters.tracking",
    "selftrain.adapters.expectations",
    "selftrain.adapters.notices",
    "selftrain.adapters.process",
    "selftrain.autolabeling.boxes",
    "selftrain.autolabeling.folders",
    "selftrain.autolabeling",
    "selftrain.reviewing",
    "selftrain.report.comparison",
    "selftrain.report.page",
    "selftrain.report.cards",
    "selftrain.report",
    "selftrain.retraining",
    "selftrain.retraining.drift",
    "selftrain.selflabel",
    "selftrain.selflabel.detection",
    "selftrain.selflabel.teaching",
    "selftrain.selflabel.rounds",
    "selftrain.selflabel.lineage",
    "selftrain.selflabel.graph",
    "selftrain.selflabel.selection",
    "selftrain.scaffold",
    "selftrain.learn.tuning",
    "selftrain.learn.distillation",
    "selftrain.learn.pretraining",
    "selftrain.learn.detection",
    "selftrain.learn.training",
    "selftrain.learn.augmentation",
    "selftrain.learn.heads",
    "selftrain.learn.adoption",
    "selftrain.learn.models",
    "selftrain.learn.networks",
    "selftrain.learn.foundation",
    "selftrain.learn.shapes",
    "selftrain.evaluate",
    "selftrain.evaluate.statistics",
    "selftrain.data.inputs",
    "selftrain.data.ingest",
    "selftrain.data.splits",
    "selftrain.data.store",
    "selftrain.data.sources",
    "selftrain.data.sources.objects",
    "selftrain.data.places",
    "selftrain.data.lists",
    "selftrain.data.annotations",
    "selftrain.data.images",
    "selftrain.data",
    "selftrain.config.text",
    "selftrain.config",
    "selftrain.files",
    "selftrain.ladder",
    "selftrain",  # errors, progress, naming, version
)
FACE = "selftrain"
MOST_MODULES = 12
CROWDED = ("steps",)  # all alike: a step a file


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))}


def floor_of(module: str) -> int:
    """How far down `module` stands: the place of the longest entry that it lies in."""
    return max(
        (len(entry), floor) for floor, entry in enumerate(FLOORS) if module == entry or module.startswith(f"{entry}.")
    )[1]


def folder_of(module: str) -> str:
    return ".".join(MODULES[module].parent.relative_to(ROOT).parts)


@cache
def imports_of(module: str) -> frozenset[str]:
    """Our modules that `module` imports: at once, inside a function, for types alone, or by its name in a call."""
    found = {target for name in _names(module) for target in _targets(name)}
    return frozenset(found - {module})


def _names(module: str) -> Iterator[str]:
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                above = package.rsplit(".", level - 1)[0] if level else ""
                base = ".".join(filter(None, (above, source)))
                yield from (f"{base}.{alias.name}" for alias in names)
            case ast.Constant(value=str(text)) if re.fullmatch(r"selftrain[.\w]+:\w+", text):  # run_tasks's address
                yield text.split(":")[0]
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(text)), *_]):
                yield text
            case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=str(text)), *_]):
                yield text


def _targets(name: str) -> Iterator[str]:
    """The module that `name` is, or is defined in."""
    if name in MODULES:
        yield name
    elif name.rpartition(".")[0] in MODULES:
        yield name.rpartition(".")[0]


@pytest.mark.parametrize("module", sorted(set(MODULES) - {FACE}))
def test_nothing_imports_upwards(module: str) -> None:
    above = [target for target in imports_of(module) if target == FACE or floor_of(target) < floor_of(module)]
    assert not above, f"{module} imports {above}, which stand above it"


def test_no_folders_import_each_other_in_a_circle() -> None:
    below: dict[str, set[str]] = {}
    for module in set(MODULES) - {FACE}:
        folders = {folder_of(target) for target in imports_of(module)}
        below.setdefault(folder_of(module), set()).update(folders - {folder_of(module)})
    while free := [folder for folder, others in below.items() if not others & below.keys()]:
        for folder in free:
            del below[folder]
    assert not below, f"in circles, or above one: {sorted(below)}"


@pytest.mark.parametrize("folder", sorted({folder_of(module) for module in MODULES} - set(CROWDED)))
def test_a_folder_holds_a_dozen_modules_at_most(folder: str) -> None:
    held = [module for module, path in MODULES.items() if folder_of(module) == folder and path.name != "__init__.py"]
    assert len(held) <= MOST_MODULES, f"{folder} holds {len(held)} modules: {held}"


def test_every_room_has_its_floor() -> None:
    rooms = {folder_of(module) for module, path in MODULES.items() if path.name != "__init__.py"}
    assert rooms == {entry for entry in FLOORS if entry not in MODULES or MODULES[entry].name == "__init__.py"}


def test_the_page_on_architecture_lists_the_rooms_in_their_order() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| layer \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    listed = [name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[2])]
    assert [name.split("/")[-1].removesuffix(".py") for name in listed] == [entry.split(".")[-1] for entry in FLOORS]


def test_a_room_holds_nothing_but_its_modules() -> None:
    """The code digests and the served model follow `__init__.py` files: what they held would be in every key."""
    faces = {"selftrain/__init__.py", "selftrain/config/__init__.py", "pipelines/__init__.py", "steps/__init__.py"}
    inits = [path for path in MODULES.values() if path.name == "__init__.py"]
    talking = {path.relative_to(ROOT).as_posix() for path in inits if len(ast.parse(path.read_text()).body) > 1}
    assert talking <= faces
