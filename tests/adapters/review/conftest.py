"""What the tests of the review page share: a data set, and its page served by a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.adapters.review.served import ROOT, Page
from tests.adapters.review.small_set import make_source, run_again


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("review")
    make_source(folder)
    run_again(folder)
    return folder


@pytest.fixture
def start(tmp_path: Path, source: Path) -> Iterator[Callable[[], Page]]:
    """start() serves the queue of a data set of the test's own, again after a kill."""
    (tmp_path / "labeled").symlink_to(source / "labeled")
    (tmp_path / "pool").symlink_to(source / "pool")
    run_again(tmp_path)
    pages: list[Page] = []

    def started() -> Page:
        command = [sys.executable, "-m", "tests.adapters.review.small_set", str(tmp_path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        pages.append(Page(process, process.stdout.readline().strip()))
        return pages[-1]

    yield started
    for page in pages:
        page.process.kill()
        page.process.wait()
        assert page.process.stdout is not None
        page.process.stdout.close()


@pytest.fixture
def page(start: Callable[[], Page]) -> Page:
    return start()
