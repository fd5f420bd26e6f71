"""Layouts of folders as downloads and tools leave them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from selftrain.config import FolderSource, TableSource
from selftrain.data.sources.layout import taken_as_splits
from selftrain.data.sources.source import open_source
from selftrain.data.sources.survey import survey
from selftrain.errors import SourceError


@pytest.fixture
def download(folders: Path) -> Path:
    """`set/train`, `set/valid` and `set/test` with the same class folders, as Roboflow exports them."""
    root = folders / "set"
    for name in ("train", "valid", "test"):
        shutil.copytree(folders / "labeled", root / name)
    (root / "README.roboflow.txt").write_text("exported")
    return root


def test_splits_are_not_taken_for_classes_and_the_command_is_given(download: Path) -> None:
    with pytest.raises(SourceError, match="are splits, not classes") as refused:
        open_source(FolderSource(labeled=str(download))).scan()
    assert f"--labeled {download}/train" in refused.value.message
    assert f"--validation {download}/valid" in refused.value.message


def test_splits_find_their_places_when_asked(download: Path) -> None:
    source = taken_as_splits(FolderSource(labeled=str(download), unlabeled=str(download.parent / "unlabeled")))
    assert source == FolderSource(
        labeled=str(download / "train"),
        validation=str(download / "valid"),
        test=str(download / "test"),
        unlabeled=str(download.parent / "unlabeled"),
    )


@pytest.mark.parametrize("names", [("train", "bus"), ("train", "test")])
def test_classes_named_like_splits_stay_classes(folders: Path, names: tuple[str, str]) -> None:
    for old, new in zip(("cat", "dog"), names, strict=True):
        (folders / "labeled" / old).rename(folders / "labeled" / new)
    source = open_source(FolderSource(labeled=str(folders / "labeled")))
    assert source.class_names(source.scan()) == tuple(sorted(names))
    with pytest.raises(SourceError, match="are not splits"):
        taken_as_splits(FolderSource(labeled=str(folders / "labeled")))


@pytest.mark.parametrize("name", ["__MACOSX", "@eaDir", "lost+found", ".ipynb_checkpoints"])
def test_what_systems_leave_behind_is_no_class(folders: Path, name: str) -> None:
    for place in (folders / "labeled", folders / "labeled" / "cat"):
        shutil.copytree(folders / "unlabeled", place / name / "inside")
    source = open_source(FolderSource(labeled=str(folders / "labeled")))
    listing = source.scan()
    assert source.class_names(listing) == ("cat", "dog")
    assert len(listing) == 24


def test_a_class_that_holds_folders_is_said(folders: Path) -> None:
    for name in ("tabby", "siamese"):
        shutil.copytree(folders / "unlabeled", folders / "labeled" / "cat" / name)
        for path in (folders / "labeled" / "cat" / name).iterdir():
            path.write_bytes(path.read_bytes() + name.encode())
    listing = open_source(FolderSource(labeled=str(folders / "labeled"))).scan()
    assert any("'cat'" in note and "siamese, tabby" in note for note in listing.notes)


def test_a_list_is_surveyed_like_folders(folders: Path) -> None:
    rows = [f"labeled/cat/{number:02d}.png,cat" for number in range(12)]
    rows += [f"labeled/dog/{number:02d}.jpg,dog" for number in range(12)]
    rows += [f"unlabeled/{number:02d}.webp,-1" for number in range(10)]
    (folders / "list.csv").write_text("\n".join(["path,label", *rows]))
    seen = survey(TableSource(path=str(folders / "list.csv")))
    assert seen.classes == {"cat": 12, "dog": 12}
    assert (seen.unlabeled_images, seen.validation_images, seen.test_images) == (10, None, None)
    assert seen.notes == ("10 rows have no label: they say '-1'",)


@pytest.mark.parametrize(("link", "target"), [("cat/up", "."), ("kitten", "cat"), ("cat/other", "dog")])
def test_a_link_that_puts_a_folder_into_two_classes_is_named(folders: Path, link: str, target: str) -> None:
    labeled = folders / "labeled"
    (labeled / link).symlink_to(labeled / target)
    with pytest.raises(SourceError, match="share a folder, because a link leads to it") as refused:
        open_source(FolderSource(labeled=str(labeled))).scan()
    assert "remove the link" in refused.value.message


def test_a_class_folder_may_be_a_link_and_hold_a_loop(folders: Path) -> None:
    labeled = folders / "labeled"
    (labeled / "cat").rename(folders / "elsewhere")
    (labeled / "cat").symlink_to(folders / "elsewhere")
    (labeled / "dog" / "again").symlink_to(labeled / "dog")
    source = open_source(FolderSource(labeled=str(labeled)))
    assert source.class_names(source.scan()) == ("cat", "dog")
