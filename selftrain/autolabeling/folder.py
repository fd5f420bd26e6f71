"""The folder of an analysis: its files, and when a call may write to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from selftrain.autolabeling.analysis import FORMAT_VERSION, Analysis
from selftrain.autolabeling.kept_images import KeptImages
from selftrain.autolabeling.settings import Settings
from selftrain.errors import ConfigError, SourceError
from selftrain.files.locks import let_go, wait_for_lock
from selftrain.files.writing import replace
from selftrain.selflabel.selection.pseudo_labels import PseudoLabels

LOCK = "autolabel.lock"
# The files that are written before the first unlabelled image is labelled. They cost little to make again.
_BEFORE_LABELLING = re.compile(
    r"settings\.json|autolabel\.lock|images/(un)?labeled-\d{6}\.npy|unfinished/held_out\.npy"
)


@contextmanager
def claim_folder(folder: AnalysisFolder, settings: Settings, *, resume: bool) -> Iterator[bool]:
    """Yield whether `folder` already holds the finished analysis; if not, lock it for this call while the block runs.

    With `resume`, an unfinished analysis with the same settings continues. An analysis that failed before it labelled
    an unlabelled image starts again, with any settings. Raises ConfigError for a folder that holds anything else, and
    for one that another call is writing.
    """
    if _goes_on(folder, settings, resume=resume) and folder.analysis_path.is_file():
        yield True
        return
    with _locked(folder.root):
        if not _goes_on(folder, settings, resume=resume):
            folder.held_out_path.unlink(missing_ok=True)  # from an earlier call, maybe with another model
            replace(folder.settings_path, lambda part: part.write_text(settings.text, encoding="utf-8"))
        yield folder.analysis_path.is_file()


def _goes_on(folder: AnalysisFolder, settings: Settings, *, resume: bool) -> bool:
    """Whether `folder` holds an analysis with these settings that has already labelled an unlabelled image.

    Raises ConfigError where it holds other files or settings, or an analysis while `resume` is not set.
    """
    root = folder.root
    if root.exists() and not root.is_dir():
        raise ConfigError(f"out={str(root)!r} is a file; give a folder")
    if not root.is_dir() or all(path.name == LOCK for path in root.iterdir()) or _nothing_labelled(folder):
        return False
    if not folder.settings_path.is_file():
        raise ConfigError(f"out={str(root)!r} holds other files and was left as it is; give an empty folder")
    if not resume:
        state = "a finished analysis" if folder.analysis_path.is_file() else "an unfinished analysis"
        raise ConfigError(f"out={str(root)!r} holds {state}; give resume=True to keep it, or another folder")
    if folder.settings_path.read_text(encoding="utf-8") != settings.text:
        raise ConfigError(f"out={str(root)!r} was begun with other settings; give those, or another folder")
    return True


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    try:
        lock = wait_for_lock(root / LOCK)
    except OSError as error:
        raise ConfigError(f"out={str(root)!r} cannot be written ({error}); give another folder") from error
    if lock is None:
        raise ConfigError(
            f"another call of autolabel is writing out={str(root)!r}; wait until it has ended, or give another folder"
        )
    try:
        yield
    finally:
        let_go(root / LOCK, lock)


def _nothing_labelled(folder: AnalysisFolder) -> bool:
    """Whether `folder` holds only what is written before an unlabelled image is labelled."""
    if not all(_BEFORE_LABELLING.fullmatch(name) for name in _files(folder.root)):
        return False
    try:
        text = folder.settings_path.read_text(encoding="utf-8")
        return Settings.model_validate_json(text).text == text
    except (OSError, ValidationError, UnicodeDecodeError, ConfigError):  # another program's file
        return False


def _files(root: Path) -> Iterator[str]:
    """The paths of the files and links below `root`, relative to it."""
    return (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or not path.is_dir())


@dataclass(frozen=True)
class AnalysisFolder:
    """A folder with an analysis; it is complete when it has `analysis.json`, which is written last."""

    root: Path

    @property
    def analysis_path(self) -> Path:
        return self.root / "analysis.json"

    @property
    def labels_path(self) -> Path:
        return self.root / "pseudo_labels.parquet"

    @property
    def index_path(self) -> Path:
        return self.root / "images.parquet"

    @property
    def settings_path(self) -> Path:
        """The settings of the call. They are written first."""
        return self.root / "settings.json"

    @property
    def unreadable_path(self) -> Path:
        return self.root / "unreadable.csv"

    @property
    def arrays(self) -> Path:
        """The images that the user gave as arrays, not as files."""
        return self.root / "images"

    @property
    def unfinished(self) -> Path:
        """The model's answers, until the analysis is finished."""
        return self.root / "unfinished"

    @property
    def held_out_path(self) -> Path:
        """The model's answers to the held-out images, until the analysis is finished."""
        return self.unfinished / "held_out.npy"

    def finish(self, analysis: Analysis) -> None:
        """Write the analysis, whole or not at all."""
        text = analysis.model_dump_json(indent=2) + "\n"
        replace(self.analysis_path, lambda part: part.write_text(text, encoding="utf-8"))

    def read(self) -> Analysis:
        """The analysis in this folder. Raises SourceError where there is none, or where it is not finished."""
        try:
            return Analysis.model_validate_json(self.analysis_path.read_bytes())
        except OSError as error:
            state = (
                "an unfinished analysis; finish it with resume=True" if self.settings_path.exists() else "no analysis"
            )
            raise SourceError(f"{self.root} holds {state}; selftrain.autolabel(..., out=...) makes one") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise SourceError(
                f"{self.analysis_path} is not an analysis of format {FORMAT_VERSION}: {first['msg']}"
            ) from error

    def images(self, analysis: Analysis) -> KeptImages:
        """The images of the analysis, labelled ones first."""
        shape, dtype = analysis.image_shape, analysis.image_dtype
        return KeptImages.read(self.index_path, folder=self.arrays, shape=shape, dtype=dtype, bits=analysis.bits)

    def labels(self) -> PseudoLabels:
        """The pseudo-labels."""
        return PseudoLabels.read(self.labels_path)
