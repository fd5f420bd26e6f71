"""The recall log and what keeps to it: the registry's champions, and the models that runs start from."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

import selftrain
from selftrain.adapters.lineage.archive import Archive
from selftrain.adapters.lineage.recall import ConcernedVersion, RecallReport, concern_of, roll_back
from selftrain.adapters.registry import champions as p
from selftrain.adapters.registry import lineage_tags, recall_log
from selftrain.adapters.registry import versions as r
from selftrain.adapters.registry.starting_models import starting_teacher, teacher_backbone
from selftrain.adapters.tracking.store import Tracking, open_tracking
from selftrain.config import Experiment, Registry, Teacher, parse
from selftrain.errors import InputError, RegistryError, WithdrawnError
from selftrain.files.workspace import Workspace
from selftrain.learn.models.contract import CONTRACT_FILE, Contract, read_contract
from selftrain.selflabel.lineage.descent import Recall, Trust

# mlflow's SQL store leaves cursors to the garbage collector.
pytestmark = [pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")]

ALL = {1: "aa", 2: "bb", 3: "cc", 4: "dd"}  # what the identity of each version begins with


def identity(number: int) -> str:
    return ALL[number].ljust(64, "0")


def contract(number: int, *taught_by: int) -> Contract:
    return Contract(
        backbone="b",
        image_size=8,
        class_names=("cat", "dog"),
        weights_sha256=f"{number}".ljust(64, "f"),
        values_sha256=identity(number),
        lineage=tuple(identity(each) for each in taught_by),
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with the versions 1 to 4 of `m`: 1 taught 2, and so 3 too, which 2 taught; 4 is none of theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        workspace = tmp_path_factory.mktemp("registry")
        tracking = open_tracking(workspace, stack=lambda: None)
    tracking.client.create_registered_model("m")
    for number, taught_by in ((1, ()), (2, (1,)), (3, (1, 2)), (4, ())):
        made = contract(number, *taught_by)
        tags = {r.RUN_KEY: f"{number}", r.MODEL_DIGEST: made.weights_sha256, **lineage_tags.lineage_tags(made)}
        tracking.client.create_model_version("m", (workspace / f"{number}").as_uri(), tags=tags)
    return Workspace(workspace).mlflow_database


@pytest.fixture
def store(database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    place = Workspace(tmp_path / "workspace").ensure()
    shutil.copy(database, place.mlflow_database)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place.mlflow_database}")
    return open_tracking(place.root, stack=lambda: None)


def recall(store: Tracking, number: int, action: Literal["withdraw", "restore"] = "withdraw") -> Recall:
    line = Recall(
        number=0, when="", who="ada", action=action, identity=identity(number), called=f"models:/m/{number}", why="bad"
    )
    return recall_log.append(store, line)


def crown(store: Tracking, *numbers: int) -> None:
    for number in numbers:
        p.promote(store, "m", number, who="ada", why="by hand", force=True)


def champion(store: Tracking) -> int | None:
    found = r.champion(store, "m")
    return found.number if found is not None else None


class WritesElsewhere:
    """A client whose store fails between a question and a tag."""

    def __init__(self, read: Tracking, written: Tracking) -> None:
        self.get_experiment = read.client.get_experiment
        self.set_experiment_tag = written.client.set_experiment_tag


def test_the_log_grows_in_the_tracking_store_and_numbers_its_lines(store: Tracking) -> None:
    assert recall_log.read_log(store) == []
    lines = [recall(store, 1), recall(store, 4), recall(store, 1, "restore")]
    assert recall_log.read_log(store) == lines
    assert [each.number for each in lines] == [1, 2, 3]
    assert [each.identity for each in recall_log.recalled(store).in_force] == [identity(4)]


def test_a_store_that_fails_after_it_was_opened_is_an_error_that_names_it(
    store: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = "http://127.0.0.1:9"
    down = Tracking(MlflowClient(tracking_uri=gone), gone, store.experiment, store.experiment_id, store.leases)
    with pytest.raises(RegistryError, match=f"{gone} does not answer"):
        recall_log.read_log(down)
    with pytest.raises(RegistryError, match=f"{gone} does not answer"):
        recall(Tracking(WritesElsewhere(store, down), gone, store.experiment, store.experiment_id, store.leases), 1)


def test_a_log_without_a_line_is_not_opened(store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Workspace(tmp_path / "workspace").mlflow_database
    assert not recall_log.may_hold_lines(database)
    assert not recall_log.may_hold_lines(database.with_name("none.db"))
    recall(store, 1)
    assert recall_log.may_hold_lines(database)
    database.with_name("other.db").touch()
    assert recall_log.may_hold_lines(database.with_name("other.db")), "MLflow has to say what is in it"


def test_versions_carry_their_lineage_however_long_it_is() -> None:
    lineage = tuple(f"{number:064x}" for number in range(2500))
    made = contract(1).model_copy(update={"lineage": lineage})
    tags = lineage_tags.lineage_tags(made)
    assert max(map(len, tags.values())) <= 100_000
    found = lineage_tags.descent(tags, made.weights_sha256)
    assert found.lineage == lineage
    assert found.names == {made.identity, made.weights_sha256}
    assert lineage_tags.descent({}, "").names == frozenset()


def test_whom_a_recall_taints_is_known_from_the_registry_alone(store: Tracking) -> None:
    recall(store, 1)
    recalled = recall_log.recalled(store)
    trust = [recalled.trust(version.descent) for version in r.versions(store, "m")]
    assert trust == [Trust.WITHDRAWN, Trust.TAINTED, Trust.TAINTED, Trust.TRUSTED]


@pytest.mark.parametrize(("number", "said"), [(1, "models:/m/1 is withdrawn"), (3, "models:/m/3 is tainted")])
def test_nothing_recalled_is_promoted_even_by_force_until_the_recall_is_taken_back(
    store: Tracking, number: int, said: str
) -> None:
    crown(store, 4)
    recall(store, 1)
    with pytest.raises(WithdrawnError, match=said):
        crown(store, number)
    assert champion(store) == 4
    recall(store, 1, "restore")
    crown(store, number)
    assert champion(store) == number


def test_a_rollback_passes_over_champions_that_were_recalled(store: Tracking) -> None:
    crown(store, 4, 1, 2, 3)
    recall(store, 1)
    assert p.rollback(store, "m", who="ada").number == 4
    assert [(each.action, each.previous, each.to) for each in p.history(store, "m")][-1] == ("rollback", 3, 4)
    with pytest.raises(RegistryError, match="version 4 is the first champion"):
        p.rollback(store, "m", who="ada")


def test_a_rollback_with_recalled_champions_only_is_refused_and_says_what_to_do(store: Tracking) -> None:
    crown(store, 1, 2, 4)
    recall(store, 1)
    with pytest.raises(WithdrawnError, match=r"models:/m/2 is tainted.*promote another version"):
        p.rollback(store, "m", who="ada")
    assert champion(store) == 4


def test_every_champion_that_a_recall_concerns_is_rolled_back_or_named(store: Tracking, tmp_path: Path) -> None:
    store.client.create_registered_model("alone")
    made = contract(2, 1)
    tags = {r.RUN_KEY: "2", r.MODEL_DIGEST: made.weights_sha256, **lineage_tags.lineage_tags(made)}
    store.client.create_model_version("alone", tmp_path.as_uri(), tags=tags)
    p.promote(store, "alone", 1, who="ada", why="by hand", force=True)
    crown(store, 4, 3)
    concerned = [version for version in r.all_versions(store) if r.CHAMPION in version.aliases]
    assert [version.uri for version in concerned] == ["models:/alone/1", "models:/m/3"]
    versions = [ConcernedVersion(name=v.name, uri=v.uri, trust=Trust.TAINTED, aliases=v.aliases) for v in concerned]
    report = RecallReport(recall=recall(store, 1), new=True, rounds=(), versions=tuple(versions))
    with pytest.raises(RegistryError, match=r"'alone'.*models:/m/4 is the champion of 'm' again"):
        roll_back(report, workspace=tmp_path / "workspace")
    assert champion(store) == 4
    assert r.champion(store, "alone") is not None


def test_a_rollback_cut_short_is_not_carried_out_to_a_version_that_was_recalled_since(store: Tracking) -> None:
    crown(store, 4, 2, 3)
    line = p.Change(number=4, when="2026-11-21", who="ada", action="rollback", previous=3, to=2, why="asked for")
    store.client.set_registered_model_tag("m", f"{p.LOG_TAG}000004.cut", line.model_dump_json())
    recall(store, 2)
    assert p.rollback(store, "m", who="ada").number == 4
    moves = [(each.action, each.previous, each.to) for each in p.history(store, "m")]
    assert moves[-3:] == [("rollback", 3, 2), ("promote", 2, 3), ("rollback", 3, 4)]


def test_a_champion_that_was_recalled_is_no_teacher_to_start_from(store: Tracking, tmp_path: Path) -> None:
    crown(store, 3)
    recall(store, 2)
    e = parse({"workspace": str(tmp_path / "workspace"), "teacher": {"start": "champion"}, "name": "m"})
    with pytest.raises(WithdrawnError, match=r"teacher\.start is 'champion', and models:/m/3 is tainted"):
        teacher_backbone(e, Workspace(tmp_path / "workspace"))


def saved(folder: Path, made: Contract) -> Path:
    """The folder of a saved model, as far as it is read before a run begins: its contract."""
    folder.mkdir()
    (folder / CONTRACT_FILE).write_text(made.model_dump_json())
    return folder


def starting_from(start: Path, workspace: Path) -> Experiment:
    student = {"backbone": "efficientnet_b0_050"}
    return parse({"workspace": str(workspace), "teacher": {"start": str(start)}, "student": student})


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (contract(1), "is withdrawn"),
        (contract(1).model_copy(update={"weights_sha256": "saved anew"}), "is withdrawn"),
        (contract(4, 1), "is tainted"),
        (contract(4, 3), "is tainted"),  # by whom 3 was taught, the registry alone knows
    ],
    ids=["itself", "its twin", "its student", "its student's student"],
)
def test_a_run_starts_from_no_folder_of_a_recalled_model(
    store: Tracking, tmp_path: Path, made: Contract, said: str
) -> None:
    recall(store, 1)
    e = starting_from(saved(tmp_path / "saved", made), tmp_path / "workspace")
    with pytest.raises(WithdrawnError, match=rf"teacher\.start is '.*saved', and the model there {said}") as caught:
        teacher_backbone(e, Workspace(tmp_path / "workspace"))
    assert "to 'train' or to another model's folder" in caught.value.message


def test_a_run_starts_from_the_folder_of_a_model_that_no_recall_concerns(store: Tracking, tmp_path: Path) -> None:
    recall(store, 1)
    e = starting_from(saved(tmp_path / "saved", contract(4)), tmp_path / "workspace")
    teacher_backbone(e, Workspace(tmp_path / "workspace"))


def test_a_fit_starts_from_no_folder_of_a_recalled_model(store: Tracking, tmp_path: Path) -> None:
    recall(store, 1)
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    with pytest.raises(WithdrawnError, match=r"saved', and the model there is tainted: it was taught by models:/m/1"):
        selftrain.fit(
            labeled=(images[:10], np.arange(10) % 2),
            unlabeled=images[10:],
            settings={"teacher": {"start": str(saved(tmp_path / "saved", contract(4, 1)))}},
            out=tmp_path / "out",
            workspace=tmp_path / "workspace",
        )
    assert not (tmp_path / "out").exists()


def test_a_recalled_model_is_distilled_into_none(store: Tracking, tmp_path: Path) -> None:
    recall(store, 1)
    with pytest.raises(WithdrawnError, match=r"saved is withdrawn .*; nothing is taught by it: name another model"):
        selftrain.distill(
            teacher=saved(tmp_path / "saved", contract(1)),
            images=np.zeros((3, 8, 8, 3), np.uint8),
            out=tmp_path / "out",
            workspace=tmp_path / "workspace",
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.keras
# Keras 3.15 converts TensorFlow variables with numpy's older protocol.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_recalled_models_file_without_its_contract_is_known_by_its_weights(
    store: Tracking, tmp_path: Path, colour_model: Path
) -> None:
    made = read_contract(colour_model)
    recall_log.append(store, recall(store, 1).model_copy(update={"identity": made.identity}))
    own = Path(shutil.copy(colour_model / "model.keras", tmp_path / "own.keras"))
    with pytest.raises(WithdrawnError, match=r"own\.keras', and the model there is withdrawn"):
        starting_teacher(
            Teacher(start=str(own)),
            workspace=Workspace(tmp_path / "workspace"),
            settings=Registry(),
            class_names=made.class_names,
            image_size=made.image_size,
        )


def test_a_recalled_models_file_without_its_contract_is_known_by_its_digest(store: Tracking, tmp_path: Path) -> None:
    own = tmp_path / "own.keras"
    own.write_bytes(b"a file that need not be loaded to be known")
    file = hashlib.sha256(own.read_bytes()).hexdigest()
    recall_log.append(store, recall(store, 1).model_copy(update={"file": file}))
    e = starting_from(own, tmp_path / "workspace")
    with pytest.raises(WithdrawnError, match=r"own\.keras', and the model there is withdrawn"):
        teacher_backbone(e, Workspace(tmp_path / "workspace"))


def test_without_a_workspace_no_log_is_asked_and_none_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    code = (
        "import sys\nfrom pathlib import Path\nfrom selftrain.adapters.registry.recall_log import known_log\n"
        "Path('used').mkdir()\n"
        "print(known_log(Path('gone')), known_log(Path('used')), {'zenml', 'mlflow'} & sys.modules.keys())"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "None None set()"
    assert [path.name for path in tmp_path.iterdir()] == ["used"]


def test_a_model_of_a_run_is_refused_by_itself_by_its_twin_and_by_its_teachers(store: Tracking) -> None:
    recall(store, 1)
    twin = contract(1).model_copy(update={"weights_sha256": "saved anew"})
    for refused in (contract(1), twin, contract(4, 1), contract(4, 3)):
        with pytest.raises(WithdrawnError, match="Change what it learns from"):
            recall_log.refuse(store, refused)
    recall_log.refuse(store, contract(4))


def test_the_alarm_of_a_champion_says_how_to_get_rid_of_it(store: Tracking) -> None:
    crown(store, 3)
    assert recall_log.alarm(store, r.champion(store, "m")) == ""
    recall(store, 1)
    assert "the champion models:/m/3 is tainted" in recall_log.alarm(store, r.champion(store, "m"))
    assert "selftrain rollback" in recall_log.alarm(store, r.champion(store, "m"))
    assert recall_log.alarm(store, None) == ""


def test_what_became_of_a_runs_model_is_said_also_where_the_registry_cannot_be_asked(
    store: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert concern_of(None, tmp_path) is None
    assert concern_of("models:/m/3", tmp_path) is None
    recall(store, 1)
    assert "models:/m/3 is tainted" in (concern_of("models:/m/3", tmp_path) or "")
    assert concern_of("models:/m/9", tmp_path) is None  # it was deleted
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = concern_of("models:/m/3", tmp_path) or ""
    unknown = "it is not known whether models:/m/3 was withdrawn since"
    assert said.startswith(f"{unknown}: the MLflow store at http://127.0.0.1")


def test_a_store_that_is_no_database_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    place = Workspace(tmp_path / "workspace").ensure()
    place.mlflow_database.write_text("no database\n" * 100)
    with pytest.raises(RegistryError, match=rf"{place.mlflow_database} cannot be used \(file is not a database\)"):
        open_tracking(place.root, stack=lambda: None)
    assert recall_log.may_hold_lines(place.mlflow_database)  # so that MLflow's store is opened, and says so


def test_who_taught_whom_is_not_asked_of_the_registry_once_every_recall_is_taken_back(store: Tracking) -> None:
    recall(store, 1)
    assert recall_log.recalled(store).teachers
    recall(store, 1, "restore")
    assert not recall_log.recalled(store).teachers


def test_lines_about_a_model_are_those_that_concern_a_version_of_it(store: Tracking) -> None:
    store.client.create_registered_model("other")
    recall(store, 4)
    recall(store, 4, "restore")
    assert [each.action for each in recall_log.lines_about(store, "m")] == ["withdraw", "restore"]
    assert recall_log.lines_about(store, "other") == []


@pytest.fixture
def archive(store: Tracking) -> Archive:
    """What the registry alone knows."""
    return Archive((), (), tuple(r.all_versions(store)), ())


@pytest.mark.parametrize("named", ["2", "models:/m/2", identity(2), identity(2)[:8], "2fffffff"])
def test_a_teacher_is_named_by_version_address_or_the_beginning_of_a_digest(
    archive: Archive, tmp_path: Path, named: str
) -> None:
    found = archive.teacher(named, workspace=tmp_path / "workspace", model_name=None)
    assert (found.identity, found.called) == (identity(2), "models:/m/2")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("9", "no version 9; there are: 1, 2, 3, 4"),
        ("abc", "does not name a model"),
        ("12345678", "no model known here"),
        ("e" * 64, "no model known here"),
        ("models:/m/x", "not a model address"),
    ],
)
def test_what_names_no_teacher_is_wrong_input(archive: Archive, tmp_path: Path, named: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        archive.teacher(named, workspace=tmp_path / "workspace", model_name=None)


def test_the_beginning_of_several_digests_is_ambiguous(store: Tracking, tmp_path: Path) -> None:
    tags = {lineage_tags.IDENTITY: f"{identity(1)[:8]}{'9' * 56}", r.MODEL_DIGEST: "0" * 64}
    store.client.create_model_version("m", tmp_path.as_uri(), tags=tags)
    archive = Archive((), (), tuple(r.all_versions(store)), ())
    with pytest.raises(InputError, match="2 models have digests that begin with aa000000: aa0000000000, aa0000009999"):
        archive.teacher("aa000000", workspace=tmp_path / "workspace", model_name=None)


def test_a_version_that_others_registered_does_not_say_which_model_it_is(store: Tracking, tmp_path: Path) -> None:
    store.client.create_model_version("m", tmp_path.as_uri())
    archive = Archive((), (), tuple(r.all_versions(store)), ())
    with pytest.raises(RegistryError, match="models:/m/5 was not registered by selftrain"):
        archive.teacher("5", workspace=tmp_path / "workspace", model_name=None)
