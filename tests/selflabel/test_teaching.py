"""A student that learns in training from the pool itself, in a round that gives it pseudo-labels too."""

from pathlib import Path

import numpy as np
import pytest

from selftrain.config import Consistency, DigitsSource, Experiment, Fixed, PseudoLabel, Student
from selftrain.data import dataset
from selftrain.data.ingest import ingest
from selftrain.data.manifest import Split
from selftrain.data.sources import open_source
from selftrain.learn.checkpoint import Checkpoints
from selftrain.selflabel.pseudo_labels import select

STEPS, BATCH, MU = 2, 4, 2


@pytest.mark.keras
# Keras warns that fit does not shuffle a Grain pipeline: it is shuffled by us.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
def test_a_student_in_training_takes_the_pool_itself_and_no_pseudo_label(tmp_path: Path) -> None:
    from selftrain.selflabel.teaching import train_student

    e = Experiment(source=DigitsSource(labeled=40, validation=30, test=30), workspace=str(tmp_path))
    source, store = open_source(e.source), dataset.store(e.place)
    manifest = ingest(source, source.scan(), store, settings=e.ingest, splitting=e.splitting).manifest
    pool = manifest.rows(Split.UNLABELED)
    probs = np.random.default_rng(0).dirichlet(np.full(10, 0.2), len(pool)).astype(np.float32)
    labels = select(
        manifest.image_ids()[pool],
        probs,
        PseudoLabel(threshold=Fixed(value=None)),
        round_index=1,
        teacher="lot",
        class_names=manifest.label_map.names,
    )
    assert labels.applied_to(manifest).digest != manifest.digest
    contract = train_student(
        manifest,
        labels,
        dataset.pixels(e.place, manifest, 16, e.machine),
        recipe=Student(
            method="softmatch",
            consistency=Consistency(mu=MU),
            augmentation="digits",
            steps=STEPS,
            batch_size=BATCH,
            validate_every=STEPS,
        ),
        backbone="efficientnet_b0_050",
        seed=1,
        folder=tmp_path / "model",
        checkpoints=Checkpoints(tmp_path / "checkpoints"),
    ).contract
    assert contract.manifest_digest == manifest.digest
    assert contract.thresholds == {}
    assert contract.image_steps == STEPS * BATCH * (1 + 2 * MU)
