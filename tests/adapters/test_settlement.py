"""Settlement: what becomes of a passed run's model, on a real registry and a data set of real files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from selftrain.adapters import promotion, registry, settlement
from selftrain.adapters.tracking import Tracking, looks_at_test, open_tracking
from selftrain.config import FolderSource, Ingest, Machine, Place, Registry, Splitting
from selftrain.data import dataset
from selftrain.data.ingest import ingest
from selftrain.data.manifest import Manifest, Split
from selftrain.data.sources import open_source
from selftrain.learn.contract import SavedModel, load, save
from selftrain.record import Registration
from selftrain.selflabel import scoring
from selftrain.selflabel.finished import Outcome
from selftrain.selflabel.rounds import History, Round, Verdict

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
SURE = Registry(model_name="colours")
MACHINE = Machine(workers=1)


@dataclass(frozen=True)
class Colours:
    """Painted images as a data set of a workspace, and a registry of its own."""

    place: Place
    manifest: Manifest
    tracking: Tracking

    def settle(self, model: SavedModel, key: str, settings: Registry = SURE) -> Registration:
        """What `settle` does with a run that passed with `model`."""
        images = partial(dataset.pixels, self.place, self.manifest, machine=MACHINE)
        report = scoring.read_test(self.manifest, model, model, pixels_at=images)
        teacher = Round(
            index=0,
            backbone="by_hand",
            labeled=1,
            validation_accuracy=1,
            validation_metric=1,
            seconds=1,
            model_digest=model.digest,
        )
        ended = Outcome(history=History().with_round(teacher), verdict=Verdict.PASSED, explanation="")
        return settlement.settle(
            self.manifest,
            model,
            report,
            ended,
            place=self.place,
            settings=settings,
            machine=MACHINE,
            run_id=key,
            run_key=key,
            dataset_version="v",
        )

    @property
    def looks(self) -> int:
        return looks_at_test(self.tracking, self.manifest.split_digest(Split.TEST))


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paint: Paint) -> Colours:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    for index, colour in enumerate(("blue", "green", "red")):
        for number in range(12):
            paint(tmp_path / "labeled" / colour / f"{number}.png", colour, seed=100 * index + number)
    place = Place(workspace="workspace", dataset="colours")
    source = open_source(FolderSource(labeled="labeled"))
    done = ingest(
        source, source.scan(), dataset.store(place), settings=Ingest(), splitting=Splitting(test=0.5), workers=1
    )
    return Colours(place, done.manifest, open_tracking(dataset.workspace(place).root))


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
    again = colours.settle(good, "one")
    assert (again.registered_version, again.champion_version, again.promoted) == (1, 1, False)
    assert again.reason == "it is this very model, found again"
    assert len(promotion.history(colours.tracking, "colours")) == 1


def test_what_could_be_champion_and_is_not_says_how_it_becomes_it(
    colours: Colours, good: SavedModel, bad: SavedModel
) -> None:
    by_hand = SURE.model_copy(update={"auto_promote": False, "floors": {"accuracy": 0.1}})
    waiting = colours.settle(bad, "one", by_hand)
    assert (waiting.champion_version, waiting.promoted) == (None, False)
    assert "auto_promote is off; `selftrain promote 1` makes it champion" in waiting.reason
    promotion.promote(colours.tracking, "colours", 1, who="ada")
    better = colours.settle(good, "two")
    assert (better.registered_version, better.champion_version) == (2, 2)
    promotion.rollback(colours.tracking, "colours", who="ada")
    again = colours.settle(good, "two")
    assert (again.champion_version, again.promoted) == (1, False)
    assert again.reason.startswith("it was champion before and was taken back; `selftrain promote 2`")
    champion = registry.champion(colours.tracking, "colours")
    assert champion is not None
    assert champion.number == 1
