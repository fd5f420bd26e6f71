"""Labelling a folder: the CSV, the quarantine, the charts and the class folders; nothing of the user's changes."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from selftrain.autolabeling.folders.class_folders import check_class_names, names_for
from selftrain.autolabeling.folders.label_files import LabelingSummary, label_folder, plan_outputs, write_quarantine
from selftrain.config import Fixed, FolderSource, PerClass, PseudoLabel
from selftrain.data.sources.layout import ANSWERS
from selftrain.data.sources.source import open_source
from selftrain.errors import ConfigError, SourceError
from selftrain.learn.models.loading import load

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 converts TensorFlow variables with numpy's older protocol.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

Paint = Callable[..., Path]


@pytest.fixture
def photos(tmp_path: Path, paint: Paint) -> Path:
    """Two of each colour, sure and unsure, two of them with one name; and a broken one."""
    folder = tmp_path / "photos"
    paint(folder / "a" / "1.png", "red")
    paint(folder / "b" / "1.png", "red", seed=1)
    paint(folder / "2.png", "red", strength=20)
    paint(folder / "3.png", "green")
    paint(folder / "4.png", "blue", strength=30)
    (folder / "5.jpg").write_bytes(b"\xff\xd8\xff cut")
    (folder / "notes.txt").write_text("no image")
    return folder


def label(
    model: Path,
    photos: Path,
    out: Path,
    *,
    folders: Path | None = None,
    labeled: Path | None = None,
    copy: bool = False,
    **settings: object,
) -> LabelingSummary:
    outputs = plan_outputs(photos, out, folders=folders)
    rule = PseudoLabel.model_validate(settings)
    return label_folder(*load(model), photos, outputs, settings=rule, labeled=labeled, copy=copy)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_table_holds_path_class_confidence_and_all_probabilities(
    colour_model: Path, photos: Path, tmp_path: Path
) -> None:
    summary = label(colour_model, photos, tmp_path / "out" / "labels.csv")
    table = rows(summary.csv)
    assert list(table[0]) == ["path", "class", "confidence", "accepted", "p_blue", "p_green", "p_red"]
    assert [Path(row["path"]).relative_to(photos).as_posix() for row in table] == [
        "2.png", "3.png", "4.png", "a/1.png", "b/1.png",
    ]  # fmt: skip
    assert [row["class"] for row in table] == ["red", "green", "blue", "red", "red"]
    assert [row["accepted"] for row in table] == ["false", "true", "false", "true", "true"]
    for row in table:
        probs = [float(row[f"p_{name}"]) for name in ("blue", "green", "red")]
        assert sum(probs) == pytest.approx(1, abs=1e-5)
        assert float(row["confidence"]) == max(probs) == float(row[f"p_{row['class']}"])
        assert (float(row["confidence"]) >= 0.9) == (row["accepted"] == "true")
    assert (summary.images, summary.labeled, summary.accepted, summary.quarantined) == (6, 5, 3, 1)
    assert summary.classes["red"].model_dump() == {"predicted": 3, "accepted": 2}


def test_a_file_that_cannot_be_decoded_is_listed_and_left_where_it_is(
    colour_model: Path, photos: Path, tmp_path: Path
) -> None:
    before = contents(photos)
    summary = label(colour_model, photos, tmp_path / "labels.csv", folders=tmp_path / "by_class")
    (row,) = rows(summary.quarantine)
    assert summary.quarantine == tmp_path / "labels.quarantine.csv"
    assert (row["path"], row["reason"]) == (str(photos / "5.jpg"), "truncated")
    assert contents(photos) == before


def test_names_decide_nothing_and_what_they_hide_is_counted(colour_model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "4.png").rename(photos / "4.jpg")
    (photos / "3.png").rename(photos / "3.bin")
    summary = label(colour_model, photos, tmp_path / "labels.csv")
    assert (summary.labeled, summary.quarantined) == (5, 1)
    passed_over, misnamed = summary.findings[-2:]
    assert passed_over.startswith("1 files or folders")
    assert misnamed.startswith("1 images have the name of another format")


def test_one_class_for_all_images_is_said_where_they_are_enough_to_tell(
    colour_model: Path, tmp_path: Path, paint: Paint
) -> None:
    for row in range(8):
        paint(tmp_path / "all" / f"{row}.png", "red", seed=row)
    same = label(colour_model, tmp_path / "all", tmp_path / "all.csv")
    assert same.findings[-1].startswith("all 8 images get the class 'red': unless they show nothing else")
    paint(tmp_path / "all" / "8.png", "blue")
    assert not any(
        "get the class" in each for each in label(colour_model, tmp_path / "all", tmp_path / "b.csv").findings
    )


def test_images_of_which_the_model_sees_little_are_counted(colour_model: Path, tmp_path: Path, paint: Paint) -> None:
    for row, width in enumerate((30, 60, 300)):
        with Image.open(paint(tmp_path / "all" / f"{row}.png", ("red", "blue", "green")[row], side=30)) as image:
            image.resize((width, 30)).save(tmp_path / "all" / f"{row}.png")
    found = label(colour_model, tmp_path / "all", tmp_path / "all.csv")
    assert any(each.startswith("2 images are twice as long as wide, or more") for each in found.findings)


@pytest.mark.parametrize(
    ("swapped", "said"),
    [
        (False, "20 images lie in folders named after classes, and 20 of them get that class"),
        (True, "20 images lie in folders named after classes, and 0 of them get that class, not clearly better than"),
    ],
)
def test_folders_named_after_classes_show_whether_the_model_guesses(
    colour_model: Path, tmp_path: Path, paint: Paint, swapped: bool, said: str
) -> None:
    for row in range(20):
        colour = ("red", "blue")[row % 2]
        folder = ("red", "blue")[(row + swapped) % 2]
        paint(tmp_path / "all" / "day 1" / folder / f"{row}.png", colour, seed=row)
    paint(tmp_path / "all" / "unsorted" / "1.png", "green")
    found = label(colour_model, tmp_path / "all", tmp_path / "all.csv")
    assert found.findings[-1].startswith(said)
    assert swapped == ("or its classes are in another order" in found.findings[-1])


def test_both_charts_lie_beside_the_table_or_where_asked(colour_model: Path, photos: Path, tmp_path: Path) -> None:
    summary = label(colour_model, photos, tmp_path / "labels.csv")
    assert [chart.name for chart in summary.charts] == [
        "labels.confidence.png", "labels.confidence_per_class.png",
    ]  # fmt: skip
    for chart in summary.charts:
        with Image.open(chart) as image:
            assert image.width > 300
    assert plan_outputs(photos, tmp_path / "x.csv", charts=tmp_path / "c").overall.parent == tmp_path / "c"


def test_a_class_can_have_a_threshold_of_its_own(colour_model: Path, photos: Path, tmp_path: Path) -> None:
    settings = {"threshold": PerClass(values={"blue": 0.3}, default=0.9)}
    summary = label(colour_model, photos, tmp_path / "labels.csv", **settings)
    assert [row["class"] for row in rows(summary.csv) if row["accepted"] == "true"] == ["green", "blue", "red", "red"]
    with pytest.raises(ConfigError, match=r"'blu'.*did you mean 'blue'"):
        label(colour_model, photos, tmp_path / "labels.csv", threshold=PerClass(values={"blu": 0.3}))


def test_a_stricter_threshold_accepts_a_subset(colour_model: Path, photos: Path, tmp_path: Path) -> None:
    accepted: list[set[str]] = []
    for value in (0.0, 0.5, 0.9, 1.0):
        summary = label(colour_model, photos, tmp_path / "labels.csv", threshold=Fixed(value=value))
        accepted.append({row["path"] for row in rows(summary.csv) if row["accepted"] == "true"})
    assert len(accepted[0]) == 5
    assert all(strict <= loose for loose, strict in pairwise(accepted))


@pytest.mark.parametrize("copy", [False, True])
def test_class_folders_hold_every_accepted_image_also_those_of_one_name(
    colour_model: Path, photos: Path, tmp_path: Path, copy: bool
) -> None:
    target = tmp_path / "by_class"
    summary = label(colour_model, photos, tmp_path / "labels.csv", folders=target, copy=copy)
    assert sorted(path.name for path in target.iterdir()) == [ANSWERS, "blue", "green", "red"]
    made = sorted(path for path in target.rglob("*.png"))
    assert len(made) == summary.accepted == 3
    assert all(path.is_symlink() != copy for path in made)
    originals = {hashlib.sha256((photos / name).read_bytes()).digest() for name in ("a/1.png", "b/1.png", "3.png")}
    assert {hashlib.sha256(path.read_bytes()).digest() for path in made} == originals
    assert [path.name for path in sorted((target / "green").iterdir())] == ["3.png"]


def test_links_hold_from_any_working_directory(
    colour_model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    label(colour_model, Path("photos"), Path("labels.csv"), folders=Path("by_class"))
    monkeypatch.chdir("/")
    assert (tmp_path / "by_class" / "green" / "3.png").read_bytes() == (photos / "3.png").read_bytes()


def test_a_folder_that_holds_something_is_not_written_to(colour_model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        plan_outputs(photos, tmp_path / "labels.csv", folders=tmp_path / "full")
    assert os.listdir(tmp_path / "full") == ["mine.txt"]


def test_results_never_lie_among_the_images(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is inside --images"):
        plan_outputs(photos, tmp_path / "labels.csv", folders=photos / "by_class")
    with pytest.raises(ConfigError, match="charts would be among the images"):
        plan_outputs(photos, photos / "labels.csv")
    assert plan_outputs(photos, photos / "labels.csv", charts=tmp_path).csv == photos / "labels.csv"


def test_another_file_is_not_replaced_and_an_earlier_table_is(colour_model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "budget.csv").write_text("month,euros\n")
    with pytest.raises(ConfigError, match="is not a table of labels"):
        plan_outputs(photos, tmp_path / "budget.csv")
    out = tmp_path / "labels.csv"
    first = label(colour_model, photos, out)
    (photos / "3.png").unlink()
    assert label(colour_model, photos, out).labeled == first.labeled - 1


@pytest.mark.parametrize("name", ["l.quarantine.csv", "l.confidence.png", "l.confidence_per_class.png"])
def test_what_lies_beside_the_table_and_is_not_ours_is_not_replaced(photos: Path, tmp_path: Path, name: str) -> None:
    if name.endswith(".png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    else:
        (tmp_path / name).write_text("disease,days\n")
    before = (tmp_path / name).read_bytes()
    with pytest.raises(ConfigError, match=rf"{name} exists and is not a .*left as it is"):
        plan_outputs(photos, tmp_path / "l.csv")
    assert (tmp_path / name).read_bytes() == before


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a file")
    out = tmp_path / "l.csv"
    with pytest.raises(ConfigError, match=r"f is not a folder; choose another --out"):
        plan_outputs(photos, tmp_path / "f" / "l.csv")
    for charts in (tmp_path / "f", tmp_path / "f" / "x"):
        with pytest.raises(ConfigError, match=r"f is not a folder; choose another --charts"):
            plan_outputs(photos, out, charts=charts)
    with pytest.raises(ConfigError, match=r"f is not a folder; choose another --materialize"):
        plan_outputs(photos, out, folders=tmp_path / "f" / "x")
    assert sorted(os.listdir(tmp_path)) == ["f", "photos"]


def test_folders_of_a_models_answers_are_not_taken_for_peoples_labels(
    colour_model: Path, photos: Path, tmp_path: Path
) -> None:
    target = tmp_path / "by_class"
    label(colour_model, photos, tmp_path / "labels.csv", folders=target)
    source = FolderSource(labeled=str(target))
    with pytest.raises(SourceError, match=r"source\.labeled: .* was written by `selftrain pseudo-label --materialize`"):
        open_source(source).scan()
    (target / ANSWERS).unlink()  # somebody has checked them
    assert len(open_source(source).scan().table) > 0


def test_results_may_not_lie_in_each_other(photos: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "out" / "l.csv", tmp_path / "out" / "cat" / "l.csv"):
        with pytest.raises(ConfigError, match=r"l\.csv would be in --materialize .*folder of its own"):
            plan_outputs(photos, out, folders=tmp_path / "out")
    with pytest.raises(ConfigError, match=r"l\.confidence\.png would be in --materialize"):
        plan_outputs(photos, tmp_path / "l.csv", charts=tmp_path / "out", folders=tmp_path / "out")
    with pytest.raises(ConfigError, match=r"would be a file and .* a folder"):
        plan_outputs(photos, tmp_path / "l.csv", charts=tmp_path / "l.csv" / "charts")
    with pytest.raises(ConfigError, match=r"would be a file and|folder of its own"):
        plan_outputs(photos, tmp_path / "l", folders=tmp_path / "l")


def test_a_table_whose_folder_is_a_file_by_now_gives_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a file")
    with pytest.raises(ConfigError, match=r"l\.csv cannot be written \(.*\); give another --out"):
        write_quarantine([], tmp_path / "f" / "l.csv")


def test_folders_without_a_readable_image_are_errors(colour_model: Path, tmp_path: Path) -> None:
    for name in ("missing", "empty", "broken"):
        (tmp_path / "broken").mkdir(exist_ok=True)
        (tmp_path / "empty").mkdir(exist_ok=True)
        (tmp_path / "broken" / "a.png").write_bytes(b"x")
        with pytest.raises(SourceError, match=name):
            label(colour_model, tmp_path / name, tmp_path / "labels.csv")
    assert [row["reason"] for row in rows(tmp_path / "labels.quarantine.csv")] == ["not_an_image"]


def test_names_differ_where_case_does_not_count_and_stay_where_they_can() -> None:
    paths = ["p/a/Cat.png", "p/b/cat.PNG", "p/dog.png", "p/a/x/cat.png"]
    names = names_for(paths, images=Path("p"))
    assert names["p/dog.png"] == "dog.png"
    assert len({name.casefold() for name in names.values()}) == 4


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "", "a\\b"])
def test_a_class_that_would_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a folder's name"):
        check_class_names(["cat", name])


def test_classes_that_differ_by_case_alone_are_refused() -> None:
    with pytest.raises(ConfigError, match="'Cat', 'cat' differ only by case"):
        check_class_names(["Cat", "dog", "cat"])
