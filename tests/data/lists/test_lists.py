"""Lists of images as people have them: their columns, separators, marks and mistakes."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from selftrain import config
from selftrain.data.sources.listing import Listing
from selftrain.data.sources.source import open_source
from selftrain.errors import SourceError

CAT, DOG = "labeled/cat/00.png", "labeled/dog/00.jpg"


def read(folder: Path, text: str, *, name: str = "list.csv", **settings: object) -> Listing:
    (folder / name).write_text(text, encoding="utf-8")
    source = config.TableSource.model_validate({"path": str(folder / name), **settings})
    return open_source(source).scan()


def labels(listing: Listing) -> list[str | None]:
    found: list[str | None] = listing.table["label"].to_pylist()
    return found


@pytest.mark.parametrize("mark", [";", "\t"])
def test_other_separators_are_read_whatever_the_suffix(folders: Path, mark: str) -> None:
    assert labels(read(folders, f"path{mark}label\n{CAT}{mark}tench, Tinca tinca\n")) == ["tench, Tinca tinca"]


@pytest.mark.parametrize("name", ["filename", "File_Name", " image ", "id"])
def test_the_usual_names_of_a_column_are_known(folders: Path, name: str) -> None:
    assert labels(read(folders, f"{name},class\n{CAT},cat\n")) == ["cat"]


def test_a_pandas_index_and_other_columns_are_left_out_and_said(folders: Path) -> None:
    listing = read(folders, f",path,label,width\n0,{CAT},cat,32\n")
    assert labels(listing) == ["cat"]
    assert listing.notes == ("columns not used: '', 'width'",)


def test_a_column_of_any_name_can_be_chosen(folders: Path) -> None:
    text = f"photo,breed\n{CAT},cat\n"
    assert labels(read(folders, text, columns={"path": "photo", "label": "breed"})) == ["cat"]
    with pytest.raises(SourceError, match=r"source\.columns\.label: .* no column 'race'; it has 'photo', 'breed'"):
        read(folders, text, columns={"path": "photo", "label": "race"})


def test_a_list_without_a_header_says_that_its_first_row_must_name_the_columns(folders: Path) -> None:
    with pytest.raises(SourceError, match="first row must name the columns"):
        read(folders, f"{CAT},cat\n{DOG},dog\n")


@pytest.mark.parametrize("address", ["https://x.org/a.jpg", "s3://bucket/a.jpg", "file:///photos/a.jpg"])
def test_addresses_in_place_of_files_are_named_as_such(folders: Path, address: str) -> None:
    with pytest.raises(SourceError, match=r"the address of an image on a server.*row 2 .*download the images"):
        read(folders, f"image,label\n{CAT},cat\n{address},dog\n")


def test_json_lines_are_read(folders: Path) -> None:
    text = f'{{"file_name": "{CAT}", "label": "cat"}}\n{{"file_name": "{DOG}", "label": null}}\n'
    assert labels(read(folders, text, name="metadata.jsonl")) == ["cat", None]


@pytest.mark.parametrize("mark", ["-1", "NaN", "nan", "NULL", "None", "<NA>"])
def test_marks_of_a_missing_label_are_no_class_and_are_said(folders: Path, mark: str) -> None:
    listing = read(folders, f"path,label\n{CAT},cat\n{DOG},{mark}\n")
    assert labels(listing) == ["cat", None]
    assert listing.notes == (f"1 rows have no label: they say {mark!r}",)


@pytest.mark.parametrize("word", ["unknown", "Unlabeled", "no_label"])
def test_a_name_that_may_mean_no_label_is_asked_about(folders: Path, word: str) -> None:
    text = f"path,label\n{CAT},cat\n{DOG},{word}\n"
    with pytest.raises(SourceError, match=rf"1 rows have the label '{word}': is that a class.*no_label: \[{word}\]"):
        read(folders, text)
    assert labels(read(folders, text, no_label=[word])) == ["cat", None]
    assert labels(read(folders, text, no_label=[])) == ["cat", word]


def test_numbers_keep_their_meaning_and_a_real_nan_is_no_label(folders: Path) -> None:
    path = folders / "list.parquet"
    pq.write_table(pa.table({"path": [CAT, DOG], "label": [0.0, math.nan]}), path)
    assert labels(open_source(config.TableSource(path=str(path))).scan()) == ["0", None]


def test_one_hot_columns_are_classes(folders: Path) -> None:
    text = f"filename,cat,dog\n{CAT},1,0\n{DOG},0,1\nunlabeled/00.webp,0,0\n"
    assert labels(read(folders, text)) == ["cat", "dog", None]
    with pytest.raises(SourceError, match=r"rows with several classes: 1; .*multi-label"):
        read(folders, f"filename,cat,dog\n{CAT},1,1\n")


@pytest.mark.parametrize("cell", ["cat|dog", "cat;dog", "cat | bird"])
def test_several_labels_in_a_cell_are_refused(folders: Path, cell: str) -> None:
    with pytest.raises(SourceError, match=r"names several classes; .*multi-label"):
        read(folders, f'path,label\n{CAT},cat\n{DOG},dog\nlabeled/cat/01.png,"{cell}"\n')


def test_a_comma_in_a_name_is_not_several_labels(folders: Path) -> None:
    text = f'path,label\n{CAT},tench\n{DOG},"tench, Tinca tinca"\n'
    assert labels(read(folders, text)) == ["tench", "tench, Tinca tinca"]


def test_lists_of_one_label_are_that_label_and_longer_ones_are_refused(folders: Path) -> None:
    path = folders / "list.parquet"
    pq.write_table(pa.table({"path": [CAT, DOG], "label": [["cat"], []]}), path)
    assert labels(open_source(config.TableSource(path=str(path))).scan()) == ["cat", None]
    pq.write_table(pa.table({"path": [CAT, DOG], "label": [["cat"], ["dog", "cat"]]}), path)
    with pytest.raises(SourceError, match="row 2 has several values of 'label'"):
        open_source(config.TableSource(path=str(path))).scan()


@pytest.mark.parametrize("other", ["Cat", "cat ", "CAT"])
def test_two_spellings_of_a_class_are_refused_with_both(folders: Path, other: str) -> None:
    with pytest.raises(SourceError, match="differ only in letter case, spaces") as refused:
        read(folders, f"path,label\n{CAT},cat\n{DOG},{other}\n")
    assert repr(other) in refused.value.message


def test_two_forms_of_the_same_characters_are_one_name(folders: Path) -> None:
    with pytest.raises(SourceError, match="form of their characters"):
        read(folders, f"path,label\n{CAT},c\u00e4t\n{DOG},ca\u0308t\n")


@pytest.mark.parametrize("other", ["cat\u200b", "\ufeffcat", "ca\u00adt", "\uff43\uff41\uff54"])
def test_two_names_that_look_the_same_are_refused(folders: Path, other: str) -> None:
    with pytest.raises(SourceError, match="form of their characters") as refused:
        read(folders, f"path,label\n{CAT},cat\n{DOG},{other}\n")
    assert repr(other) in refused.value.message


def test_a_full_width_number_is_the_same_number(folders: Path) -> None:
    with pytest.raises(SourceError, match="form of their characters"):
        read(folders, f"path,label\n{CAT},1\n{DOG},\uff11\n")


@pytest.mark.parametrize(("one", "other"), [("m2", "m\u00b2"), ("1", "\u2460")])
def test_characters_that_look_alike_only_in_part_are_two_classes(folders: Path, one: str, other: str) -> None:
    found = read(folders, f"path,label\n{CAT},{one}\n{DOG},{other}\n")
    assert set(found.table["label"].to_pylist()) == {one, other}


@pytest.mark.parametrize("command", ["pseudo-label", "predict"])
def test_what_a_model_answered_is_not_taken_for_what_people_said(folders: Path, command: str) -> None:
    answers = {"path": [CAT, DOG], "confidence": [0.9, 0.4]}
    if command == "predict":
        answers |= {"label": ["cat", "dog"], "probabilities": [{"cat": 0.9}] * 2, "error": [None] * 2}
        answers |= {"model_version": ["models:/pets/1"] * 2}
    else:
        answers |= {"class": ["cat", "dog"], "accepted": ["true", "false"], "p_cat": [0.9, 0.6], "p_dog": [0.1, 0.4]}
    pq.write_table(pa.table(answers), folders / "answers.parquet")
    source = config.TableSource(path=str(folders / "answers.parquet"))
    with pytest.raises(SourceError, match=f"was written by `selftrain {command}`: its labels are answers of a model"):
        open_source(source).scan()
    said = source.model_copy(update={"columns": {"label": "class" if command == "pseudo-label" else "label"}})
    assert labels(open_source(said).scan()) == ["cat", "dog"]


@pytest.mark.parametrize("other", ["1.0", "1.00"])
def test_a_number_in_another_form_is_one_class(folders: Path, other: str) -> None:
    with pytest.raises(SourceError, match="differ only in") as refused:
        read(folders, f"path,label\n{CAT},1\n{DOG},{other}\n")
    assert f"'1' and {other!r}" in refused.value.message or f"{other!r} and '1'" in refused.value.message


@pytest.mark.parametrize("mark", ["NaN", "None", " null ", "-1"])
def test_a_mark_of_a_missing_group_does_not_join_images(folders: Path, mark: str) -> None:
    listing = read(folders, f"path,label,group\n{CAT},cat,{mark}\n{DOG},dog,farm\n")
    assert sorted(listing.optional("group").to_pylist(), key=str) == [None, "farm"]


def test_single_letters_may_differ_in_case(folders: Path) -> None:
    assert labels(read(folders, f"path,label\n{CAT},a\n{DOG},A\n")) == ["a", "A"]


def test_file_names_without_their_ending_are_found(folders: Path) -> None:
    listing = read(folders, "id,label\n00,cat\n", root=str(folders / "labeled" / "cat"))
    assert listing.table["path"].to_pylist() == [f"{folders}/labeled/cat/00.png"]
    (folders / "labeled" / "cat" / "00.jpg").write_bytes(b"another")
    with pytest.raises(SourceError, match=r"row 1: .*'00\.jpg', '00\.png' all fit; write the ending"):
        read(folders, "id,label\n00,cat\n", root=str(folders / "labeled" / "cat"))


@pytest.mark.parametrize(
    ("written", "ours"), [("val", "validation"), ("Valid", "validation"), ("Train", "train"), ("testing", "test")]
)
def test_other_usual_names_of_a_split_are_known(folders: Path, written: str, ours: str) -> None:
    listing = read(folders, f"path,label,split\n{CAT},cat,train\n{DOG},cat,{written}\n")
    assert listing.table["split"].to_pylist() == ["train", ours]


def test_a_list_without_labels_asks_which_column_they_are_in(folders: Path) -> None:
    with pytest.raises(SourceError, match=r"no column of labels; it has 'id', 'breed'"):
        read(folders, f"id,breed\n{CAT},cat\n")


def test_lists_from_excel_and_windows_are_read(folders: Path) -> None:
    path = folders / "list.csv"
    path.write_bytes(f"path;label\r\n{CAT};cat\r\n".replace("/", "\\").encode("utf-16"))
    listing = open_source(config.TableSource(path=str(path))).scan()
    assert (listing.table["path"].to_pylist(), labels(listing)) == ([f"{folders}/{CAT}"], ["cat"])


def test_a_space_after_every_comma_is_no_part_of_a_name(folders: Path) -> None:
    assert labels(read(folders, f"path, label\n{CAT}, cat\n{DOG}, dog\n")) == ["cat", "dog"]


def test_whole_numbers_lose_the_ending_that_a_missing_value_gave_them(folders: Path) -> None:
    assert labels(read(folders, f"path,label\n{CAT},1.0\n{DOG},nan\n")) == ["1", None]
    assert labels(read(folders, f"path,label\n{CAT},1.0\n{DOG},1.5\n")) == ["1.0", "1.5"]


def test_minus_one_as_a_float_column_writes_it_is_no_class(folders: Path) -> None:
    listing = read(folders, f"path,label\n{CAT},1.0\n{DOG},-1.0\n")
    assert (labels(listing), listing.notes) == (["1", None], ("1 rows have no label: they say '-1.0'",))


@pytest.mark.parametrize("mark", ["-", "TODO", "tbd"])
def test_marks_of_work_to_be_done_are_asked_about(folders: Path, mark: str) -> None:
    with pytest.raises(SourceError, match=rf"1 rows have the label '{mark}': is that a class"):
        read(folders, f"path,label\n{CAT},cat\n{DOG},{mark}\n")


def test_labels_that_are_records_are_refused_and_not_lost(folders: Path) -> None:
    text = f'{{"image": "{CAT}", "label": {{"id": 1, "name": "cat"}}}}\n'
    with pytest.raises(SourceError, match=r"the column 'label' holds struct<.*name of the class.* a column of its own"):
        read(folders, text, name="list.jsonl")


def test_a_chosen_column_counts_and_not_another_that_holds_records(folders: Path) -> None:
    text = f'{{"image": "{CAT}", "label": {{"id": 1}}, "box": [1, 2], "kind": "cat"}}\n'
    assert labels(read(folders, text, name="list.jsonl", columns={"label": "kind"})) == ["cat"]
    for column, said in (("label", "holds struct<"), ("box", "several values of 'box'")):
        with pytest.raises(SourceError, match=said):
            read(folders, text, name="list.jsonl", columns={"label": column})


def test_labels_of_the_list_of_a_pool_are_not_looked_at(folders: Path) -> None:
    pool = folders / "unlabeled"
    name = "00.webp"
    (pool / "metadata.jsonl").write_text(f'{{"file_name": "{name}", "category": {{"id": 3}}}}\n', encoding="utf-8")
    source = config.FolderSource(labeled=str(folders / "labeled"), unlabeled=str(pool))
    found = open_source(source).scan().table
    assert found.filter(pc.equal(found["split"], "unlabeled"))["path"].to_pylist() == [str(pool / name)]


def test_masks_beside_their_images_are_said(folders: Path) -> None:
    for name in ("00_mask.png", "01 (2).png", "01 (2)_mask_1.png", "own_mask.png"):
        (folders / "labeled" / "cat" / name).write_bytes((folders / CAT).read_bytes() + name.encode())
    source = config.FolderSource(labeled=str(folders / "labeled"), unlabeled=str(folders / "unlabeled"))
    (note,) = open_source(source).scan().notes
    assert note.startswith("2 images are named like masks of others beside them, such as ")


def test_a_class_that_is_named_like_a_folder_of_masks_is_said(folders: Path) -> None:
    listing = read(folders, f"path,label\n{CAT},images\n{DOG},Masks\n")
    assert listing.notes == ("the class Masks is named as folders of masks are: is it a class?",)
