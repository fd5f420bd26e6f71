import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from selftrain.errors import InputError
from selftrain.files.permission import not_permitted
from selftrain.files.workspace import Workspace


@contextmanager
def as_another_user() -> Iterator[None]:
    """Root may write everywhere; the block runs as a user who owns nothing."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users may enter, which pytest's own may not be."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_ensure_makes_the_folders_and_hides_them_from_git(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / ".selftrain").ensure()
    assert (workspace.root / ".gitignore").read_text() == "*\n"
    assert all(folder.is_dir() for folder in (workspace.datasets, workspace.decoded_cache, workspace.mlflow_artifacts))


def test_ensure_can_be_repeated_and_keeps_what_is_there(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path).ensure()
    (workspace.root / ".gitignore").write_text("mine\n")
    (workspace.locks / "run").write_text("")
    workspace.ensure()
    assert (workspace.root / ".gitignore").read_text() == "mine\n"
    assert (workspace.locks / "run").exists()


def test_a_folder_that_this_user_may_not_make_is_named_with_what_to_do(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o500)
    said = r'closed/work cannot be written to \(Permission denied\).*install -d -o "\$USER"'
    with as_another_user(), pytest.raises(InputError, match=said):
        Workspace(closed / "work").ensure()


@pytest.mark.parametrize("folder", ["", "datasets", "locks"])
def test_a_workspace_of_another_user_is_refused_before_anything_is_done(place: Path, folder: str) -> None:
    workspace = Workspace(place / "theirs").ensure()
    for each in (workspace.root, *workspace.root.iterdir()):
        each.chmod(0o777 if each.is_dir() else 0o666)
    (workspace.root / folder).chmod(0o555)
    with as_another_user(), pytest.raises(InputError, match="theirs cannot be written to"):
        workspace.ensure()


def test_a_file_of_another_user_deep_inside_is_one_line_that_names_it(place: Path) -> None:
    (place / "theirs").mkdir(mode=0o555)
    with as_another_user():
        with pytest.raises(PermissionError) as refused:
            (place / "theirs" / "pending").mkdir()
        told = not_permitted(refused.value)
    assert told is not None
    assert told.message.startswith(f"{place / 'theirs' / 'pending'} cannot be used (Permission denied): ")
    assert f"{place / 'theirs'} belongs to user" in told.message


def test_a_folder_of_ones_own_without_the_right_to_it_is_told_so(place: Path) -> None:
    place.chmod(0o777)
    with as_another_user():
        (place / "mine").mkdir(mode=0o555)
        with pytest.raises(PermissionError) as refused:
            (place / "mine" / "pending").mkdir()
        told = not_permitted(refused.value)
    assert told is not None
    assert "it is yours; give yourself the right with chmod u+rwX" in told.message


def test_other_errors_are_not_taken_for_another_users_file() -> None:
    assert not_permitted(FileNotFoundError(2, "No such file or directory", "a")) is None
    assert not_permitted(PermissionError("of no file")) is None
