"""selftrain.autolabel_boxes: a detector of the user's own, whose boxes are checked, measured and accepted."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import selftrain
from selftrain.config import Fixed, PerClass, Quantile, TargetPrecision
from selftrain.errors import ConfigError, PredictionError, SourceError
from selftrain.progress import silent
from tests.learn.detection.blocks import BLOCKS, Block, block_detector, box_of, paint_blocks

Pixels = np.ndarray
Convert = Callable[[list[float], int, int], list[float]]
HEIGHT, WIDTH = 64, 96


def blocks_of(seed: int) -> tuple[Block, ...]:
    """Three blocks in different cells, drawn by chance."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(24)[:3]
    return tuple((int(cell % 6), int(cell // 6), BLOCKS[int(rng.integers(2))]) for cell in cells)


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO file of 40 images with three blocks each, beside them."""
    folder = tmp_path_factory.mktemp("labelled")
    content: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(BLOCKS)],
    }
    for seed in range(40):
        name = f"{seed}.png"
        paint_blocks(folder / name, *blocks_of(seed))
        content["images"].append({"id": seed + 1, "file_name": name, "height": HEIGHT, "width": WIDTH})
        for block in blocks_of(seed):
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": seed + 1,
                    "category_id": BLOCKS.index(block[2]) + 1,
                    "bbox": box_of(block),
                }
            )
    (folder / "labels.json").write_text(json.dumps(content))
    return folder / "labels.json"


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Ten images with three blocks each, and one with none."""
    for seed in range(100, 110):
        paint_blocks(tmp_path / "pool" / f"{seed}.png", *blocks_of(seed))
    paint_blocks(tmp_path / "pool" / "deep" / "none.png")
    return tmp_path / "pool"


def corners(box: list[float], height: int, width: int) -> list[float]:
    return [box[0], box[1], box[0] + box[2], box[1] + box[3]]


def boxes_in(image: Pixels) -> list[tuple[list[float], int]]:
    """x, y, width, height and class of each block in an image."""
    found = []
    for row in range(image.shape[0] // 16):
        for column in range(image.shape[1] // 16):
            cell = image[row * 16 : (row + 1) * 16, column * 16 : (column + 1) * 16].mean(axis=(0, 1))
            if cell.max() > 100:
                found.append((box_of((column, row, "")), int(cell.argmax())))
    return found


def detector(convert: Convert = corners, *, shift: int = 0, score: float = 0.9) -> Callable[[list[Pixels]], object]:
    """A detector that finds every block, and writes boxes as `convert` does."""

    def answer(batch: list[Pixels]) -> object:
        answers = []
        for image in batch:
            found = boxes_in(image)
            boxes = [convert(box, *image.shape[:2]) for box, _ in found]
            answers.append((boxes, [label + shift for _, label in found], [score] * len(found)))
        return answers

    return answer


def label(model: object, unlabeled: object, **more: Any) -> Any:
    call = {"model": model, "unlabeled": unlabeled, "class_names": BLOCKS, "progress": silent}
    return selftrain.autolabel_boxes(**{**call, **more})


def test_every_box_above_the_threshold_is_accepted_measured_and_written(labels: Path, pool: Path) -> None:
    found = label(detector(), pool, labeled=labels)
    assert (found.counts.images, found.counts.accepted, found.counts.without_boxes) == (11, 30, 1)
    assert (found.counts.labeled_images, found.counts.labeled_objects) == (40, 120)
    assert (found.measured.right, found.measured.images) == (120, 120)
    assert sum(each.accepted for each in found.classes.values()) == 30
    assert found.warnings == ()
    content = json.loads(found.to_coco(pool.parent / "out" / "boxes.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    assert set(names.values()) == {f"{seed}.png" for seed in range(100, 110)} | {"deep/none.png"}
    written = [each["bbox"] for each in content["annotations"] if names[each["image_id"]] == "103.png"]
    assert sorted(written) == sorted(box_of(block) for block in blocks_of(103))
    assert all(each["source"] == "pseudo" and each["score"] == 0.9 for each in content["annotations"])
    with pytest.raises(ConfigError, match="exists, and was left as it is"):
        found.to_coco(pool.parent / "out" / "boxes.json")


WRONG: dict[str, Convert] = {
    "xywh": lambda box, height, width: box,
    "center_xywh": lambda box, height, width: [box[0] + box[2] / 2, box[1] + box[3] / 2, *box[2:]],
    "yxyx": lambda box, height, width: [box[1], box[0], box[1] + box[3], box[0] + box[2]],
    "rel_xyxy": lambda box, height, width: [
        v / s for v, s in zip(corners(box, 0, 0), (width, height) * 2, strict=True)
    ],
    "rel_center_xywh": lambda box, height, width: [
        (box[0] + box[2] / 2) / width,
        (box[1] + box[3] / 2) / height,
        box[2] / width,
        box[3] / height,
    ],
}


@pytest.mark.parametrize("form", WRONG)
def test_boxes_in_another_format_are_refused_by_name_and_right_once_it_is_said(
    labels: Path, pool: Path, form: str
) -> None:
    with pytest.raises(PredictionError, match=rf"box_format='{form}'"):
        label(detector(WRONG[form]), pool, labeled=labels)
    found = label(detector(WRONG[form]), pool, labeled=labels, box_format=form)
    assert found.measured.right == 120
    assert sorted(map(tuple, found.accepted[0].boxes)) == sorted(
        tuple(corners(box_of(block), 0, 0)) for block in blocks_of(100)
    )


@pytest.mark.parametrize(
    ("form", "said"),
    [("rel_xyxy", "shares of the image, not pixels; say box_format='rel_xyxy'"), ("xywh", "end before they begin")],
)
def test_without_labels_the_shape_of_the_boxes_gives_a_wrong_format_away(pool: Path, form: str, said: str) -> None:
    with pytest.raises(PredictionError, match=said):
        label(detector(WRONG[form]), pool)


def test_pixels_where_shares_were_promised_are_refused(pool: Path) -> None:
    with pytest.raises(PredictionError, match="pixels, not shares; say box_format='xyxy'"):
        label(detector(), pool, box_format="rel_xyxy")


@pytest.mark.parametrize(("value", "name"), [(0.0, 0), (0.0, -1), (-1.0, -1)])
@pytest.mark.parametrize("known", [True, False])
def test_answers_filled_up_to_a_fixed_length_are_read(
    labels: Path, pool: Path, value: float, name: int, known: bool
) -> None:
    """Three real boxes of 100, as TensorFlow's object detection, LiteRT and KerasHub answer."""

    def model(batch: list[Pixels]) -> object:
        rows = detector()(batch)
        assert isinstance(rows, list)
        return [
            (b + [[value] * 4] * (100 - len(b)), c + [name] * (100 - len(c)), s + [value] * (100 - len(s)))
            for b, c, s in rows
        ]

    found = label(model, pool, labeled=labels if known else None)
    assert (found.counts.accepted, found.counts.boxes, found.counts.empty) == (30, 30, 0)
    assert found.measured is None or (found.measured.right, found.measured.images) == (120, 120)


def test_labelled_images_that_show_the_format_decide_it(labels: Path, pool: Path) -> None:
    """Many tiny boxes of a sure score in the corner look like shares of the image; empty ones are not wrong boxes."""

    def model(batch: list[Pixels]) -> object:
        rows = detector()(batch)
        assert isinstance(rows, list)
        return [(b + [[0, 0, 1, 1], [0.5, 0, 0.5, 1]] * 20, c + [0] * 40, s + [0.6] * 40) for b, c, s in rows]

    found = label(model, pool, labeled=labels, threshold=0.5)
    assert (found.counts.accepted, found.counts.empty) == (30 + 11 * 20, 11 * 20)
    assert found.measured.images == 120 + 40 * 20
    with pytest.raises(PredictionError, match="shares of the image, not pixels"):
        label(model, pool)


def test_boxes_of_a_smaller_copy_are_told(labels: Path, pool: Path) -> None:
    """Where they find next to nothing they are refused; where they find some, a warning says it."""
    with pytest.raises(PredictionError, match="are they in pixels of the image as it was given"):
        label(detector(lambda box, height, width: [v / 3 for v in corners(box, 0, 0)]), pool, labeled=labels)
    asked = iter(range(1000))

    def some(box: list[float], height: int, width: int) -> list[float]:
        scale = 1 if next(asked) % 15 == 0 else 3
        return [v / scale for v in corners(box, 0, 0)]

    found = label(detector(some), pool, labeled=labels)
    assert "are they in pixels of the image as it was given" in found.warnings[0]
    assert found.measured.right < 12


def test_classes_that_count_from_one_are_refused(labels: Path, pool: Path) -> None:
    three = ("nothing", *BLOCKS)
    with pytest.raises(PredictionError, match=r"name its class, and 100% with \+1 to each class"):
        label(detector(), pool, labeled=labels, class_names=three)
    with pytest.raises(PredictionError, match=r"the class 2; with 2 class_names, classes are 0 to 1"):
        label(detector(shift=1), pool)


def test_classes_in_another_order_are_told(labels: Path, pool: Path) -> None:
    blue = ("red", "blue", "green")
    found = label(lambda batch: [([[0, 0, 9, 9]], [1], [0.9])] * len(batch), pool, class_names=blue, labeled=labels)
    assert "the labelled file has no class blue: how precise these are was not measured" in found.warnings
    assert found.classes["blue"].measured is None
    swapped = detector()

    def mixed(batch: list[Pixels]) -> object:
        return [(boxes, [1 - each for each in classes], scores) for boxes, classes, scores in swapped(batch)]

    with pytest.raises(PredictionError, match="100% in another order: red is green, green is red; give class_names"):
        label(mixed, pool, labeled=labels)


def test_of_several_boxes_at_an_object_the_class_of_the_surest_counts(labels: Path, pool: Path) -> None:
    """A detector may give each place once per class, sorted by class."""
    right = detector()

    def model(batch: list[Pixels]) -> object:
        rows = right(batch)
        assert isinstance(rows, list)
        return [(b + b, [1 - each for each in c] + c, [0.1] * len(b) + s) for b, c, s in rows]

    assert label(model, pool, labeled=labels).measured.right == 120


def test_classes_that_are_often_mistaken_are_told(labels: Path, pool: Path) -> None:
    right, rng = detector(), np.random.default_rng(0)

    def model(batch: list[Pixels]) -> object:
        rows = right(batch)
        assert isinstance(rows, list)
        return [(b, rng.integers(3, size=len(c)), s) for b, c, s in rows]

    found = label(model, pool, labeled=labels, class_names=(*BLOCKS, "other"))
    assert any("is the order of class_names the detector's?" in each for each in found.warnings)


def test_a_labelled_image_that_is_cut_short_is_left_out_by_name(labels: Path, pool: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(labels.parent, tmp_path / "copy"))
    whole = (copy / "7.png").read_bytes()
    (copy / "7.png").write_bytes(whole[: len(whole) - 20])
    found = label(detector(), pool, labeled=copy / "labels.json")
    assert (found.counts.labeled_images, found.counts.labeled_objects) == (39, 117)
    assert (found.measured.right, found.measured.images) == (117, 117)
    assert any("1 labelled images cannot be decoded" in each and "7.png" in each for each in found.warnings)


def test_thousands_of_boxes_in_an_image_are_compared_in_little_memory(pool: Path) -> None:
    def model(batch: list[Pixels]) -> object:
        return [([[1, 1, 40, 40]] * 6000, [0] * 6000, [0.9] * 6000)] * len(batch)

    tracemalloc.start()
    found = label(model, pool / "deep")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any("300 of 300 accepted boxes that were compared overlap" in each for each in found.warnings)
    assert peak < 100e6


@pytest.mark.parametrize(
    ("box", "form", "said"),
    [
        ([0.1, 0.1, 0.5, 0.5], "xyxy", "are they shares of the image"),
        ([5, 5, 20, 20], "rel_xyxy", "are they pixels"),
        ([40, 30, 10, 12], "xyxy", "end before they begin"),
        ([200, 200, 300, 300], "xyxy", "reach out of their image"),
        ([5, 5, 20, 20], "xyxy", None),
    ],
)
def test_few_boxes_that_are_all_odd_are_told(pool: Path, box: list[float], form: str, said: str | None) -> None:
    found = label(lambda batch: [([box], [0], [0.9])] * len(batch), pool, box_format=form)
    told = [each for each in found.warnings if each.startswith("all 11 boxes")]
    assert len(told) == (said is not None)
    assert said is None or said in told[0]


def test_a_wished_precision_finds_the_score_that_each_class_needs(labels: Path, pool: Path) -> None:
    """Green boxes below .6 are wrong, red ones never; the pool holds both."""

    def model(batch: list[Pixels]) -> object:
        answers = []
        for image in batch:
            rows = []
            for box, label in boxes_in(image):
                rows.append((corners(box, 0, 0), label, 0.7 if label else 0.3))
                if label:
                    rows.append(([v + 8 for v in corners(box, 0, 0)], 1, 0.4))
            answers.append(tuple(zip(*rows, strict=True)) if rows else ([], [], []))
        return answers

    found = label(model, pool, labeled=labels, threshold=TargetPrecision(target=0.9))
    assert found.threshold == "precision 0.9"
    green, red = found.classes["green"], found.classes["red"]
    assert green.cutoff == pytest.approx(0.7)
    assert red.cutoff <= 0.31
    assert green.accepted < green.predicted
    assert red.accepted == red.predicted
    assert green.measured is not None
    assert green.measured.precision == 1.0
    with pytest.raises(ConfigError, match="measured on"):
        label(model, pool, threshold=TargetPrecision(target=0.9))


def test_many_boxes_of_low_scores_do_not_hide_the_precise_ones(labels: Path, pool: Path) -> None:
    """A network answers tens of boxes below .3 an image that are all wrong."""
    rng = np.random.default_rng(0)

    def model(batch: list[Pixels]) -> object:
        answers = []
        for image in batch:
            rows = [(corners(box, 0, 0), label, float(rng.uniform(0.5, 1))) for box, label in boxes_in(image)]
            rows += [([1, 1, 5, 5], int(rng.integers(2)), float(rng.uniform(0.05, 0.3))) for _ in range(30)]
            answers.append(tuple(zip(*rows, strict=True)))
        return answers

    found = label(model, pool, labeled=labels, threshold=TargetPrecision(target=0.9))
    assert found.counts.accepted >= 25
    assert found.measured.precision >= 0.9
    assert all(each.cutoff > 0.2 for each in found.classes.values())


def test_thresholds_per_class_count_and_unknown_classes_do_not(pool: Path) -> None:
    found = label(detector(score=0.6), pool, threshold=PerClass(values={"red": 0.5}, default=0.7))
    assert found.classes["green"].accepted == 0
    assert found.classes["red"].accepted == found.classes["red"].predicted > 0
    assert any("green: none of" in each for each in found.warnings)
    with pytest.raises(ConfigError, match="'cat' is not one of the classes"):
        label(detector(), pool, threshold=PerClass(values={"cat": 0.5}))
    with pytest.raises(ConfigError, match="give a score from 0 to 1"):
        label(detector(), pool, threshold=Quantile())


@pytest.mark.parametrize("given", ["dicts", "columns", "objects"])
def test_answers_may_be_dicts_objects_or_three_lists(pool: Path, given: str) -> None:
    class Result:
        def __init__(self, boxes: object, labels: object, scores: object) -> None:
            self.boxes, self.labels, self.scores = boxes, labels, scores

    def model(batch: list[Pixels]) -> object:
        rows = detector()(batch)
        assert isinstance(rows, list)
        named = [(np.array(b).reshape(-1, 4), [BLOCKS[c] for c in classes], s) for b, classes, s in rows]
        if given == "dicts":
            return [dict(zip(("boxes", "labels", "scores"), each, strict=True)) for each in named]
        if given == "objects":
            return [Result(*each) for each in named]
        return tuple(list(column) for column in zip(*named, strict=True))

    assert label(model, pool, batch_size=3).counts.accepted == 30


@pytest.mark.parametrize("kind", ["tuples", "dicts", "lists"])
def test_a_tuple_of_answers_is_read_whatever_the_size_of_the_batch(pool: Path, kind: str) -> None:
    """Eleven images in batches of four: the last batch has three, and so has an answer."""

    def model(batch: list[Pixels]) -> object:
        rows = detector()(batch)
        assert isinstance(rows, list)
        if kind == "dicts":
            return tuple(dict(zip(("boxes", "labels", "scores"), each, strict=True)) for each in rows)
        return tuple(rows if kind == "tuples" else map(list, rows))

    for size in (3, 4):
        assert label(model, pool, batch_size=size).counts.accepted == 30


def test_columns_of_three_images_with_three_boxes_each_are_columns(pool: Path) -> None:
    def model(batch: list[Pixels]) -> object:
        return [[[9, 9, 20, 20]] * 3] * len(batch), [[0, 1, 0]] * len(batch), [[0.9, 0.8, 0.7]] * len(batch)

    found = label(model, pool, batch_size=3)
    assert found.counts.accepted == 33
    assert found.accepted[0].classes == [0, 1, 0]


def test_class_names_may_be_an_array_of_objects(pool: Path) -> None:
    """As a pandas column of names is one."""

    def model(batch: list[Pixels]) -> object:
        rows = detector()(batch)
        assert isinstance(rows, list)
        return [(b, np.array([BLOCKS[each] for each in c], dtype=object), s) for b, c, s in rows]

    assert label(model, pool).counts.accepted == 30


def test_a_stream_that_does_not_know_its_length_is_read(pool: Path) -> None:
    class Stream:
        """As a data set of TensorFlow is, made from a generator."""

        def __iter__(self) -> Iterator[Pixels]:
            return (np.asarray(Image.open(pool / f"{seed}.png")) for seed in (100, 101))

        def __len__(self) -> int:
            raise TypeError("The dataset length is unknown.")

    assert label(detector(), Stream()).counts.accepted == 6


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda batch: [([[0, 0, 5, 5]], [0], [3.5])] * len(batch), "scores lie between 3.5 and 3.5"),
        (lambda batch: [([[0, 0, float("nan"), 5]], [0], [0.5])] * len(batch), "NaN or infinite"),
        (lambda batch: [([[0, 0, 5]], [0], [0.5])] * len(batch), r"boxes \(1, 3\)"),
        (lambda batch: [([[0, 0, 5, 5]], [0.5], [0.5])] * len(batch), "give indices or names"),
        (lambda batch: [([[0, 0, 5, 5]], ["cat"], [0.5])] * len(batch), "class 'cat', which class_names lacks"),
        (lambda batch: [([], [], [])], "answers 1 times to 8 images"),
        (lambda batch: {"boxes": []}, "one dict of boxes"),
        (lambda batch: [{"boxes": [], "scores": []}] * len(batch), "has no classes or labels"),
        (lambda batch: 1 / 0, "the detector failed on 8 images .*ZeroDivisionError"),
    ],
)
def test_answers_that_cannot_be_used_are_refused_with_the_image(
    pool: Path, answer: Callable[[list[Pixels]], object], said: str
) -> None:
    with pytest.raises(PredictionError, match=said):
        label(answer, pool)


def test_doubles_are_told_and_boxes_outside_are_cut_or_left_out(pool: Path) -> None:
    def model(batch: list[Pixels]) -> object:
        boxes = [[-5, -5, 20, 20], [-4, -4, 20, 20], [200, 200, 300, 300]]
        return [(boxes, [0, 0, 0], [0.9, 0.8, 0.9])] * len(batch)

    found = label(model, pool)
    assert found.counts.empty == 11
    assert found.accepted[0].boxes == [[0, 0, 20, 20], [0, 0, 20, 20]]
    assert any("non-maximum suppression" in each for each in found.warnings)
    assert any("reach out of their image" in each for each in found.warnings)


def test_arrays_streams_and_broken_files_are_read(pool: Path) -> None:
    images = [np.asarray(Image.open(pool / f"{seed}.png")) for seed in (100, 101)]
    for given in (np.stack(images), images, iter(images)):
        found = label(detector(), given)
        assert found.counts.accepted == 6
        assert [each.name for each in found.accepted] == ["000000.png", "000001.png"]
    (pool / "broken.png").write_bytes(b"no image")
    found = label(detector(), [pool / "100.png", str(pool / "broken.png")])
    assert (found.counts.images, found.counts.unreadable) == (1, 1)
    assert "not_an_image" in found.unreadable[0][1]
    with pytest.raises(SourceError, match=r"gone.png does not exist"):
        label(detector(), [pool / "gone.png"])
    for one in (images[0], images[0][..., :1], images[0][..., 0]):
        with pytest.raises(SourceError, match=r"which is one image; give \[image\]"):
            label(detector(), one)
    assert label(detector(), np.zeros((2, 16, 32), np.uint8)).counts.images == 2
    with pytest.raises(SourceError, match="row 0: the image is float64"):
        label(detector(), np.zeros((1, 8, 8, 3)))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"class_names": None}, "give a name for each class"),
        ({"box_format": "xywy"}, "give one of xyxy"),
        ({"batch_size": 0}, "from 1"),
        ({"threshold": 1.5}, "give a score from 0 to 1"),
        ({"images": "photos"}, "labeled is None"),
    ],
)
def test_arguments_that_are_not_allowed_are_named(pool: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        label(detector(), pool, **changed)


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_saved_detector_names_its_classes_itself(pool: Path, labels: Path, tmp_path: Path) -> None:
    saved = block_detector(tmp_path / "model")
    found = label(tmp_path / "model", pool, class_names=None, labeled=labels, threshold=Fixed(value=0.5))
    assert found.counts.accepted == 30
    assert found.measured.right == 120
    assert found.called == saved.contract.identity
