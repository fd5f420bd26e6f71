"""restore: a data set as it was in a run, by the version that the run's record names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selftrain.adapters.snapshots.repository import snapshot
from selftrain.files.workspace import Workspace

pytestmark = [
    # pygtrie warns at a use of it that DVC makes; DVC leaves its SQLite state to the garbage collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_a_data_set_is_restored_and_unsaved_files_are_only_lost_when_asked(
    selftrain: Callable[..., Any], tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / ".selftrain").ensure()
    index = workspace.dataset("digits") / "index.parquet"
    index.parent.mkdir()
    index.write_bytes(b"one")
    version = snapshot(workspace, "digits").hash
    index.unlink()
    index.write_bytes(b"unsaved")
    refused = selftrain("restore", "digits", version)
    assert refused.code == 1
    assert "--overwrite" in refused.err
    assert index.read_bytes() == b"unsaved"
    restored = selftrain("restore", "digits", version, "--overwrite")
    assert (restored.code, restored.out) == (0, f"restored: .selftrain/datasets/digits is {version}\n")
    assert index.read_bytes() == b"one"


def test_what_is_no_version_is_wrong_input(selftrain: Callable[..., Any]) -> None:
    ended = selftrain("restore", "digits", "latest")
    assert ended.code == 2
    assert "'latest' is not a dataset version" in ended.err
