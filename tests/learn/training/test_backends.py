"""Other backends of Keras: what is trained under one of them is a model like any other."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from selftrain.config import Method

ROOT = Path(__file__).resolve().parents[3]
TRAINED = textwrap.dedent("""
    import json, sys
    from pathlib import Path
    import keras
    from selftrain.config import Consistency, DigitsSource, Experiment, Fixed, Gate, PseudoLabel, Student, Teacher
    from selftrain.data.ingest.ingest import ingest
    from selftrain.data.sources.source import open_source
    from selftrain.data.store.dataset import open_dataset
    from selftrain.learn.training.checkpoint import Checkpoints
    from selftrain.selflabel.loop import run_loop

    folder, method = Path(sys.argv[1]), sys.argv[2]
    own = {"consistency": Consistency(mu=2)} if method != "noisy_student" else {}
    e = Experiment(
        workspace=str(folder / "workspace"),
        image_size=16,
        source=DigitsSource(labeled=40, validation=30, test=30),
        teacher=Teacher(steps=3, validate_every=3, batch_size=8),
        student=Student(
            method=method,
            backbone="efficientnet_b0_050",
            steps=3,
            validate_every=3,
            batch_size=4,
            finish_steps=1,
            **own,
        ),
        pseudo_label=PseudoLabel(threshold=Fixed(value=None)),
        gate=Gate(target=1.0, min_rounds=1, max_rounds=1),
    )
    source = open_source(e.source)
    made = ingest(source, source.scan(), open_dataset(e.place).store, settings=e.ingest, splitting=e.splitting)
    done = run_loop(
        e,
        made.manifest,
        open_dataset(e.place, e.machine),
        folder=folder / "models",
        checkpoints=Checkpoints(folder / "checkpoints"),
        progress=lambda *_: None,
    )
    student = done.models[1]
    images = keras.ops.convert_to_tensor(json.loads(sys.argv[3]), "float32")
    from selftrain.learn.models.loading import load

    logits = load(student.folder)[0](images, training=False)
    print(json.dumps({
        "backend": keras.backend.backend(),
        "folder": str(student.folder),
        "logits": keras.ops.convert_to_numpy(logits).tolist(),
        "diverged": done.history.rounds[1].diverged,
    }))
""")

pytestmark = [
    pytest.mark.keras,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_loop_under_another_backend_leaves_a_model_that_answers_the_same_under_tensorflow(
    tmp_path: Path, backend: str, method: Method
) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: Keras is not tried on it")
    from selftrain.learn.models.loading import load

    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3))
    done = subprocess.run(
        [sys.executable, "-c", TRAINED, str(tmp_path), method, json.dumps(images.tolist())],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["backend"], said["diverged"]) == (backend, None)
    model, _ = load(Path(said["folder"]))
    np.testing.assert_allclose(model(images.astype(np.float32), training=False), said["logits"], atol=1e-3)
