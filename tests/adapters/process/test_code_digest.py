"""Code digests: a changed line in a module behind a step changes that step's key, and no other's."""

import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from selftrain.adapters.process import code_digest
from selftrain.adapters.process.code_digest import ROOT, closure

STEPS = {
    "ingest": code_digest.ingest,
    "train": code_digest.train,
    "train_student": code_digest.train_student,
    "baseline": code_digest.baseline,
    "pseudo_label": code_digest.pseudo_label,
    "label_shard": code_digest.label_shard,
    "evaluate": code_digest.evaluate,
    "validate": code_digest.validate,
}
UNROLLED = {
    "start_loop": code_digest.start_loop,
    "next_round": code_digest.next_round,
    "control": code_digest.control,
    "baseline_of_loop": code_digest.baseline_of_loop,
}
TRAINED = {"train", "train_student", "baseline"}
MODELS = TRAINED | {"pseudo_label", "label_shard", "evaluate"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "selftrain", tmp_path / "selftrain", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def changed_by(tree: Path, module: str, of: Mapping[str, Callable[[Path], str]] = STEPS) -> set[str]:
    before = {name: key(tree) for name, key in of.items()}
    path = tree.joinpath(*module.split(".")).with_suffix(".py")
    path.write_text(path.read_text() + "\n# another line\n")
    return {name for name, key in of.items() if key(tree) != before[name]}


@pytest.mark.parametrize(
    ("module", "steps"),
    [
        ("selftrain.learn.augmentation.policy", TRAINED),
        ("selftrain.learn.training.run", TRAINED),
        ("selftrain.selflabel.selection.thresholds", {"pseudo_label", "label_shard", "train_student"}),
        ("selftrain.evaluate.statistics.significance", {"evaluate"}),
        ("selftrain.learn.models.predict", MODELS),
        ("selftrain.selflabel.teaching.task", MODELS),
        ("selftrain.selflabel.teaching.classification", MODELS),
        ("selftrain.selflabel.teaching.shard_groups", {"label_shard"}),
        ("selftrain.selflabel.teaching.baseline", {"baseline"}),
        ("selftrain.selflabel.rounds.plan", TRAINED),
        ("selftrain.selflabel.rounds.gate", set()),
        ("selftrain.selflabel.rounds.history", set()),
        ("selftrain.config.recipes", set()),  # its values are in the keys
        ("selftrain.data.splits.split", {"ingest"}),
        ("selftrain.data.manifest", MODELS | {"ingest", "validate"}),
    ],
)
def test_a_changed_line_changes_exactly_the_steps_behind_it(tree: Path, module: str, steps: set[str]) -> None:
    assert changed_by(tree, module) == steps


@pytest.mark.parametrize(
    ("module", "steps"),
    [
        ("selftrain.selflabel.rounds.gate", {"next_round"}),
        ("selftrain.selflabel.rounds.recipes", {"next_round", "control", "baseline_of_loop"}),
        ("selftrain.learn.training.run", {"next_round", "control", "baseline_of_loop"}),
        ("selftrain.evaluate.statistics.significance", {"start_loop", "next_round"}),
        ("selftrain.selflabel.selection.thresholds", {"start_loop", "next_round"}),
        ("selftrain.data.splits.split", set()),
        ("selftrain.report.charts", set()),
    ],
)
def test_a_step_of_the_unrolled_pipeline_is_keyed_by_all_that_it_does(tree: Path, module: str, steps: set[str]) -> None:
    assert changed_by(tree, module, UNROLLED) == steps


def test_imports_for_type_checking_only_do_not_count(tmp_path: Path) -> None:
    package = tmp_path / "selftrain"
    package.mkdir()
    (package / "a.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from selftrain import b\nfrom selftrain.c import d\n"
    )
    (package / "b.py").write_text("")
    (package / "c.py").write_text("d = 1\n")
    assert closure(["selftrain.a"], tmp_path) == {"selftrain.a", "selftrain.c"}


def test_each_step_has_its_own_key() -> None:
    training = {code_digest.train(), code_digest.train_student()}
    assert len(training | {code_digest.ingest(), code_digest.pseudo_label(), code_digest.evaluate()}) == 5


def test_every_module_that_the_task_reaches_is_in_a_key() -> None:
    """The seam's imports are not followed: a module that it begins to use must be named by a step's key."""
    seam = code_digest.source_of("selftrain.selflabel.teaching.classification").read_text()
    reached = set(re.findall(r"^        from (selftrain[.\w]+) import", seam, re.MULTILINE))
    assert reached == {
        f"selftrain.selflabel.teaching.{name}" for name in ("training", "baseline", "labeling", "scoring")
    }


def test_sources_are_parsed_by_one_thread_at_a_time() -> None:
    """Steps that start together ask for their digests in threads, and Python 3.11 cannot parse in two."""
    with ThreadPoolExecutor(1) as pool:
        with code_digest._ALONE:
            asked = pool.submit(code_digest.digest, ["selftrain.data.splits.split"])
            with pytest.raises(TimeoutError):
                asked.result(timeout=0.5)
        assert len(asked.result(timeout=60)) == 64
