"""Checkpoints: the state of a training on disk, written whole or not at all, read without pickle."""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from selftrain.errors import TrainingHeldError
from selftrain.files.locks import let_go, try_lock, wait_for_lock
from selftrain.files.mirror import Mirror
from selftrain.files.writing import replace as replace_file

Array = NDArray[np.generic]
FINISHED = "finished.npz"
LOCK = "training.lock"
TORN = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)  # what reading a missing or torn file raises


@dataclass(frozen=True)
class Look:
    """One look at validation after `step` steps; `loss` is the mean training loss since the look before.

    `standard_error` is the accuracy's, from the number of validation images.
    """

    step: int
    loss: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    standard_error: float = 0.0


@dataclass(frozen=True)
class Position:
    """How far a training is: `step` steps done in `seconds`, its looks, and the running loss since the last one.

    `parts` says in how many parts its steps take their batch.
    """

    fingerprint: str
    step: int = 0
    seconds: float = 0.0
    looks: tuple[Look, ...] = ()
    loss_sum: float = 0.0
    loss_count: int = 0
    parts: int = 1

    @property
    def best(self) -> Look | None:
        """The newest look within one standard error of the highest accuracy so far; None before the first look.

        The validation images cannot tell such looks apart (Breiman et al. 1984, section 3.4.3), and the newest look has
        learned most. The best look is always the newest one or the one that was best before it.
        """
        highest = max(self.looks, key=lambda look: look.validation_accuracy, default=None)
        if highest is None:
            return None
        least = highest.validation_accuracy - highest.standard_error
        return next(look for look in reversed(self.looks) if look.validation_accuracy >= least)

    def after(self, look: Look) -> Position:
        """The position after `look`."""
        return replace(self, step=look.step, looks=(*self.looks, look), loss_sum=0.0, loss_count=0)


@dataclass(frozen=True)
class Checkpoints:
    """The newest state and the best weights of one training, in a folder of its own, saved every `every_s` seconds.

    Once a training has finished, only its best weights and its position stay. The same training then returns at once.
    With a `mirror`, they are also kept elsewhere, and a folder that holds nothing begins with what the mirror has. A
    training asks `told_to_stop` after each step.
    """

    folder: Path
    every_s: float = 30.0
    mirror: Mirror | None = None
    told_to_stop: Callable[[], bool] = lambda: False
    _state: str = field(default="state.npz", init=False)
    _end: str = field(default=FINISHED, init=False)

    def of(self, key: str) -> Checkpoints:
        """The checkpoints of the training `key`, in a folder below this one."""
        return replace(self, folder=self.folder / key)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes away from this training while the block runs; the system releases it after a kill.

        Raises TrainingHeldError if another process holds it.
        """
        lock = wait_for_lock(self.folder / LOCK)
        if lock is None:
            raise TrainingHeldError(
                f"the same training runs in another process, which holds {self.folder}; wait until it has ended, or "
                "stop it; then run again, and the training continues from there"
            )
        try:
            for part in self.folder.glob("*.part"):  # of a process that was killed while it wrote
                part.unlink()
            if self.mirror is not None and not any(self.folder.glob("*.npz")):
                self.mirror.fetch(self.folder)
            yield
        finally:
            let_go(self.folder / LOCK, lock)

    def save(self, position: Position, arrays: list[Array]) -> None:
        """Replace the saved state, then remove best weights that it no longer names."""
        write_arrays(self.folder / self._state, arrays, json.dumps(asdict(position)))
        (self.folder / self._end).unlink(missing_ok=True)
        keep = self._best(position.best.step).name if position.best else ""
        for path in self.folder.glob("best-*.npz"):
            if path.name != keep:
                path.unlink()
        self._send(self._state, keep)

    def save_best(self, step: int, arrays: list[Array]) -> None:
        """Write the weights of the look at `step`; they count once a saved state names it."""
        write_arrays(self._best(step), arrays, "{}")

    def finish(self, position: Position) -> None:
        """Replace the saved state by the position alone; nothing is left to train."""
        write_arrays(self.folder / self._end, [], json.dumps(asdict(position)))
        (self.folder / self._state).unlink(missing_ok=True)
        if self.mirror is not None:
            self.mirror.join()
        self._send(self._end, self._best(position.best.step).name if position.best else "")

    def sent(self) -> None:
        """Wait until the mirror holds the saved state. Raises MirrorError if it refuses."""
        if (self.folder / self._state).exists():
            best = max(self.folder.glob("best-*.npz"), default=None)
            self._send(self._state, best.name if best is not None else "", wait=True)

    def _send(self, *names: str, wait: bool = False) -> None:
        if self.mirror is not None:
            self.mirror.send(self.folder, [name for name in names if name], wait=wait)

    def load(self, fingerprint: str) -> tuple[Position, list[Array]] | None:
        """The saved position and arrays; None if nothing whole is saved, or only another training.

        A finished training has an empty list of arrays.
        """
        return self._load(self._end, fingerprint) or self._load(self._state, fingerprint)

    def _load(self, name: str, fingerprint: str) -> tuple[Position, list[Array]] | None:
        try:
            arrays, text = read_arrays(self.folder / name)
        except TORN:
            return None
        values = json.loads(text)
        if values["fingerprint"] != fingerprint:
            return None
        position = Position(**{**values, "looks": tuple(Look(**look) for look in values["looks"])})
        if position.best and not self._best(position.best.step).exists():
            return None
        return position, arrays

    def load_best(self, step: int) -> list[Array]:
        """The weights of the look at `step`."""
        return read_arrays(self._best(step))[0]

    def _best(self, step: int) -> Path:
        return self.folder / f"best-{step:09d}.npz"


def prune(root: Path, *, keep: int = 10) -> None:
    """Remove the checkpoints of finished trainings below `root`, except the `keep` that finished last.

    An unfinished training stays, however old, because it may be continued. So does one that a process holds.
    """
    folders = finished_trainings(root)
    for folder in folders[: max(0, len(folders) - keep)]:
        _remove(folder)


def finished_trainings(root: Path) -> list[Path]:
    """The folders of finished trainings below `root`; the one that finished last comes last."""
    finished: list[tuple[int, Path]] = []
    for path in root.rglob(FINISHED):
        with contextlib.suppress(FileNotFoundError):  # another run removes it too
            finished.append((path.stat().st_mtime_ns, path.parent))
    return [folder for _, folder in sorted(finished)]


def _remove(folder: Path) -> None:
    """Remove the files of a training, unless a process holds it; and the folder, unless it holds more."""
    with contextlib.suppress(OSError):  # another run removes it too, or nobody can: the next run tries again
        lock = try_lock(folder / LOCK)
        if lock is None:
            return
        try:
            for path in folder.iterdir():
                if path.is_file() and path.name != LOCK:
                    path.unlink(missing_ok=True)
        finally:
            let_go(folder / LOCK, lock)
        folder.rmdir()


def write_arrays(path: Path, arrays: list[Array], text: str) -> None:
    """Replace `path` by a file of `arrays` and `text`, whole or not at all, even after a power cut."""

    def write(part: Path) -> None:
        with part.open("wb") as file:
            # to numpy's stub, one of the arrays could be `allow_pickle`, which is a bool
            np.savez(file, text=np.frombuffer(text.encode(), np.uint8), **{f"a{i}": a for i, a in enumerate(arrays)})  # type: ignore[arg-type]

    replace_file(path, write, durable=True)


def read_arrays(path: Path) -> tuple[list[Array], str]:
    """What `write_arrays` wrote to `path`. Raises one of the errors in TORN if the file is missing or torn."""
    # The file is opened here, because np.load leaves a torn file open when it raises.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
        return [saved[f"a{i}"] for i in range(len(saved.files) - 1)], saved["text"].tobytes().decode()
