from pathlib import Path

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
