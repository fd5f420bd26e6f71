"""Code digests: what ZenML's cache must know of the core code behind a step.

ZenML keys a step by its own source only. Each function here is a step's `cache_func`. It gives a sha256 over the
sources of the core modules that the step calls, followed through their imports.
"""

from __future__ import annotations

import ast
import hashlib
import re
import threading
from pathlib import Path

from selftrain.config import EXPECTATIONS, OBJECT_EXPECTATIONS

PACKAGE = "selftrain"
ROOT = Path(__file__).resolve().parents[3]
# These change no result. The values of a configuration are in a step's key already, as its parameters.
WITHOUT_EFFECT = re.compile(r"selftrain(\.errors|\.progress|\.naming|\.version|\.config(\..*)?)?")

# A task's own modules lie behind this seam. Each step's key names those that the step reaches through it.
TASKS = ("selftrain.selflabel.teaching.task", "selftrain.selflabel.teaching.classification")
PLAN = "selftrain.selflabel.rounds.plan"  # its values are a step's inputs; its properties are code
RESULTS = "selftrain.selflabel.rounds.results"
DATASET = "selftrain.data.store.dataset"


_ALONE = threading.Lock()  # Python 3.11 may raise SystemError where two threads parse at once (gh-106905)


def digest(modules: list[str], root: Path = ROOT, *, alone: tuple[str, ...] = ()) -> str:
    """sha256 (hex) over the sources of `modules` and every selftrain module they import, however deep.

    The imports of the modules `alone` are not followed: they only choose among modules that `modules` names.

    >>> digest(["selftrain.data.splits.split"]) == digest(["selftrain.data.splits.split"])
    True
    """
    total = hashlib.sha256()
    for name in sorted({*closure(modules, root), *alone}):
        total.update(name.encode())
        total.update(hashlib.sha256(source_of(name, root).read_bytes()).digest())
    return total.hexdigest()


def closure(modules: list[str], root: Path = ROOT) -> set[str]:
    """`modules` and all selftrain modules behind their imports, except modules WITHOUT_EFFECT and type checking."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen or WITHOUT_EFFECT.fullmatch(name):
            continue
        seen.add(name)
        waiting.extend(_imports(source_of(name, root), root))
    return seen


def source_of(module: str, root: Path = ROOT) -> Path:
    """The file of `module`, a package's `__init__.py` if it is one; it need not exist."""
    path = root.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imports(source: Path, root: Path) -> list[str]:
    names: list[str] = []
    with _ALONE:
        tree = ast.parse(source.read_text())
    for node in _running(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    ours = [name for name in names if name.split(".")[0] == PACKAGE]
    return [name for name in ours if source_of(name, root).is_file()]


def _running(tree: ast.AST) -> list[ast.AST]:
    """Every node except those under `if TYPE_CHECKING:`."""
    nodes: list[ast.AST] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            waiting.extend(node.orelse)
            continue
        nodes.append(node)
        waiting.extend(ast.iter_child_nodes(node))
    return nodes


def ingest(root: Path = ROOT) -> str:
    """Key of the ingest step."""
    return digest(["selftrain.data.ingest.ingest", "selftrain.data.ingest.report", DATASET], root)


def validate(root: Path = ROOT) -> str:
    """Key of the validate step. It covers the default severities, which only the configuration's code holds."""
    code = digest(["selftrain.adapters.expectations.validate", DATASET], root)
    return hashlib.sha256(f"{code} {sorted(EXPECTATIONS.items())}".encode()).hexdigest()


def validate_objects(root: Path = ROOT) -> str:
    """Key of the validate step of a detector's run."""
    code = digest(["selftrain.adapters.expectations.objects", DATASET], root)
    known = sorted({**EXPECTATIONS, **OBJECT_EXPECTATIONS}.items())
    return hashlib.sha256(f"{code} {known}".encode()).hexdigest()


def train(root: Path = ROOT) -> str:
    """Key of the teacher's training step, and of all trainings' checkpoints."""
    return digest(["selftrain.selflabel.teaching.training", DATASET], root, alone=(*TASKS, PLAN))


def train_student(root: Path = ROOT) -> str:
    """Key of the student's training step, which applies the pseudo-labels too."""
    modules = ["selftrain.selflabel.teaching.training", "selftrain.selflabel.selection.pseudo_labels", DATASET]
    return digest(modules, root, alone=(*TASKS, PLAN))


def pseudo_label(root: Path = ROOT) -> str:
    """Key of the pseudo-labelling step."""
    return digest(["selftrain.selflabel.teaching.labeling", DATASET], root, alone=TASKS)


def label_shard(root: Path = ROOT) -> str:
    """Key of the steps that label a group of shards, and join the answers of all groups."""
    modules = ["selftrain.selflabel.teaching.labeling", "selftrain.selflabel.teaching.shard_groups", DATASET]
    return digest(modules, root, alone=TASKS)


def evaluate(root: Path = ROOT) -> str:
    """Key of the steps that score a model on validation or test."""
    return digest(["selftrain.selflabel.teaching.scoring", DATASET], root, alone=TASKS)


def start_loop(root: Path = ROOT) -> str:
    """Key of the step that makes round 0 of the first teacher, in a pipeline that is unrolled."""
    return digest([RESULTS, "selftrain.selflabel.teaching.scoring", DATASET], root, alone=TASKS)


def next_round(root: Path = ROOT) -> str:
    """Key of a whole round in one step, in a pipeline that is unrolled."""
    work = [f"selftrain.selflabel.teaching.{name}" for name in ("labeling", "training", "scoring")]
    return digest(["selftrain.selflabel.rounds.next_round", *work, DATASET], root, alone=TASKS)


def baseline(root: Path = ROOT) -> str:
    """Key of the step that fits the baseline."""
    return digest(["selftrain.selflabel.teaching.baseline", DATASET], root, alone=(*TASKS, PLAN))


def control(root: Path = ROOT) -> str:
    """Key of the step that plans and trains the control, in a pipeline that is unrolled."""
    return digest([PLAN, "selftrain.selflabel.teaching.training", DATASET], root, alone=TASKS)


def baseline_of_loop(root: Path = ROOT) -> str:
    """Key of the step that plans and fits the baseline, in a pipeline that is unrolled."""
    return digest([PLAN, "selftrain.selflabel.teaching.baseline", DATASET], root, alone=TASKS)


def detection(root: Path = ROOT) -> str:
    """Key of the steps that train, teach and judge detectors."""
    return digest(["selftrain.selflabel.detection.work", DATASET], root)


def everything() -> str:
    """Digest of the whole package, part of a run's key."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / PACKAGE).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    return digest(names)
