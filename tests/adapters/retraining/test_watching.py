"""Watching: a registered champion looks at images of the intake; windows are kept, and a new champion warms up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from selftrain.adapters.registry import registration
from selftrain.adapters.retraining.watching import drift_line, watch, watch_of
from selftrain.adapters.tracking.store import open_tracking
from selftrain.config import Experiment, Registry, parse
from selftrain.data.ingest.ingest import ingest
from selftrain.data.intake_table import intake_path, read_intake
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset
from selftrain.learn.models.contract import SavedModel, read_contract
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save
from selftrain.retraining.collecting import collect
from selftrain.retraining.journal import journal_of
from selftrain.retraining.newness import new_images

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
NIGHT = 12  # images


@pytest.fixture
def experiment(tmp_path: Path, paint: Paint, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """Labelled colours that are ingested, an empty inbox, and thresholds that two calm windows set."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    (tmp_path / "inbox").mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        for index in range(20):
            paint(tmp_path / "labeled" / colour / f"{index}.png", colour, seed=100 * number + index)
    e = parse(
        {
            "name": "colours",
            "workspace": str(tmp_path / "workspace"),
            "source": {"kind": "folder", "labeled": str(tmp_path / "labeled")},
            "inbox": {"url": str(tmp_path / "inbox"), "settle_s": 0},
            "drift": {"min_images": 10, "warmup": 2},
        }
    )
    source, store = open_source(e.source), open_dataset(e.place).store
    ingest(source, source.scan(), store, settings=e.ingest, splitting=e.splitting)
    return e


def champion(e: Experiment, saved: SavedModel, run: str) -> None:
    """Register `saved`, and make it champion."""
    tracking = open_tracking(Path(e.workspace))
    version = registration.register(
        tracking,
        model_folder=saved.folder,
        contract=saved.contract,
        report=None,
        run_key=run,
        tags={},
        card="# colours\n",
        settings=Registry(model_name="colours"),
        run_id=run,
    )
    tracking.client.set_registered_model_alias("colours", "champion", str(version.number))


def night(e: Experiment, paint: Paint, number: int, *, strength: int = 200) -> list[str]:
    """New images of all colours arrive, and are taken in; returns their ids."""
    assert e.inbox is not None
    for index in range(NIGHT):
        colour = ("red", "green", "blue")[index % 3]
        seed = 10_000 + 100 * number + index
        paint(Path(e.inbox.url) / str(number) / f"{index}.png", colour, seed=seed, strength=strength)
    collect(e, run="", now=datetime.now(UTC), resolve=str)
    intake = read_intake(intake_path(open_dataset(e.place).store.root))
    ids = new_images(intake, seen_rows=intake.num_rows - NIGHT)
    assert len(ids) == NIGHT
    return ids


def decide(e: Experiment) -> None:
    """A run is decided on all that was taken in so far."""
    dataset = open_dataset(e.place)
    ids = read_intake(intake_path(dataset.store.root))["image_id"].to_pylist()
    journal_of(dataset.workspace, dataset.name).append("decided", intake_rows=len(ids), last_image=ids[-1])


def test_without_a_champion_nothing_is_measured(experiment: Experiment, paint: Paint) -> None:
    assert watch(experiment, night(experiment, paint, 1)) is None
    assert "no champion" in drift_line(experiment)


def test_calm_nights_set_the_threshold_and_a_dark_one_is_drift_for_a_new_champion_too(
    experiment: Experiment, paint: Paint, colour_model: Path, tmp_path: Path
) -> None:
    champion(experiment, SavedModel(colour_model, read_contract(colour_model)), "first")
    for number in (1, 2, 3):
        window = watch(experiment, night(experiment, paint, number))
        assert window is not None
        assert not window.drifted
        decide(experiment)
    assert len(watch_of(open_dataset(experiment.place)).windows()) == 3

    dark = night(experiment, paint, 4, strength=30)
    window = watch(experiment, dark)
    assert window is not None
    assert window.decision.decided
    assert window.drifted, window.decision.reason
    assert watch(experiment, dark) == window
    assert drift_line(experiment) == f"{window.decision.reason} [window {window.name}]"

    model, contract = load(colour_model)
    weights = [1.5 * each for each in model.get_layer("logits").get_weights()]
    model.get_layer("logits").set_weights(weights)
    champion(experiment, save(model, contract, tmp_path / "second"), "second")
    again = watch(experiment, dark[:-1])
    assert again is not None
    assert again.decision.decided, "the images of the last decided runs are the new champion's warm-up"
    assert again.drifted, again.decision.reason
