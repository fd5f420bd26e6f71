"""selftrain.fit: the whole loop on arrays, folders and an Experiment, with trainings of a few steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import selftrain
from selftrain.api.fitting import FitResult, run_key, with_changes
from selftrain.config import Experiment, Fixed, TargetPrecision
from selftrain.data.ingest.ingest import ingest
from selftrain.data.inputs.opening import open_images
from selftrain.data.inputs.spool import spooled
from selftrain.data.store.image_store import ImageStore
from selftrain.errors import ConfigError, SourceError
from selftrain.files.workspace import Workspace
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.training.defaults import smoothing
from selftrain.selflabel.rounds.record import RunRecord
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

pytestmark = [
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

Pixels = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
SHORT = {"steps": 12, "validate_every": 6}
SETTINGS: dict[str, Any] = {
    "control": "supervised",
    "teacher": SHORT,
    "student": {**SHORT, "backbone": "efficientnet_b0_050"},
    "pseudo_label": {"threshold": Fixed(value=0.11)},
    "gate": {"target": 0.01, "max_rounds": 1},
}
TEACHER_ONLY = {**SETTINGS, "gate": {"target": 0.01, "min_rounds": 0, "max_rounds": 0}}


def digits() -> tuple[Pixels, Ints]:
    """300 scans uint8 (n, 8, 8) and their labels."""
    bunch = load_digits()
    return np.rint(bunch.images[:300] * (255 / 16)).astype(np.uint8), bunch.target[:300].astype(np.int64)


def arrays() -> dict[str, Any]:
    images, labels = digits()
    return {"labeled": (images[:150], labels[:150]), "unlabeled": images[150:]}


@pytest.fixture
def command(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """tests/conftest.py, selftrain: a name that the package has here."""
    run: Callable[..., Any] = request.getfixturevalue("selftrain")
    return run


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fit") / "workspace"


@pytest.fixture(scope="module")
def fitted(workspace: Path) -> FitResult:
    """One round on arrays."""
    return selftrain.fit(**arrays(), settings=SETTINGS, out=workspace.parent / "out", workspace=workspace)


@pytest.mark.keras
@pytest.mark.slow
def test_the_record_says_what_status_says(fitted: FitResult) -> None:
    record = fitted.record
    assert record.status == "completed"
    assert record.verdict == "passed"
    assert [each.index for each in record.rounds] == [0, 1]
    assert record.rounds[1].pool == 150
    assert record.rounds[1].accepted > 0
    assert record.rounds[1].threshold == "0.11"
    assert record.labels_used == 150
    assert record.test_accuracy is not None
    assert record.teacher_test_accuracy is not None
    assert record.test_interval is not None
    assert record.test_interval[0] <= record.test_accuracy <= record.test_interval[1]
    assert (record.control_test_accuracy is not None) == record.rounds[1].kept
    assert record.baseline_test_accuracy is not None
    trained = len({each.model_digest for each in record.rounds if each.kept})
    assert record.test_looks == trained + (record.control_test_accuracy is not None) + 1
    assert record.findings
    assert record.registered_version is None
    assert RunRecord.model_validate_json((fitted.out / "record.json").read_text()) == record


@pytest.mark.keras
@pytest.mark.slow
def test_out_holds_the_best_model_its_labels_and_its_settings(fitted: FitResult) -> None:
    names = {path.name for path in fitted.out.iterdir()}
    assert names == {"model", "record.json", "evaluation.json", "experiment.json", "pseudo_labels.parquet"}
    best = max(round_.index for round_ in fitted.record.rounds if round_.kept)
    assert SavedModel.read(fitted.model).digest == fitted.record.rounds[best].model_digest
    assert SavedModel.read(fitted.model).contract.class_names == tuple("0123456789")
    labels = PseudoLabels.read(fitted.out / "pseudo_labels.parquet")
    assert labels.accepted.num_rows == fitted.record.rounds[1].accepted
    settings = json.loads((fitted.out / "experiment.json").read_text())
    assert settings["teacher"]["steps"] == 12
    assert settings["teacher"]["augmentation"] == "digits"
    assert settings["pseudo_label"]["threshold"] == {"kind": "fixed", "value": 0.11}


@pytest.mark.keras
@pytest.mark.slow
def test_the_model_predicts_at_the_command_line(fitted: FitResult, command: Callable[..., Any], tmp_path: Path) -> None:
    Image.fromarray(digits()[0][7]).save(tmp_path / "seven.png")
    ended = command("predict", "--model", fitted.model, tmp_path / "seven.png", "--json")
    assert ended.code == 0, ended.err
    (row,) = json.loads(ended.out)
    assert set(row["probabilities"]) == set("0123456789")


@pytest.mark.keras
@pytest.mark.slow
def test_the_same_fit_again_trains_nothing_and_counts_no_further_look(fitted: FitResult, workspace: Path) -> None:
    again = selftrain.fit(**arrays(), settings=SETTINGS, out=workspace.parent / "again", workspace=workspace)
    assert again.record == fitted.record  # the seconds too: they are those of the first training


@pytest.mark.keras
@pytest.mark.slow
def test_a_killed_fit_goes_on_with_the_models_it_had(fitted: FitResult, workspace: Path, tmp_path: Path) -> None:
    """Other settings of the gate are another loop: its teacher is saved anew before the kill, and kept after it."""
    settings = {**SETTINGS, "gate": {"target": 0.02, "max_rounds": 1}}
    before = set(Workspace(workspace).models.glob("*/0"))

    def kill(done: int, total: int, note: str = "") -> None:
        if note.startswith("round 1, pseudo-labels"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        selftrain.fit(**arrays(), settings=settings, out=tmp_path / "out", workspace=workspace, progress=kill)
    assert not (tmp_path / "out").exists()
    (folder,) = set(Workspace(workspace).models.glob("*/0")) - before
    teacher = SavedModel.read(folder).digest
    again = selftrain.fit(**arrays(), settings=settings, out=tmp_path / "out", workspace=workspace)
    assert again.record.rounds[0].model_digest == teacher
    assert len(again.record.rounds) == 2


@pytest.mark.keras
@pytest.mark.slow
def test_a_guard_ends_the_loop_before_the_student(workspace: Path, tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "pseudo_label": {"threshold": Fixed(value=0.9999)},
        "guards": {"actions": {"acceptance": "stop"}},
        "gate": {"target": 1.0, "max_rounds": 1},
    }
    stopped = selftrain.fit(**arrays(), settings=settings, out=tmp_path / "out", workspace=workspace)
    assert [each.index for each in stopped.record.rounds] == [0]
    assert stopped.record.verdict == "stalled"
    assert stopped.record.alarms
    assert any("accept" in finding for finding in stopped.record.findings)
    assert PseudoLabels.read(stopped.out / "pseudo_labels.parquet").accepted.num_rows == 0


@pytest.mark.keras
@pytest.mark.slow
def test_a_student_that_diverges_costs_no_fit_its_teacher(workspace: Path, tmp_path: Path) -> None:
    settings = {**SETTINGS, "student": {**SETTINGS["student"], "learning_rate": 1e30, "warmup": 0.0}}
    lost = selftrain.fit(**arrays(), settings=settings, out=tmp_path / "out", workspace=workspace)
    teacher, student = lost.record.rounds
    assert (teacher.kept, student.kept) == (True, False)
    assert student.diverged is not None
    assert any("lower learning_rate" in finding and "step" in finding for finding in lost.record.findings)
    assert [(each.guard, each.action) for each in lost.record.alarms] == [("nan", "keep_teacher")]
    assert SavedModel.read(lost.model).digest == teacher.model_digest
    assert lost.record.test_accuracy == lost.record.teacher_test_accuracy
    again = selftrain.fit(**arrays(), settings=settings, out=tmp_path / "again", workspace=workspace)
    assert again.record.model_dump_json() == lost.record.model_dump_json()


@pytest.mark.keras
@pytest.mark.slow
def test_an_out_that_holds_anything_is_refused_before_any_work(fitted: FitResult, tmp_path: Path) -> None:
    before = sorted(fitted.out.rglob("*"))
    with pytest.raises(ConfigError, match="is not empty and was left as it is"):
        selftrain.fit(**arrays(), settings=SETTINGS, out=fitted.out, workspace=tmp_path / "other")
    assert sorted(fitted.out.rglob("*")) == before
    assert not (tmp_path / "other").exists()


@pytest.mark.keras
@pytest.mark.slow
def test_a_fitted_model_labels_more_images(fitted: FitResult, tmp_path: Path) -> None:
    images, labels = digits()
    large = np.stack([np.asarray(Image.fromarray(image).resize((32, 32)).convert("RGB")) for image in images])
    found = selftrain.autolabel(
        model=fitted.model,
        labeled=(large[:150], labels[:150]),
        unlabeled=large[150:],
        out=tmp_path / "out",
        threshold=TargetPrecision(target=0.5),
    )
    assert found.class_names == tuple("0123456789")
    assert found.outputs == "logits"


@pytest.mark.keras
@pytest.mark.slow
def test_an_ensemble_is_the_first_teacher_of_another_fit(workspace: Path, tmp_path: Path) -> None:
    learned = {"teacher": {"steps": 48, "validate_every": 24, "backbone": "wide_resnet_16_1"}}  # better than chance
    fitted = selftrain.fit(**arrays(), settings={**SETTINGS, **learned}, out=tmp_path / "fitted", workspace=workspace)
    both = selftrain.ensemble(models=[fitted.model, fitted.model], out=tmp_path / "both")
    settings = {**SETTINGS, "control": "none", "teacher": {"start": str(both.folder)}}
    again = selftrain.fit(**arrays(), settings=settings, out=tmp_path / "out", workspace=workspace)
    teacher, student = again.record.rounds
    assert teacher.model_digest == both.digest
    assert student.accepted > 0
    labels = PseudoLabels.read(again.out / "pseudo_labels.parquet")
    assert labels.teacher == both.contract.identity
    assert labels.lineage == both.contract.taught[:-1]


@pytest.mark.keras
@pytest.mark.slow
def test_folders_are_fitted_with_the_settings_that_init_chooses(tmp_path: Path) -> None:
    images, labels = digits()
    for row in range(300):
        name = Path("labeled", f"n{labels[row]}") if row < 200 else Path("unlabeled")
        path = tmp_path / "set" / name / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row]).resize((40, 40)).save(path)
    found = selftrain.fit(
        labeled=tmp_path / "set" / "labeled",
        unlabeled=tmp_path / "set" / "unlabeled",
        settings=TEACHER_ONLY,
        out=tmp_path / "out",
        workspace=tmp_path / "workspace",
    )
    assert found.record.name == "set"
    assert [each.index for each in found.record.rounds] == [0]
    assert found.record.rounds[0].pool == 100
    assert json.loads((found.out / "experiment.json").read_text())["source"]["labeled"].endswith("labeled")
    assert SavedModel.read(found.model).contract.image_size == 32


@pytest.mark.keras
@pytest.mark.slow
def test_an_experiment_brings_its_own_source(tmp_path: Path) -> None:
    e = Experiment(workspace=str(tmp_path / "workspace"))
    found = selftrain.fit(experiment=e, settings=TEACHER_ONLY, out=tmp_path / "out")
    assert found.record.name == "digits"
    assert found.record.labels_used == 650
    assert not (tmp_path / "out" / "pseudo_labels.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({}, ConfigError, "there is nothing to fit on; give labeled= and unlabeled="),
        ({**arrays(), "labeled": (np.zeros((0, 8, 8), np.uint8), [])}, SourceError, "labeled holds no image"),
        (
            {"labeled": "folder", "unlabeled": np.zeros((3, 8, 8))},
            SourceError,
            r"in folders \(labeled\) and others are not \(unlabeled\)",
        ),
        ({"labeled": "nowhere", "unlabeled": "neither"}, SourceError, "'nowhere' is not a folder"),
        ({**arrays(), "settings": {"gate": {"targt": 1}}}, ConfigError, "unknown key 'targt'"),
        (
            {
                "labeled": (load_digits().images[:150], load_digits().target[:150]),
                "unlabeled": load_digits().images[150:300],
            },
            SourceError,
            r"values reach from 0 to 16; allowed are 0-1 and 0-255.* divide all by the value of white \(16, if",
        ),
        ({"unlabeled": arrays()["unlabeled"]}, ConfigError, "unlabeled= without labeled=; give labeled="),
        (
            {"experiment": Experiment(), "validation": arrays()["labeled"], "test": "nowhere", "class_names": ["a"]},
            ConfigError,
            "validation=, test=, class_names= without labeled=.* leave validation=, test=, class_names= out",
        ),
        (
            {"labeled": "a", "unlabeled": "b", "class_names": ["a"]},
            ConfigError,
            "class_names= names labels that are num",
        ),
        ({**arrays(), "class_names": list("0123456788")}, ConfigError, r"class_names: '8' \(row 9\) is there twice"),
        ({**arrays(), "class_names": "0123456789"}, ConfigError, "give a list with a name for each number that labels"),
        ({**arrays(), "unlabeled": arrays()["labeled"][0]}, SourceError, "unlabeled: no image is left to learn from"),
        (
            {**arrays(), "test": (arrays()["unlabeled"], digits()[1][150:])},
            SourceError,
            "copies of labelled, validation or test images",
        ),
        ({**arrays(), "unlabeled": None}, SourceError, "no image; self-training needs unlabelled ones"),
        (
            {**arrays(), "labeled": (np.zeros((3, 8, 8), np.uint8), [0] * 3)},
            SourceError,
            "a classifier needs two or more",
        ),
    ],
)
def test_what_cannot_be_fitted_is_said_before_anything_is_trained(
    arguments: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        selftrain.fit(**arguments, out=tmp_path / "out", workspace=tmp_path / "workspace")
    assert not (tmp_path / "out").exists()


@pytest.mark.keras
@pytest.mark.slow
def test_integers_that_make_nearly_black_pictures_are_warned_of(workspace: Path, tmp_path: Path) -> None:
    images, labels = digits()
    dark = images // 15
    found = selftrain.fit(
        labeled=(dark[:150], labels[:150]),
        unlabeled=dark[150:],
        settings=TEACHER_ONLY,
        out=tmp_path / "out",
        workspace=workspace,
    )
    assert any("reach from 0 to 17 and were taken as 0-255" in warning for warning in found.record.warnings)


def test_settings_are_laid_over_section_by_section() -> None:
    e = Experiment()
    changed = with_changes(e, {"gate": {"target": 0.5}, "pseudo_label": {"threshold": TargetPrecision(target=0.9)}})
    assert changed.gate.target == 0.5
    assert changed.gate.max_rounds == e.gate.max_rounds
    assert changed.pseudo_label.threshold == TargetPrecision(target=0.9)
    assert with_changes(e, {}) is e
    assert with_changes(e, {"pseudo_label": {"threshold": {"value": 0.8}}}).pseudo_label.threshold == Fixed(value=0.8)
    # A method's own smoothing follows the method, there and back.
    in_training = with_changes(e, {"student": {"method": "fixmatch"}})
    assert (smoothing(e.student), smoothing(in_training.student)) == (0.1, 0.0)
    assert smoothing(with_changes(in_training, {"student": {"method": "noisy_student"}}).student) == 0.1


def test_the_key_of_a_loop_names_all_that_its_models_follow_from(colour_model: Path, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (80, 8, 8), np.uint8)
    weights = tmp_path / "own.weights.h5"
    weights.write_bytes(b"before")

    def key(changes: dict[str, Any], *, images: int = 80, teacher: SavedModel | None = None) -> str:
        e = with_changes(Experiment(), {"teacher": {"weights": str(weights)}, **changes})
        with spooled(tmp_path, None) as spool:
            given = open_images(
                (pictures[:images], np.arange(images) % 2),
                role="labeled",
                labeled=True,
                image_rank=None,
                image_size=None,
            )
            spool.add(given, role="labeled", split=None)
            store = ImageStore(tmp_path / f"store-{images}")
            return run_key(
                e, ingest(spool, spool.scan(), store, settings=e.ingest, splitting=e.splitting).manifest, teacher
            )

    first = key({})
    assert key({"title": "another", "workspace": "elsewhere", "machine": {"workers": 1}}) == first
    others = [
        key({"seed": 1}),
        key({"student": {"steps": 7}}),
        key({}, images=79),
        key({}, teacher=SavedModel.read(colour_model)),
    ]
    weights.write_bytes(b"after")
    others.append(key({}))
    assert len({first, *others}) == 6


def test_a_workspace_in_out_is_said_before_anything_is_written(tmp_path: Path) -> None:
    base = Experiment(workspace=str(tmp_path / "out" / "work"))
    inside: list[dict[str, Any]] = [
        {"workspace": tmp_path / "out" / "work"},
        {"workspace": tmp_path / "out"},
        {"workspace": tmp_path / "other", "experiment": base},
    ]
    for arguments in inside:
        with pytest.raises(ConfigError, match="lies in out="):
            selftrain.fit(**arrays(), **arguments, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())
    changed = {"workspace": str(tmp_path / "out" / "work")}
    with pytest.raises(ConfigError, match="lies in out="):
        selftrain.fit(**arrays(), settings=changed, workspace=tmp_path / "other", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_made_is_said_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "loop").symlink_to(tmp_path / "here" / "loop")
    (tmp_path / "file").write_text("mine")
    for out, said in [
        (tmp_path / "here" / "loop", "cannot create"),
        (tmp_path / "file" / "out", "file is not a folder"),
    ]:
        with pytest.raises(ConfigError, match=said):
            selftrain.fit(**arrays(), out=out, workspace=tmp_path / "work")
    (tmp_path / "here" / "loop").unlink()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConfigError, match="is the current folder"):
        selftrain.fit(**arrays(), out=".", workspace=tmp_path / "work")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "here"]


@pytest.mark.keras
@pytest.mark.slow
def test_a_link_to_an_empty_folder_is_filled_and_a_part_folder_of_the_users_is_left(tmp_path: Path) -> None:
    for name in ("empty", ".empty.part", ".link.part"):
        (tmp_path / name).mkdir()
    (tmp_path / ".empty.part" / "mine").write_text("mine")
    (tmp_path / ".link.part" / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    found = selftrain.fit(**arrays(), settings=TEACHER_ONLY, out=tmp_path / "link", workspace=tmp_path / "work")
    assert found.model == tmp_path / "link" / "model"
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "empty" / "record.json").is_file()
    names = [".empty.part", ".link.part", "empty", "link", "work"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert [(tmp_path / name / "mine").read_text() for name in names[:2]] == ["mine", "mine"]
