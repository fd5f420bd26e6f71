"""YOLO's text files as tools really write them."""

from pathlib import Path

import pytest
from PIL import Image

from selftrain.cli.detections import drawn_in, held_out_in
from selftrain.config import CocoSource
from selftrain.data.annotations.run_lengths import pixels_of
from selftrain.data.images.decode import ORIENTATION_TAG
from selftrain.data.sources.coco import CocoImages
from selftrain.data.sources.objects.labelled import LabelledImages
from selftrain.data.sources.objects.places import image_table
from selftrain.data.sources.objects.yolo import read_yolo, yolo_splits
from selftrain.errors import SourceError


def write(folder: Path, text: str | None, *, names: str = "[cell, dust]", part: str = "train") -> Path:
    photos, labels = folder / "images" / part, folder / "labels" / part
    photos.mkdir(parents=True)
    labels.mkdir(parents=True)
    Image.new("RGB", (20, 10), "red" if part == "train" else "blue").save(photos / f"{part}.png")
    if text is not None:
        (labels / f"{part}.txt").write_text(text)
    file = folder / "data.yaml"
    file.write_text(f"names: {names}\ntrain: images/train\nval: images/val\n")
    return file


def read(folder: Path, text: str | None, *, names: str = "[cell, dust]") -> LabelledImages:
    return read_yolo(write(folder, text, names=names))


def test_shares_become_pixels(tmp_path: Path) -> None:
    found = read(tmp_path, "1 0.5 0.5 0.5 0.4\n")
    assert found.annotations.boxes.tolist() == [[5, 3, 15, 7]]
    assert found.annotations.labels.tolist() == [1]


def test_a_count_of_classes_that_names_does_not_have_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "1 0.5 0.5 0.5 0.4\n")
    text = file.read_text()
    file.write_text(f"{text}nc: 2\n")
    assert len(read_yolo(file).annotations) == 1
    file.write_text(f"{text}nc: 3\n")
    with pytest.raises(SourceError, match="nc is 3, and names lists 2 classes"):
        read_yolo(file)


def test_two_images_with_one_text_file_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "1 0.5 0.5 0.5 0.4\n")
    Image.new("RGB", (20, 10)).save(tmp_path / "images" / "train" / "train.jpg")
    with pytest.raises(SourceError, match=r"train\.jpg' and .*train\.png' share the text file"):
        read_yolo(file)


def turned(size: tuple[int, int], orientation: int, path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    Image.new("RGB", size, "red").save(path, exif=exif)


@pytest.mark.parametrize(("orientation", "box"), [(1, [5, 3, 15, 7]), (6, [2.5, 6, 7.5, 14]), (3, [5, 3, 15, 7])])
def test_boxes_of_an_image_that_exif_turns_are_on_the_image_as_displayed_and_it_is_said(
    tmp_path: Path, orientation: int, box: list[float]
) -> None:
    file = write(tmp_path, "1 0.5 0.5 0.5 0.4\n")
    turned((20, 10), orientation, tmp_path / "images" / "train" / "train.png")
    found = read_yolo(file)
    assert found.annotations.boxes.tolist() == [box]
    said = [note for note in found.notes if "turned by their EXIF data" in note]
    assert (len(said), "train.png" in "".join(said)) == ((0, False) if orientation == 1 else (1, True))


@pytest.mark.parametrize(
    ("size", "orientation", "said"), [((20, 10), 6, 0), ((20, 10), 3, 1), ((12, 12), 6, 1), ((12, 12), 1, 0)]
)
def test_a_size_in_the_list_shows_a_turn_by_a_quarter_of_an_image_that_is_not_square(
    tmp_path: Path, size: tuple[int, int], orientation: int, said: int
) -> None:
    turned(size, orientation, tmp_path / "a.png")
    displayed = size[::-1] if orientation == 6 else size
    _, notes = image_table(str(tmp_path), ["a.png"], [displayed], where="list")
    assert len(notes) == said


def test_names_may_be_numbered(tmp_path: Path) -> None:
    assert read(tmp_path, "0 .5 .5 .5 .4", names="{0: a, 1: b}").label_map.names == ("a", "b")


def test_a_polygon_gives_its_box_and_a_box_is_cut_at_the_border(tmp_path: Path) -> None:
    found = read(tmp_path, "0 0.1 0.2 0.5 0.2 0.5 0.8\n1 0.05 0.5 0.2 0.4\n").annotations.boxes
    assert sorted(found.round(3).tolist()) == [[0, 3, 3, 7], [2, 2, 10, 8]]


def test_a_polygon_is_an_outline_and_a_box_has_none(tmp_path: Path) -> None:
    """A triangle with its right angle at (2, 2), 8 pixels wide and 6 high, in an image of 20 by 10."""
    found = read(tmp_path, "0 0.1 0.2 0.5 0.2 0.1 0.8\n1 0.5 0.5 0.2 0.4\n").annotations
    (triangle, box) = found.masks(slice(0, 2))
    assert box is None
    assert triangle is not None
    drawn = pixels_of(triangle, height=10, width=20)
    assert 20 <= drawn.sum() <= 28  # 24, and what lies on the edge
    assert drawn[2, 2]
    assert not drawn[7, 9]
    assert not drawn[:, 10:].any()


def test_an_image_with_an_empty_text_has_no_objects(tmp_path: Path) -> None:
    assert read(tmp_path, "").without_objects == 1


def test_a_missing_text_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, "0 .5 .5 .5 .5")
    Image.new("RGB", (20, 10)).save(tmp_path / "images" / "train" / "other.png")
    assert any("1 images have no text file" in note for note in read_yolo(file).notes)


def test_a_split_without_any_text_file_is_refused_with_the_place_where_one_would_be(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none of the 1 images of train .*/labels/train/train\.txt"):
        read(tmp_path, None)


def test_the_box_of_a_skeleton_is_its_first_four_numbers(tmp_path: Path) -> None:
    file = write(tmp_path, "0 .5 .5 .2 .2 .45 .45 .55 .45 .5 .5 .4 .4\n")
    file.write_text("names: [person]\nkpt_shape: [4, 2]\ntrain: images/train\n")
    assert read_yolo(file).annotations.boxes.tolist() == [[8, 4, 12, 6]]


def test_four_points_are_polygons_where_another_split_has_polygons(tmp_path: Path) -> None:
    write(tmp_path, "0 .1 .1 .5 .1 .3 .5\n")
    file = write(tmp_path, "0 .1 .1 .5 .1 .5 .5 .1 .5\n", part="val")
    assert read_yolo(file, split="validation").annotations.boxes.tolist() == [[2, 1, 10, 5]]


@pytest.mark.parametrize("names", ["[yes, no]", "{0: on}"])
def test_a_name_that_yaml_takes_for_true_or_false_is_asked_for_in_quotes(tmp_path: Path, names: str) -> None:
    with pytest.raises(SourceError, match="YAML reads name 0 as True; put it in quotes"):
        read(tmp_path, "", names=names)


def test_images_outside_the_folder_of_the_file_are_read(tmp_path: Path) -> None:
    file = write(tmp_path / "photos", "0 .5 .5 .5 .4")
    other = tmp_path / "lists" / "data.yaml"
    other.parent.mkdir()
    other.write_text(f"names: [cell, dust]\ntrain: {file.parent}/images/train\n")
    assert len(read_yolo(other).annotations) == 1


def test_a_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, "")
    (tmp_path / "labels" / "train" / "train.txt").write_bytes("0 .5 .5 .5 .4".encode("utf-16"))
    with pytest.raises(SourceError, match=r"train\.txt' cannot be read as text"):
        read_yolo(file)


def test_a_held_out_folder_that_is_not_there_or_is_train_is_not_held_out(tmp_path: Path) -> None:
    file = write(tmp_path, "0 .5 .5 .5 .4")
    file.write_text("names: [cell]\ntrain: images/train\nval: images/train\ntest: ../test/images\n")
    assert yolo_splits(file) == ()
    assert any("val lists the images of train" in note for note in read_yolo(file).notes)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 .5 .5 .5 .5", "class 2 is not one of names, 0 to 1"),
        ("0 5 5 3 3", "are these pixels"),
        ("0 .1 .1 .5 .1 .5 .5 .1 .5", "oriented box, or a polygon, and no other line says which"),
        ("0 .5 .5 .5", "3 numbers after the class"),
        ("0 .5 x .5 .5", "not a number"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(SourceError, match=rf"train\.txt', line 2: .*{message}"):
        read(tmp_path, f"0 .5 .5 .5 .5\n{line}\n")


def test_val_is_held_out(tmp_path: Path) -> None:
    write(tmp_path, "0 .5 .5 .5 .5")
    file = write(tmp_path, "0 .5 .5 .5 .5", part="val")
    given = held_out_in(file, {"validation": None, "test": None})
    assert given == {"validation": str(file), "test": None}
    annotations, images = drawn_in(None, None, None, yolo=file)
    source = CocoSource(annotations=annotations, images=images, validation=given["validation"])
    assert CocoImages(source).scan().table["split"].to_pylist() == [None, "validation"]


def test_four_points_are_a_polygon_where_other_lines_have_polygons(tmp_path: Path) -> None:
    found = read(tmp_path, "0 .1 .1 .5 .1 .5 .5 .1 .5\n1 .5 .2 .9 .2 .7 .8\n").annotations.boxes
    assert sorted(found.round(3).tolist()) == [[2, 1, 10, 5], [10, 2, 18, 8]]


@pytest.mark.parametrize(
    "line", ["./images/train/train.png", "images/train/train.png", "{folder}/images/train/train.png"]
)
def test_a_list_names_images_beside_it_or_below_the_root(tmp_path: Path, line: str) -> None:
    file = write(tmp_path, "\ufeff0 .5 .5 .5 .4\r\n")
    file.write_text("names: [cell, dust]\ntrain: train.txt\n")
    (tmp_path / "train.txt").write_text(line.format(folder=tmp_path) + "\n\n")
    assert read_yolo(file).annotations.boxes.tolist() == [[5, 3, 15, 7]]


def test_a_line_of_a_list_without_an_image_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, None)
    file.write_text("names: [cell]\ntrain: train.txt\n")
    (tmp_path / "train.txt").write_text("images/train/train.png\nimages/train/gone.png\n")
    with pytest.raises(SourceError, match=r"train\.txt', line 2: 'images/train/gone\.png' was found neither"):
        read_yolo(file)


def test_the_last_images_of_a_path_says_labels(tmp_path: Path) -> None:
    assert read(tmp_path / "images" / "of", "0 .5 .5 .5 .4").annotations.boxes.tolist() == [[5, 3, 15, 7]]


def test_a_path_of_another_machine_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, "0 .5 .5 .5 .4")
    file.write_text("path: ../datasets/cells\nnames: [cell]\ntrain: ../images/train\n")
    found = read_yolo(file)
    assert len(found.annotations) == 1
    assert any("path is '../datasets/cells', which does not exist here" in note for note in found.notes)


def test_images_that_are_held_out_and_learned_from_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "0 .5 .5 .5 .4")
    file.write_text("names: [cell]\ntrain: images/train\nval: images/train\n")
    source = CocoSource(annotations=str(file), images=str(tmp_path), validation=str(file))
    with pytest.raises(
        SourceError, match=r"1 of 1 validation images are listed for another split too, such as '.*train\.png'"
    ):
        CocoImages(source).scan()


def test_a_folder_without_images_is_told(tmp_path: Path) -> None:
    file = write(tmp_path, None)
    file.write_text("names: [cell]\ntrain: labels\n")
    with pytest.raises(SourceError, match="train names no image"):
        read_yolo(file)


def test_images_of_every_format_that_is_decoded_are_found_in_a_folder(tmp_path: Path) -> None:
    file = write(tmp_path, "1 0.5 0.5 0.5 0.4\n")
    for at, ending in enumerate((".ppm", ".jp2", ".avif", ".jfif", ".GIF")):
        photo = tmp_path / "images" / "train" / f"{at}{ending}"
        Image.new("RGB", (20, 10), "blue").save(photo)
        (tmp_path / "labels" / "train" / f"{at}.txt").write_text("0 0.5 0.5 0.5 0.4\n")
    found = read_yolo(file)
    assert found.images.num_rows == 6
    assert sorted(found.annotations.labels.tolist()) == [0, 0, 0, 0, 0, 1]


def test_a_text_file_whose_ending_is_in_capitals_is_read(tmp_path: Path) -> None:
    file = write(tmp_path, "1 0.5 0.5 0.5 0.4\n")
    (tmp_path / "labels/train/train.txt").rename(tmp_path / "labels/train/train.TXT")
    assert read_yolo(file).annotations.boxes.tolist() == [[5, 3, 15, 7]]
