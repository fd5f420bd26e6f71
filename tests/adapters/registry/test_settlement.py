"""Settlement: what becomes of a passed run's model, on a real registry and a data set of real files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from selftrain.adapters.registry import champions, recall_log, registration, settlement, versions
from selftrain.adapters.tracking.evaluations import TrackedEvaluations
from selftrain.adapters.tracking.recording import FinishedRun, RunFacts, record_run
from selftrain.adapters.tracking.store import Tracking, open_tracking
from selftrain.config import Experiment, FolderSource, Ingest, Machine, Place, Registry, ServingLimits, Splitting
from selftrain.data.ingest.ingest import IngestResult, ingest
from selftrain.data.ingest.report import report_ingested
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.errors import WithdrawnError
from selftrain.evaluate.evaluation import EvaluationReport
from selftrain.files.workspace import Workspace
from selftrain.learn.models.contract import SavedModel
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save
from selftrain.report.validation import ValidationReport
from selftrain.selflabel.lineage.descent import Recall
from selftrain.selflabel.rounds.history import History, Round, Verdict
from selftrain.selflabel.rounds.outcome import Outcome
from selftrain.selflabel.rounds.record import Registration, RunRecord
from selftrain.selflabel.teaching import scoring
from selftrain.selflabel.teaching.evaluation_count import count_evaluations
from selftrain.selflabel.teaching.task import TaskData

pytestmark = [
    pytest.mark.keras,
    # mlflow's SQL store leaves cursors to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # mlflow's own modules set it off while they are imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

Paint = Callable[..., Path]
SURE = Registry(model_name="colours", trial_images=0)  # without the seconds of a trial
MACHINE = Machine(workers=1)


@dataclass(frozen=True)
class Colours:
    """Painted images as a data set of a workspace, and a registry of its own."""

    experiment: Experiment
    ingested: IngestResult
    tracking: Tracking

    @property
    def manifest(self) -> Manifest:
        return self.ingested.manifest

    @property
    def place(self) -> Place:
        return self.experiment.place

    def read(self, model: SavedModel) -> EvaluationReport:
        """The report on `model` as its own first teacher."""
        images = TaskData(self.manifest, open_dataset(self.place, MACHINE))
        return scoring.evaluate_on_test(self.manifest, model, model, pixels_at=images.pixels_for)

    def ended(self, model: SavedModel) -> Outcome:
        """A loop that passed with its first teacher, `model`."""
        teacher = Round(
            index=0,
            backbone="by_hand",
            labeled=1,
            validation_accuracy=1,
            validation_metric=1,
            seconds=1,
            model_digest=model.digest,
        )
        return Outcome(history=History().with_round(teacher), verdict=Verdict.PASSED, explanation="")

    def settle(self, model: SavedModel, key: str, settings: Registry = SURE) -> Registration:
        """What `register_and_promote` does with a run that passed with `model`."""
        return settlement.register_and_promote(
            settlement.Candidate(self.manifest, model, self.read(model), self.ended(model)),
            settlement.RunKeys(run_id=key, run_key=key, dataset_version="v"),
            settlement.OpenStores(open_dataset(self.place, MACHINE), self.tracking, settings),
        )

    def count(self, models: tuple[SavedModel | None, ...], run_id: str) -> int:
        """How many test-set evaluations there were, once `models` are counted."""
        return count_evaluations(TrackedEvaluations(self.tracking, run_id), self.manifest, models)

    def record(self, model: SavedModel, registration: Registration, key: str) -> RunRecord:
        """The record of the run `key`, whose model was settled."""
        validation = ValidationReport(
            manifest_digest=self.manifest.digest,
            images=1,
            unlabeled=0,
            quarantine_share=0,
            passed=True,
            warnings=(),
            results=(),
            page="validation/none.html",
        )
        ingested = report_ingested(self.ingested, Path("quarantine.csv"))
        facts = RunFacts(ingested=ingested, validation=validation, dataset_version="v")
        run = FinishedRun(key, self.manifest, facts, self.ended(model), self.read(model), registration)
        return record_run(self.tracking, self.experiment, run)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of an empty store; making one takes MLflow seconds, so each test gets a copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        workspace = Workspace(tmp_path_factory.mktemp("empty"))
        open_tracking(workspace.root, stack=lambda: None)
        return workspace.mlflow_database


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paint: Paint, empty_store: Path) -> Colours:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for index, colour in enumerate(("blue", "green", "red")):
        for number in range(12):
            paint(tmp_path / "labeled" / colour / f"{number}.png", colour, seed=100 * index + number)
    source = open_source(FolderSource(labeled="labeled"))
    experiment = Experiment(name="colours", workspace="workspace")
    store = open_dataset(experiment.place).store
    done = ingest(source, source.scan(), store, settings=Ingest(), splitting=Splitting(test=0.5), workers=1)
    return Colours(experiment, done, open_tracking(open_dataset(experiment.place).workspace.root))


@pytest.fixture
def good(colour_model: Path) -> SavedModel:
    return SavedModel.read(colour_model)


@pytest.fixture
def bad(colour_model: Path, tmp_path: Path) -> SavedModel:
    """A model that takes blue for red, and red for blue."""
    model, contract = load(colour_model)
    head = model.get_layer("logits")
    kernel, bias = head.get_weights()
    head.set_weights([kernel[:, ::-1], bias])
    return save(model, contract, tmp_path / "bad")


def test_a_champion_that_a_run_finds_again_is_said_to_be_this_very_model(colours: Colours, good: SavedModel) -> None:
    first = colours.settle(good, "one")
    assert (first.registered_version, first.champion_version, first.promoted) == (1, 1, True)
    colours.record(good, first, "one")
    again = colours.settle(good, "one")
    assert (again.registered_version, again.champion_version, again.promoted) == (1, 1, False)
    assert again.reason == "the champion is this very model"
    assert len(champions.history(colours.tracking, "colours")) == 1


def test_a_run_killed_after_its_promotion_is_finished_and_recorded_as_promoted(
    colours: Colours, good: SavedModel
) -> None:
    first = colours.settle(good, "one")
    colours.tracking.client.set_registered_model_alias("colours", versions.CHALLENGER, "1")  # killed between aliases
    again = colours.settle(good, "one")
    assert again == first
    assert versions.challenger(colours.tracking, "colours") is None
    assert len(champions.history(colours.tracking, "colours")) == 1
    by_hand = SURE.model_copy(update={"auto_promote": False})
    assert not colours.settle(good, "one", by_hand).promoted
    assert colours.record(good, again, "two").promoted
    assert not colours.settle(good, "one").promoted


def test_what_could_be_champion_and_is_not_says_how_it_becomes_it(
    colours: Colours, good: SavedModel, bad: SavedModel
) -> None:
    by_hand = SURE.model_copy(update={"auto_promote": False, "floors": {"accuracy": 0.1}})
    waiting = colours.settle(bad, "one", by_hand)
    assert (waiting.champion_version, waiting.promoted) == (None, False)
    assert "auto_promote is off; `selftrain promote 1` makes it champion" in waiting.reason
    champions.promote(colours.tracking, "colours", 1, who="ada")
    better = colours.settle(good, "two")
    assert (better.registered_version, better.champion_version) == (2, 2)
    champions.rollback(colours.tracking, "colours", who="ada")
    again = colours.settle(good, "two")
    assert (again.champion_version, again.promoted) == (1, False)
    assert again.reason.startswith("it was champion before and was replaced; `selftrain promote 2`")
    champion = versions.champion(colours.tracking, "colours")
    assert champion is not None
    assert champion.number == 1


def recall(tracking: Tracking, identity: str) -> None:
    line = Recall(number=0, when="", who="ada", action="withdraw", identity=identity, called="it", why="wrong labels")
    recall_log.append(tracking, line)


def test_a_model_that_was_withdrawn_or_taught_by_one_that_was_is_not_registered(
    colours: Colours, good: SavedModel, tmp_path: Path
) -> None:
    model, contract = load(good.folder)
    student = save(model, contract.model_copy(update={"lineage": ("teacher",), "seed": 5}), tmp_path / "student")
    recall(colours.tracking, "teacher")
    with pytest.raises(WithdrawnError, match="was taught by it"):
        colours.settle(student, "student")
    assert colours.settle(good, "good").registered_version == 1
    recall(colours.tracking, good.contract.identity)
    with pytest.raises(WithdrawnError, match="wrong labels"):
        colours.settle(good, "again")
    assert [each.number for each in versions.versions(colours.tracking, "colours")] == [1]


def test_a_version_carries_the_lineage_of_its_model(colours: Colours, good: SavedModel, tmp_path: Path) -> None:
    model, contract = load(good.folder)
    student = save(model, contract.model_copy(update={"lineage": ("one", "two")}), tmp_path / "student")
    colours.settle(student, "student")
    (version,) = versions.versions(colours.tracking, "colours")
    assert version.descent.lineage == ("one", "two")
    assert version.identity == student.contract.identity


def test_a_champion_that_was_recalled_is_said_to_be_in_the_record_of_each_run(
    colours: Colours, good: SavedModel, bad: SavedModel
) -> None:
    loose = SURE.model_copy(update={"floors": {"accuracy": 0.1}})
    assert colours.settle(good, "one", loose).promoted
    recall(colours.tracking, good.contract.identity)
    settled = colours.settle(bad, "two", loose)
    assert (settled.registered_version, settled.champion_version, settled.promoted) == (2, 1, False)
    assert "the champion models:/colours/1 is withdrawn" in settled.reason
    assert "selftrain rollback" in settled.reason


def test_a_record_says_all_test_set_evaluations_its_own_runs_and_the_champions_included(
    colours: Colours, good: SavedModel, bad: SavedModel
) -> None:
    loose = SURE.model_copy(update={"floors": {"accuracy": 0.1}})
    assert colours.count((bad, bad, None), "one") == 1
    first = colours.settle(bad, "one", loose)
    assert colours.record(bad, first, "one").test_looks == 1
    assert colours.count((good, good), "two") == 2
    second = colours.settle(good, "two", loose)
    assert (second.champion_version, second.promoted) == (2, True)
    assert colours.record(good, second, "two").test_looks == 2


def test_a_champion_of_another_store_is_one_more_evaluation_when_it_is_compared(
    colours: Colours, good: SavedModel, bad: SavedModel
) -> None:
    registered = registration.register(
        colours.tracking,
        model_folder=bad.folder,
        contract=bad.contract,
        report=None,
        run_key="elsewhere",
        tags={},
        card="",
        settings=SURE,
        run_id="elsewhere",
    )
    champions.promote(colours.tracking, "colours", registered.number, who="ada", why="trusted", force=True)
    assert colours.count((good,), "one") == 1
    settled = colours.settle(good, "one")
    assert colours.count((), "any") == 2
    assert colours.record(good, settled, "one").test_looks == 2


@pytest.mark.slow
def test_a_version_is_tried_in_a_fresh_process_before_it_is_champion(colours: Colours, good: SavedModel) -> None:
    small = SURE.model_copy(update={"trial_images": 4, "limits": ServingLimits(memory_mb=1)})
    refused = colours.settle(good, "one", small)
    assert (refused.registered_version, refused.champion_version, refused.promoted) == (1, None, False)
    assert "registry.limits.memory_mb is 1" in refused.reason
    (version,) = versions.versions(colours.tracking, "colours")
    tried = json.loads(version.tags[settlement.TRIAL])
    assert (tried["images"], tried["batch_answered"], tried["failure"]) == (4, 64, None)
    assert tried["largest_difference"] < 1e-4


@dataclass
class MovesTheChampion:
    """A client of MLflow that moves the alias by itself, before it does what is in `moves` for the next time."""

    client: Any
    moves: list[str]

    def __getattr__(self, name: str) -> Any:
        if name == "set_experiment_tag" and self.moves:  # a test-set evaluation is being counted
            self.client.set_registered_model_alias("colours", versions.CHAMPION, self.moves.pop(0))
        return getattr(self.client, name)


def test_on_a_test_set_that_grew_both_are_also_compared_on_what_the_version_before_held(
    colours: Colours, good: SavedModel, bad: SavedModel, paint: Paint, tmp_path: Path
) -> None:
    first = colours.settle(good, "first")
    assert "version before" not in first.reason
    for index, colour in enumerate(("blue", "green", "red")):
        for number in range(20, 40):
            paint(tmp_path / "labeled" / colour / f"{number}.png", colour, seed=1000 * index + number)
    source, store = open_source(FolderSource(labeled="labeled")), open_dataset(colours.place).store
    done = ingest(source, source.scan(), store, settings=Ingest(), splitting=Splitting(test=0.5), workers=1)
    second = replace(colours, ingested=done).settle(bad, "second")
    before = len(colours.manifest.rows(Split.TEST))
    assert len(done.manifest.rows(Split.TEST)) > before
    assert f"on the {before} test images that the version before held too: " in second.reason
    assert second.reason.endswith(" % against 100.0 % of champion version 1")


def test_a_champion_that_is_moved_during_the_comparison_is_compared_anew(
    colours: Colours, good: SavedModel, bad: SavedModel, tmp_path: Path
) -> None:
    loose = SURE.model_copy(update={"floors": {"accuracy": 0.1}})
    assert colours.settle(bad, "one", loose).promoted
    model, contract = load(bad.folder)
    twin = save(model, contract.model_copy(update={"seed": 1}), tmp_path / "twin")
    assert not colours.settle(twin, "two", loose).promoted
    moving = MovesTheChampion(colours.tracking.client, ["2"])
    moved = replace(colours, tracking=replace(colours.tracking, client=moving))  # type: ignore[arg-type]  # a double
    settled = moved.settle(good, "three", loose)
    assert moving.moves == []
    assert (settled.champion_version, settled.promoted) == (3, True)
    assert "better than champion version 2" in settled.reason
    last = champions.history(colours.tracking, "colours")[-1]
    assert (last.action, last.previous, last.to) == ("promote", 2, 3)
