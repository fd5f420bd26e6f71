"""Pascal VOC files as tools really write them: each quirk is read, left out with a count, or refused."""

from pathlib import Path

import pytest
from PIL import Image

from selftrain.cli.detections import drawn_in
from selftrain.config import CocoSource
from selftrain.data.sources.coco import CocoImages
from selftrain.data.sources.objects.labelled import Fault, LabelledImages
from selftrain.data.sources.objects.voc import read_voc
from selftrain.errors import ConfigError, SourceError

BOX = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>7</xmax><ymax>6</ymax></bndbox>"
CELL = f"<object><name>cell</name>{BOX}</object>"


def write(folder: Path, body: str, *, filename: str = "a.png", size: tuple[int, int] = (20, 10)) -> None:
    Image.new("RGB", (20, 10)).save(folder / "a.png")
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    text = f"<annotation><filename>{filename}</filename>{stated}{body}</annotation>"
    (folder / "a.xml").write_text(text)


def read(folder: Path, body: str, *, filename: str = "a.png", size: tuple[int, int] = (20, 10)) -> LabelledImages:
    write(folder, body, filename=filename, size=size)
    return read_voc(folder, images=str(folder))


def test_corners_count_from_one_and_include_the_last_pixel(tmp_path: Path) -> None:
    assert read(tmp_path, CELL).annotations.boxes.tolist() == [[1, 2, 7, 6]]


def test_a_box_of_one_pixel_is_kept(tmp_path: Path) -> None:
    one = CELL.replace(">7<", ">2<").replace(">6<", ">3<")
    assert read(tmp_path, one).annotations.boxes.tolist() == [[1, 2, 2, 3]]


def test_corners_may_have_decimals(tmp_path: Path) -> None:
    assert read(tmp_path, CELL.replace(">2<", ">2.5<")).annotations.boxes.tolist() == [[1.5, 2, 7, 6]]


def test_a_difficult_object_is_a_crowd_and_told(tmp_path: Path) -> None:
    found = read(tmp_path, CELL.replace("</name>", "</name><difficult>1</difficult>"))
    assert found.annotations.table["crowd"].to_pylist() == [True]
    assert any("1 objects are marked difficult" in note for note in found.notes)


@pytest.mark.parametrize("filename", ["", "elsewhere.jpg", "/home/somebody/a.png"])
def test_an_image_that_the_file_does_not_name_rightly_is_found_by_the_files_own_name(
    tmp_path: Path, filename: str
) -> None:
    assert read(tmp_path, CELL, filename=filename).images["name"].to_pylist() == ["a.png"]


def test_a_size_of_zero_is_read_from_the_image(tmp_path: Path) -> None:
    assert read(tmp_path, CELL, size=(0, 0)).images["width"].to_pylist() == [20]


def test_another_size_than_the_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="another size"):
        read(tmp_path, CELL, size=(40, 20))


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (CELL.replace(BOX, ""), Fault.NO_BOX),
        (CELL.replace(">2<", ">two<"), Fault.NOT_NUMBERS),
        (CELL.replace(">2<", ">inf<"), Fault.NOT_FINITE),
        (CELL.replace(">7<", ">1<"), Fault.EMPTY_BOX),
    ],
)
def test_an_object_that_cannot_be_used_is_counted_by_reason(tmp_path: Path, bad: str, fault: Fault) -> None:
    found = read(tmp_path, CELL + bad)
    assert dict(found.left_out) == {fault: 1}
    assert len(found.annotations) == 1


def test_an_image_whose_every_object_was_left_out_teaches_nothing(tmp_path: Path) -> None:
    """As an image without objects, it would teach its objects as background."""
    write(tmp_path, CELL)
    Image.new("RGB", (20, 10), "red").save(tmp_path / "b.png")
    (tmp_path / "b.xml").write_text((tmp_path / "a.xml").read_text().replace("a.png", "b.png").replace(BOX, ""))
    found = read_voc(tmp_path, images=str(tmp_path))
    assert found.images["name"].to_pylist() == ["a.png"]
    assert found.without_objects == 0
    assert "1 images are not used, because all of their objects were left out: b.png" in found.notes


def test_of_two_images_with_the_files_name_the_one_that_it_says_is_taken(tmp_path: Path) -> None:
    write(tmp_path, CELL)
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.jpg")
    assert read_voc(tmp_path, images=str(tmp_path)).images["name"].to_pylist() == ["a.png"]
    write(tmp_path, CELL, filename="")
    with pytest.raises(SourceError, match=r"holds a\.jpg and a\.png, and the XML file does not say"):
        read_voc(tmp_path, images=str(tmp_path))


def test_a_rectangle_that_cvat_turned_becomes_the_box_around_it(tmp_path: Path) -> None:
    turn = "<attributes><attribute><name>rotation</name><value>90.0</value></attribute></attributes>"
    found = read(tmp_path, CELL.replace(BOX, f"{turn}{BOX}"))
    assert found.annotations.boxes.tolist() == [[2, 1, 6, 7]]
    assert any("1 rectangles are turned" in note for note in found.notes)


def test_entities_are_refused_unread(tmp_path: Path) -> None:
    write(tmp_path, CELL)
    text = (tmp_path / "a.xml").read_text()
    (tmp_path / "a.xml").write_text('<!DOCTYPE a [<!ENTITY x "y">]>' + text)
    with pytest.raises(SourceError, match=r"a\.xml.*DOCTYPE"):
        read_voc(tmp_path, images=str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "cannot be read as XML"),
        ("<data/>", "root <data>"),
        ("<annotation><object/></annotation>", "object 1: <name> is missing"),
    ],
)
def test_a_file_that_is_not_voc_is_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, CELL)
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(SourceError, match=rf"a\.xml.*{message}"):
        read_voc(tmp_path, images=str(tmp_path))


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "utf-16", "windows-1252"])
def test_a_file_in_an_encoding_that_it_declares_is_read(tmp_path: Path, encoding: str) -> None:
    write(tmp_path, CELL.replace("cell", "Käse"))
    text = (tmp_path / "a.xml").read_text()
    (tmp_path / "a.xml").write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>\r\n{text}'.encode(encoding))
    assert read_voc(tmp_path, images=str(tmp_path)).label_map.names == ("Käse",)


@pytest.mark.parametrize("encoding", ["gbk", "shift_jis"])
def test_an_east_asian_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    write(tmp_path, CELL.replace("cell", "犬"))
    text = (tmp_path / "a.xml").read_text()
    (tmp_path / "a.xml").write_bytes(f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding))
    assert read_voc(tmp_path, images=str(tmp_path)).label_map.names == ("犬",)


def test_a_corner_below_one_shows_that_a_tool_counts_from_zero(tmp_path: Path) -> None:
    first = CELL.replace("<xmin>2", "<xmin>0")
    found = read(tmp_path, first + CELL.replace(">cell<", ">dust<"))
    assert sorted(found.annotations.boxes.tolist()) == [[0, 3, 7, 6], [2, 3, 7, 6]]
    assert any("they count from 0" in note for note in found.notes)


def test_of_two_images_that_exist_the_one_with_the_files_own_name_is_taken(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "b.png")
    found = read(tmp_path, CELL, filename="b.png")
    assert [Path(path).name for path in found.images["path"].to_pylist()] == ["a.png"]
    assert any("1 files name another image than their own name" in note for note in found.notes)


def test_files_in_folders_and_with_upper_case_endings_are_read_and_a_macs_are_not(tmp_path: Path) -> None:
    write(tmp_path, CELL, filename="other.png")
    (tmp_path / "a.png").rename(tmp_path / "a.PNG")
    below = tmp_path / "s"
    below.mkdir()
    Image.new("RGB", (20, 10), "red").save(below / "b.png")
    (below / "b.XML").write_text((tmp_path / "a.xml").read_text())
    (tmp_path / "._a.xml").write_bytes(b"\0\5\26\7")
    found = read_voc(tmp_path, images=str(tmp_path))
    assert found.images["name"].to_pylist() == ["a.PNG", "s/b.png"]


def test_a_held_out_data_set_has_images_of_its_own(tmp_path: Path) -> None:
    for part, colour in (("train", "red"), ("val", "blue")):  # the same names, as videos are cut
        for kind in ("Annotations", "JPEGImages"):
            (tmp_path / part / kind).mkdir(parents=True)
        Image.new("RGB", (20, 10), colour).save(tmp_path / part / "JPEGImages" / "frame_0.png")
        text = f"<annotation><filename>frame_0.png</filename>{CELL}</annotation>"
        (tmp_path / part / "Annotations" / "frame_0.xml").write_text(text)
    annotations, images = drawn_in(None, tmp_path / "train", None)
    source = CocoSource(annotations=annotations, images=images, validation=str(tmp_path / "val"))
    found = CocoImages(source).scan().table
    assert [Path(path).parts[-3] for path in found["path"].to_pylist()] == ["train", "val"]


def test_a_comment_may_speak_of_a_doctype(tmp_path: Path) -> None:
    assert len(read(tmp_path, f"<!-- no <!DOCTYPE here -->{CELL}").annotations) == 1


def test_an_image_without_objects_was_looked_at(tmp_path: Path) -> None:
    write(tmp_path, CELL)
    Image.new("RGB", (20, 10)).save(tmp_path / "b.png")
    (tmp_path / "b.xml").write_text("<annotation><filename>b.png</filename></annotation>")
    assert read_voc(tmp_path, images=str(tmp_path)).without_objects == 1


def test_a_folder_of_xml_files_is_a_source_of_objects(tmp_path: Path) -> None:
    write(tmp_path, CELL)
    source = CocoImages(CocoSource(annotations=str(tmp_path), images=str(tmp_path)))
    assert len(source.scan().table) == 1
    assert source.labelled[0][1].label_map.names == ("cell",)


def test_init_voc_finds_the_folders_of_a_voc_data_set(tmp_path: Path) -> None:
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "JPEGImages").mkdir()
    files, photos = str(tmp_path / "Annotations"), str(tmp_path / "JPEGImages")
    assert drawn_in(None, tmp_path, None) == (files, photos)
    assert drawn_in(None, tmp_path, "photos") == (files, "photos")


def test_init_refuses_two_kinds_of_boxes_and_a_voc_that_is_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        drawn_in(tmp_path / "labels.json", tmp_path, None)
    with pytest.raises(ConfigError, match="is not a folder"):
        drawn_in(None, tmp_path / "labels.xml", None)
