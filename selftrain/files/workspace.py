"""Workspace: the folder that holds the data sets, the embedded stores and the caches."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from selftrain.errors import InputError
from selftrain.files.permission import NOT_OURS


@dataclass(frozen=True)
class Workspace:
    """The paths of a workspace; nothing exists before `ensure()`.

    >>> Workspace(Path(".selftrain")).dataset("digits").as_posix()
    '.selftrain/datasets/digits'
    """

    root: Path

    @property
    def datasets(self) -> Path:
        """Folder of all data sets; a DVC repository of its own."""
        return self.root / "datasets"

    def dataset(self, name: str) -> Path:
        """Root of one data set's ImageStore, which DVC versions as a whole."""
        return self.datasets / name

    @property
    def decoded_cache(self) -> Path:
        """Decoded and resized pixels; safe to delete at any time."""
        return self.root / "cache" / "decoded"

    @property
    def features_cache(self) -> Path:
        """Features of images by frozen networks; safe to delete at any time."""
        return self.root / "cache" / "features"

    @property
    def models(self) -> Path:
        """Models of the user, of the registry and of `selftrain.fit`; safe to delete at any time."""
        return self.root / "cache" / "models"

    @property
    def checkpoints(self) -> Path:
        """Training state that an interrupted run resumes from."""
        return self.root / "checkpoints"

    @property
    def mlflow_database(self) -> Path:
        """SQLite file of the embedded MLflow tracking and registry."""
        return self.root / "mlflow" / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """Artifact folder of the embedded MLflow."""
        return self.root / "mlflow" / "artifacts"

    @property
    def locks(self) -> Path:
        """Lock files that running processes hold."""
        return self.root / "locks"

    @property
    def state(self) -> Path:
        """What was last kept of the data sets for a machine that begins empty, if anything was."""
        return self.root / "state"

    @property
    def dvc_remote(self) -> Path:
        """The default DVC remote: a local folder that data set versions are pushed to."""
        return self.root / "dvc-remote"

    def ensure(self) -> Workspace:
        """Create the folders, and a `.gitignore` that hides the workspace from the user's git; idempotent.

        Raises InputError where this user may not make them, or not write to those that are there.
        """
        try:
            self._make()
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise
            root = self.root.absolute()
            raise InputError(
                f"the workspace {root} cannot be written to ({error.strerror}); make it yours, such as by "
                f'`sudo install -d -o "$USER" {root}`, or name another one'
            ) from error
        return self

    def _make(self) -> None:
        folders = (self.datasets, self.decoded_cache, self.checkpoints, self.mlflow_artifacts, self.locks)
        for folder in (*folders, self.dvc_remote):
            folder.mkdir(parents=True, exist_ok=True)
        for folder in (self.root, *folders):
            if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
