"""A step in a pod of its own: told to stop it saves and says so, and the next pod goes on where it was."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from selftrain.adapters.runs.interruption import interruptible
from selftrain.errors import INTERRUPTED, NO_DEVICE, OUT_OF_MEMORY, TrainingInterruptedError
from selftrain.learn.networks.memory import ran_out_of_memory

pytestmark = pytest.mark.keras

TESTS = Path(__file__).resolve().parents[2]
# A pod: its folder is empty at first, and it is told to stop, or killed, at a step.
POD = textwrap.dedent("""
    import hashlib, os, signal, sys
    sys.path.insert(0, sys.argv[1])
    import test_run as t
    from selftrain.adapters.runs.destination import destination
    from selftrain.config import Machine, Place
    from selftrain.data.store.dataset import open_dataset
    from selftrain.learn.training.run import train

    name, at = sys.argv[2], int(sys.argv[3])
    def progress(done, total, note=""):
        print(done, flush=True)
        if done == at:
            os.kill(os.getpid(), getattr(signal, name))
    recipe = t.RECIPE.model_copy(update={"steps": 12, "validate_every": 6})
    dataset = open_dataset(Place(), Machine(checkpoint_s=float(sys.argv[4])))
    with destination(dataset, "teacher") as into:
        trained = train(
            t.small_model(), recipe=recipe, train=t.bars(48, 0), validation=t.bars(40, 1), seed=3,
            checkpoints=into.checkpoints.of("teacher"), progress=progress,
        )
    digest = hashlib.sha256(b"".join(w.numpy().tobytes() for w in trained.model.weights)).hexdigest()
    print("weights", digest)
""")


def pod(folder: Path, store: Path, *, end: str = "SIGTERM", at: int = 99, checkpoint_s: float = 30.0):
    folder.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SELFTRAIN_CHECKPOINTS": str(store),
    }
    here = str(TESTS / "learn" / "training")
    command = [sys.executable, "-c", POD, here, end, str(at), str(checkpoint_s)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def steps(ended: subprocess.CompletedProcess[str]) -> list[int]:
    return [int(line) for line in ended.stdout.split() if line.isdigit()]


@pytest.mark.slow
def test_pods_that_are_stopped_and_killed_end_in_the_weights_of_one_that_never_was(tmp_path: Path) -> None:
    unbroken = pod(tmp_path / "unbroken", tmp_path / "other")
    assert unbroken.returncode == 0, unbroken.stderr
    stopped = pod(tmp_path / "first", tmp_path / "store", at=3)
    assert stopped.returncode == INTERRUPTED, stopped.stderr
    assert stopped.stderr.splitlines()[-1].startswith("told to stop at step 4 of 12, and saved")
    killed = pod(tmp_path / "second", tmp_path / "store", end="SIGKILL", at=11, checkpoint_s=1e-9)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert steps(killed)[0] == 5
    resumed = pod(tmp_path / "third", tmp_path / "store")
    assert resumed.returncode == 0, resumed.stderr
    assert 6 < steps(resumed)[0] <= 12, "what was saved counts"
    assert resumed.stdout.split()[-1] == unbroken.stdout.split()[-1]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            "MemoryError('unable to allocate 80 GiB')",
            "out of memory: unable to allocate 80 GiB; lower batch_size, or give the step more\n",
        ),
        (
            "OutOfMemoryError('out of memory in step 3; lower batch_size', halves_may_fit=False)",
            "out of memory in step 3; lower batch_size\n",
        ),
    ],
)
def test_memory_that_runs_out_ends_a_step_with_a_code_of_its_own(tmp_path: Path, error: str, said: str) -> None:
    script = (
        "from selftrain.adapters.runs.interruption import interruptible\n"
        "from selftrain.errors import OutOfMemoryError\n"
        f"with interruptible():\n    raise {error}\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "SELFTRAIN_CHECKPOINTS": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == OUT_OF_MEMORY
    assert ended.stderr == said


@pytest.mark.slow
def test_a_step_that_was_promised_a_gpu_ends_with_a_code_of_its_own_without_one() -> None:
    script = "from selftrain.adapters.process.quiet_start import start_keras\nstart_keras()\nprint('trained')\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "SELFTRAIN_DEVICE": "gpu"}
    environment |= {"CUDA_VISIBLE_DEVICES": "-1"}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == NO_DEVICE, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.startswith("SELFTRAIN_DEVICE is gpu, but tensorflow finds none on ")


@pytest.mark.slow
def test_a_real_tensorflow_allocation_that_fails_counts_as_out_of_memory() -> None:
    import tensorflow as tf

    with pytest.raises(tf.errors.ResourceExhaustedError) as raised:
        tf.zeros((1 << 20, 1 << 22))
    assert ran_out_of_memory(raised.value)
    assert not ran_out_of_memory(ValueError("a shape"))


def test_on_one_machine_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SELFTRAIN_CHECKPOINTS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    with interruptible() as interruption:
        assert signal.getsignal(signal.SIGTERM) is before
        assert not interruption.told_to_stop()
    stop = TrainingInterruptedError("told to stop")
    with pytest.raises(TrainingInterruptedError), interruptible():
        raise stop
