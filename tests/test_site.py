"""The documentation as a site: every page is in its navigation, its tools fit to the lock, and it loads nothing."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
MKDOCS = ROOT / "build" / "docs" / "env" / "bin" / "mkdocs"
LOADED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)")


def listed() -> list[str]:
    """The pages in the navigation. MkDocs' file has a tag of its own, so it is not read as YAML."""
    navigation = CONFIG.read_text(encoding="utf-8").split("\nnav:\n", 1)[1]
    return re.findall(r"(\S+\.md)$", navigation, re.MULTILINE)


def pinned(path: Path) -> Iterator[tuple[str, str]]:
    yield from re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_page_is_in_the_navigation_once() -> None:
    pages = [*(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md"), ROOT / "benchmarks/results/README.md"]
    pages += [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/adr/README.md")]
    assert sorted(listed()) == sorted(path.relative_to(ROOT).as_posix() for path in pages)


def test_the_sites_tools_have_the_versions_of_the_lock_and_are_not_in_it() -> None:
    ours, theirs = dict(pinned(ROOT / "requirements.lock")), list(pinned(ROOT / "docs/site/requirements.lock"))
    assert {name: version for name, version in theirs if name in ours and ours[name] != version} == {}
    assert "mkdocs" in dict(theirs)
    assert "mkdocs" not in ours


@pytest.mark.skipif(not MKDOCS.is_file(), reason="NOT BUILT: `make docs` has not made its environment here")
def test_the_site_is_built_without_a_warning_and_its_pages_load_nothing_from_another_host() -> None:
    done = subprocess.run(["make", "docs"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path: path.read_text(encoding="utf-8") for path in (MKDOCS.parents[2] / "site").rglob("*.html")}
    assert len(pages) > len(listed())
    assert {found for text in pages.values() for found in LOADED.findall(text)} == set()
