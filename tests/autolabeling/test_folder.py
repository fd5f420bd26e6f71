"""The folder of an analysis: what is left alone in it, what is begun anew, and what goes on after an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selftrain import as_numpy, autolabel
from selftrain.autolabeling.analysis import Analysis
from selftrain.config import PerClass
from selftrain.errors import ConfigError, SourceError
from tests.autolabeling.nearest_mean import Ints, NearestMean, Pixels


def test_a_folder_that_holds_anything_is_left_as_it_is(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    (tmp_path / "file").write_text("keep")
    autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "done")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "done").rglob("*")}
    for name, said in (
        ("mine", "holds other files and was left as it is"),
        ("file", "is a file; give a folder"),
        ("file/below", r"cannot be written \(.*\); give another folder"),
        ("done", "holds a finished analysis; give resume=True to keep it, or another folder"),
    ):
        with pytest.raises(ConfigError, match=said):
            autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / name)
    for resume in (True, False):
        with pytest.raises(ConfigError, match="holds other files"):
            autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "mine", resume=resume)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "done").rglob("*")}
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_call_that_failed_before_anything_was_labelled_is_mended_in_the_same_folder(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path, resume: bool
) -> None:
    images, labels = labeled[0][labeled[1] != 3], labeled[1][labeled[1] != 3]
    names = np.array([f"digit {digit}" for digit in range(10)])
    arguments: dict[str, Any] = {"model": model, "labeled": (images, names[labels]), "out": tmp_path / "out"}
    with pytest.raises(SourceError, match="the model answers 10; give class_names="):
        autolabel(**arguments, unlabeled=pool)
    with pytest.raises(SourceError, match="unlabeled: images of shape"):
        autolabel(**arguments, unlabeled=pool[..., 0], class_names=names)
    other = NearestMean(labeled[0], labeled[1])
    with pytest.raises(ConfigError, match="names 'digit X', which is not a class"):
        autolabel(**arguments, unlabeled=pool, class_names=names, threshold=PerClass(values={"digit X": 0.5}))
    changed = {**arguments, "model": other, "unlabeled": pool, "class_names": names, "resume": resume}
    assert autolabel(**changed) == autolabel(**{**changed, "out": tmp_path / "fresh"})
    for ours, theirs in zip(as_numpy(tmp_path / "out"), as_numpy(tmp_path / "fresh"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("text", ["{}", '{"mine": 1}', "no JSON"])
def test_settings_of_another_program_are_left_as_they_are(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path, text: str, resume: bool
) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ConfigError, match=r"out=.* (holds|was begun)"):
        autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path, resume=resume)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("settings.json", text)]


def test_an_unfinished_analysis_with_a_file_of_the_users_is_left_as_it_is(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match="unlabeled holds no image"):
        autolabel(model=model, labeled=labeled, unlabeled=pool[:0], out=tmp_path)
    (tmp_path / "images" / "mine.npy").write_text("keep")
    with pytest.raises(ConfigError, match="holds an unfinished analysis"):
        autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path)
    assert (tmp_path / "images" / "mine.npy").read_text() == "keep"


def interrupted(pool: Pixels, after: int) -> Iterator[Pixels]:
    """The images one by one, until the machine stops."""
    yield from pool[:after]
    raise KeyboardInterrupt


@pytest.mark.usefixtures("small_chunks")
def test_an_interrupted_labelling_goes_on_and_ends_as_if_nothing_had_happened(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"model": model, "labeled": labeled}
    with pytest.raises(KeyboardInterrupt):
        autolabel(**arguments, unlabeled=interrupted(pool, 450), out=tmp_path / "out")
    with pytest.raises(SourceError, match="holds an unfinished analysis"):
        as_numpy(tmp_path / "out")
    with pytest.raises(ConfigError, match="holds an unfinished analysis; give resume=True"):
        autolabel(**arguments, unlabeled=iter(pool), out=tmp_path / "out")
    model.asked = 0
    resumed = autolabel(**arguments, unlabeled=iter(pool), out=tmp_path / "out", resume=True)
    sampled = resumed.counts.held_out  # asked once more; other preparations are only tried where it is often wrong
    alone = 4  # of these, one by one
    assert model.asked == len(pool) - 400 + sampled + alone
    whole = autolabel(**arguments, unlabeled=pool, out=tmp_path / "whole")
    assert resumed == whole
    for ours, theirs in zip(as_numpy(tmp_path / "out"), as_numpy(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not (tmp_path / "out" / "unfinished").exists()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("after", "resume"), [(0, False), (0, True), (450, True)])
def test_two_calls_do_not_write_one_folder(
    after: int, resume: bool, model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"model": model, "labeled": labeled, "out": tmp_path / "out"}

    def images() -> Iterator[Pixels]:
        yield from pool[:after]
        with pytest.raises(ConfigError, match="another call of autolabel is writing"):
            autolabel(**arguments, unlabeled=pool, resume=resume)
        yield from pool[after:]

    found = autolabel(**arguments, unlabeled=images())
    assert found == autolabel(**(arguments | {"out": tmp_path / "alone"}), unlabeled=pool)
    listed, alone = (
        sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        for folder in (tmp_path / "out", tmp_path / "alone")
    )
    assert listed == alone


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("after", [None, 0, 450])
def test_the_lock_of_a_killed_call_stops_nobody(
    after: int | None, model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"model": model, "labeled": labeled, "out": tmp_path}
    if after is not None:
        with pytest.raises(KeyboardInterrupt):
            autolabel(**arguments, unlabeled=interrupted(pool, after))
    (tmp_path / "autolabel.lock").touch()
    found = autolabel(**arguments, unlabeled=pool, resume=after == 450)
    assert found.counts.unlabeled == len(pool)
    assert not (tmp_path / "autolabel.lock").exists()


@pytest.mark.usefixtures("small_chunks")
def test_what_goes_on_must_be_what_was_begun(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"model": model, "labeled": labeled, "out": tmp_path / "out"}
    with pytest.raises(KeyboardInterrupt):
        autolabel(**arguments, unlabeled=interrupted(pool, 450))
    again = {**arguments, "unlabeled": pool, "resume": True}
    other = NearestMean(labeled[0][:50], labeled[1][:50])
    for changes, said in (
        ({"model": other}, "begun with another model or other labelled images"),
        ({"labeled": (labeled[0][:300], labeled[1][:300])}, "begun with another model or other labelled images"),
        ({"unlabeled": pool[::-1]}, "begun with other unlabelled images, or in another order"),
        ({"threshold": 0.5}, "begun with other settings"),
        ({"seed": 1}, "begun with other settings"),
    ):
        with pytest.raises(ConfigError, match=said):
            autolabel(**{**again, **changes})
    assert isinstance(autolabel(**again), Analysis)


def test_a_finished_analysis_is_returned_as_it_is(
    model: NearestMean, labeled: tuple[Pixels, Ints], pool: Pixels, tmp_path: Path
) -> None:
    first = autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "out")
    model.asked = 0
    assert autolabel(model=model, labeled=labeled, unlabeled=pool, out=tmp_path / "out", resume=True) == first
    assert model.asked == 0
