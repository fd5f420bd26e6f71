"""label: labels that people give later, and the conflicts among them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selftrain import config
from selftrain.data.ingest.ingest import ingest
from selftrain.data.sources.source import open_source
from selftrain.data.store.dataset import open_dataset

SMALL = config.DigitsSource(labeled=60, validation=60, test=60)


@pytest.fixture
def digits(selftrain: Callable[..., Any], tmp_path: Path) -> dict[str, list[str]]:
    """The digits, taken in by the workspace of the folder that commands run in: the paths of each split."""
    source, store = open_source(SMALL), open_dataset(config.Place()).store
    manifest = ingest(source, source.scan(), store, settings=config.Ingest(), splitting=config.Splitting()).manifest
    paths: dict[str, list[str]] = {}
    for path, split in zip(*(manifest.table[name].to_pylist() for name in ("origin", "split")), strict=True):
        paths.setdefault(split, []).append(path)
    return paths


def test_labels_are_added_once_and_conflicts_are_listed_until_they_are_settled(
    selftrain: Callable[..., Any], digits: dict[str, list[str]], tmp_path: Path
) -> None:
    first, second = digits["unlabeled"][:2]
    (tmp_path / "labels.csv").write_text(f"path,label,who\n{first},7,anna\n{second},1,anna\n{second},2,bob\n")
    added = selftrain("label", "--from", "labels.csv")
    assert added.code == 0
    assert added.out.splitlines()[:2] == [
        "added: 3 labels; 0 were known",
        "digits: 1 images with labels of the log, 1 in conflict",
    ]
    assert added.out.splitlines()[3].split()[1:] == [second, "1", "(anna)", "2", "(bob)"]
    assert selftrain("label", "--from", "labels.csv").out.startswith("added: 0 labels; 3 were known")
    listed = json.loads(selftrain("label", "--list", "--json").out)
    assert [(each["path"], each["labels"]) for each in listed["conflicts"]] == [(second, ["1", "2"])]
    (tmp_path / "settled.csv").write_text(f"image_id,label\n{listed['conflicts'][0]['image_id']},2\n")
    settled = json.loads(selftrain("label", "--from", "settled.csv", "--settle", "--who", "eva", "--json").out)
    assert (settled["added"], settled["labelled"], settled["conflicts"]) == (1, 2, [])


def test_labels_that_no_pod_would_see_are_told(
    selftrain: Callable[..., Any], digits: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = "parameters: {experiment: {name: digits, source: {kind: digits}}}\n"
    pods = plain + "steps: {score: {settings: {orchestrator.kubernetes: {backoff_limit_margin: 6}}}}\n"
    (tmp_path / "plain.yaml").write_text(plain)
    (tmp_path / "pods.yaml").write_text(pods)
    (tmp_path / "labels.csv").write_text(f"path,label\n{digits['unlabeled'][0]},7\n")
    monkeypatch.delenv("SELFTRAIN_STATE", raising=False)
    said = "WARNING: pods.yaml is for pods, and SELFTRAIN_STATE is not set here"
    assert said not in selftrain("label", "--from", "labels.csv", "--config", "plain.yaml").err
    told = selftrain("label", "--from", "labels.csv", "--config", "pods.yaml")
    assert told.code == 0
    assert told.err.startswith(said)
    monkeypatch.setenv("SELFTRAIN_STATE", str(tmp_path / "state"))
    assert said not in selftrain("label", "--list", "--config", "pods.yaml").err


def test_a_class_that_the_data_set_does_not_have_is_wrong_input(
    selftrain: Callable[..., Any], digits: dict[str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(f"path,label\n{digits['unlabeled'][0]},ten\n")
    ended = selftrain("label", "--from", "labels.csv")
    assert ended.code == 2
    assert "label of an unknown class ('ten')" in ended.err
    assert "Traceback" not in ended.err


def test_without_a_file_or_a_list_it_says_what_to_give(selftrain: Callable[..., Any]) -> None:
    ended = selftrain("label")
    assert (ended.code, ended.out) == (2, "")
    assert "give --from FILE" in ended.err


def test_a_file_that_is_missing_is_named_before_anything_else(selftrain: Callable[..., Any], tmp_path: Path) -> None:
    ended = selftrain("label", "--from", "labls.csv")
    assert (ended.code, ended.out) == (2, "")
    assert "--from: 'labls.csv' is not a file" in ended.err
    assert not (tmp_path / ".selftrain").exists()


def test_images_that_were_collected_can_be_labelled_before_the_first_run(
    selftrain: Callable[..., Any], tmp_path: Path, paint: Callable[..., Path]
) -> None:
    paint(tmp_path / "inbox" / "a.png", "red")
    (tmp_path / "shop.yaml").write_text("parameters: {experiment: {name: shop, inbox: {url: inbox, settle_s: 0}}}")
    (tmp_path / "labels.csv").write_text("path,label\ninbox/a.png,7\n")
    early = selftrain("label", "--from", "labels.csv", "--config", "shop.yaml")
    assert "holds no image yet; run or collect once" in early.err
    assert selftrain("collect", "--config", "shop.yaml").code == 0
    added = selftrain("label", "--from", "labels.csv", "--config", "shop.yaml")
    assert (added.code, added.out.splitlines()[0]) == (0, "added: 1 labels; 0 were known")
    (tmp_path / "labels.csv").write_text("path,label\ninbox/a.png,red\n")
    assert "label of an unknown class ('red')" in selftrain("label", "--from", "labels.csv", "-c", "shop.yaml").err


def test_labels_are_taken_back_by_the_file_that_gave_them(
    selftrain: Callable[..., Any], digits: dict[str, list[str]], tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(f"path,label\n{digits['unlabeled'][0]},7\n")
    selftrain("label", "--from", "labels.csv")
    back = selftrain("label", "--from", "labels.csv", "--retract")
    assert back.out.splitlines() == [
        "taken back: the labels of 1 images; 0 rows had no more to take back",
        "digits: 0 images with labels of the log, 0 in conflict, 1 taken back",
    ]
    both = selftrain("label", "--from", "labels.csv", "--retract", "--settle")
    assert "give one of them" in both.err
