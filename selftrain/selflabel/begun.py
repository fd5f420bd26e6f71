"""Begun: what an analysis is asked for, and a folder that is empty, ready for it, in the midst of it or done."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from selftrain.config import Fixed, PseudoLabel, Section, Threshold
from selftrain.config.arguments import checked, names_of
from selftrain.errors import ConfigError
from selftrain.files.locks import let_go, wait_for_lock
from selftrain.files.writing import replace
from selftrain.learn.asked import Outputs
from selftrain.selflabel.analysis import AnalysisFolder

LOCK = "autolabel.lock"
# What is written before the first unlabelled image is labelled: nothing that a model was asked long for.
_BEFORE_LABELLING = re.compile(
    r"settings\.json|autolabel\.lock|images/(un)?labeled-\d{6}\.npy|unfinished/held_out\.npy"
)


class Settings(Section):
    """What an analysis depends on, beside the model and the images."""

    pseudo_label: PseudoLabel = PseudoLabel()
    round: int = 1
    held_out: Annotated[float, Field(ge=0, le=1)] = 0.2
    seed: int = 0
    outputs: Outputs | None = None
    class_names: tuple[str, ...] | None = None

    @property
    def text(self) -> str:
        """As they are written."""
        return self.model_dump_json(indent=2) + "\n"


def settings_of(
    *,
    threshold: Threshold | float | None,
    targets: str,
    max_per_class: int | None,
    batch_size: int,
    class_names: Iterable[str] | None,
    round: int,
    held_out: float,
    seed: int,
    outputs: str | None,
) -> Settings:
    """The arguments of `autolabel` as Settings. Raises ConfigError naming the one that is not allowed."""
    rule = _rule(threshold)
    rule = checked(PseudoLabel, threshold=rule, targets=targets, max_per_class=max_per_class, batch_size=batch_size)
    names = None if class_names is None else names_of(class_names, each="each of the model's outputs, in their order")
    return checked(
        Settings, pseudo_label=rule, round=round, held_out=held_out, seed=seed, outputs=outputs, class_names=names
    )


def _rule(threshold: object) -> object:
    """A threshold's object as it is, a confidence (0-1) or None as Fixed."""
    if isinstance(threshold, Section | Mapping):
        return threshold
    if threshold is None:
        return Fixed(value=None)
    if isinstance(threshold, int | float | np.number) and not isinstance(threshold, bool) and 0 <= threshold <= 1:
        return Fixed(value=float(threshold))
    raise ConfigError(
        f"threshold is {threshold!r}; give a confidence from 0 to 1, None for all, or a threshold of selftrain.config, "
        "such as TargetPrecision()"
    )


@contextmanager
def begun(folder: AnalysisFolder, settings: Settings, *, resume: bool) -> Iterator[bool]:
    """Whether `folder` holds the finished analysis already; else it is this call's alone while the block runs.

    With `resume` an unfinished one of the same settings is gone on with. One in which no unlabelled image was labelled
    yet - an error came before - is begun anew, with whatever settings.
    Raises ConfigError for a folder that holds anything else, and for one that another call is writing.
    """
    if _goes_on(folder, settings, resume=resume) and folder.analysis_path.is_file():
        yield True
        return
    with _locked(folder.root):
        if not _goes_on(folder, settings, resume=resume):
            folder.held_out_path.unlink(missing_ok=True)  # of the model before, which may be another
            replace(folder.settings_path, lambda part: part.write_text(settings.text, encoding="utf-8"))
        yield folder.analysis_path.is_file()


def _goes_on(folder: AnalysisFolder, settings: Settings, *, resume: bool) -> bool:
    """Whether `folder` holds an analysis of these settings, in which something is labelled; False: nothing is.

    Raises ConfigError where it holds other files or settings, or one that is not to be gone on with.
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
    """Whether `folder` holds what `begun` and the reading of labelled images wrote, and nothing else."""
    if not all(_BEFORE_LABELLING.fullmatch(name) for name in _files(folder.root)):
        return False
    try:
        text = folder.settings_path.read_text(encoding="utf-8")
        return Settings.model_validate_json(text).text == text
    except (OSError, ValidationError, UnicodeDecodeError, ConfigError):  # no settings of ours
        return False


def _files(root: Path) -> Iterator[str]:
    """What lies below `root` and is no folder, seen from there."""
    return (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or not path.is_dir())
