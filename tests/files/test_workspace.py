import os
from pathlib import Path

import pytest

from selftrain.errors import InputError
from selftrain.files.workspace import Workspace


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


def test_a_folder_that_this_user_may_not_make_is_named_with_what_to_do(tmp_path: Path) -> None:
    closed, root = tmp_path / "closed", os.geteuid() == 0
    closed.mkdir(mode=0o500)
    if root:  # root may write everywhere
        os.seteuid(65534)
    try:
        with pytest.raises(
            InputError, match=r'closed/work cannot be written to \(Permission denied\).*install -d -o "\$USER"'
        ):
            Workspace(closed / "work").ensure()
    finally:
        if root:
            os.seteuid(0)
