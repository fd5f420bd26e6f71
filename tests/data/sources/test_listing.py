from pathlib import Path

import pyarrow as pa
import pytest

from selftrain.data.sources.listing import LISTING_SCHEMA, Listing, find_images
from selftrain.errors import SourceError


def listing(**changes: list[object]) -> Listing:
    columns: dict[str, list[object]] = {
        "path": ["b.png", "a.png", "c.png"],
        "label": ["dog", None, "cat"],
        "split": ["train", None, None],
        "size": [1, 2, 3],
        "mtime_ns": [7, 8, 9],
    }
    return Listing.build(pa.table(columns | changes, schema=LISTING_SCHEMA), ignored=4)


def test_rows_are_sorted_by_path() -> None:
    assert listing().table["path"].to_pylist() == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    "changes",
    [
        {"path": ["b.png", "a.png", "d.png"]},
        {"label": ["dog", "cat", None]},
        {"label": ["do", None, "gcat"]},
        {"split": ["train", None, "train"]},
        {"size": [1, 2, 4]},
        {"mtime_ns": [7, 8, 10]},
    ],
)
def test_any_change_changes_the_digest(changes: dict[str, list[object]]) -> None:
    assert listing(**changes).digest != listing().digest


def test_the_digest_does_not_depend_on_order_or_chunks() -> None:
    whole = listing()
    parts = [whole.table.slice(row, 1) for row in (2, 0, 1)]
    assert Listing.build(pa.concat_tables(parts)).digest == whole.digest


def test_a_listing_survives_parquet(tmp_path: Path) -> None:
    listing().write(tmp_path / "listing.parquet")
    again = Listing.read(tmp_path / "listing.parquet")
    assert again.table.equals(listing().table)
    assert (again.digest, again.ignored) == (listing().digest, 4)


def names(folder: Path, **options: tuple[str, ...]) -> list[str]:
    return sorted(Path(path).relative_to(folder).as_posix() for path in find_images(str(folder), **options).paths)


def touch(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")


def test_hidden_files_are_skipped_and_other_files_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "sub/b.png", "no_suffix", ".hidden.png", ".git/c.png", "Thumbs.db", "notes.txt")
    assert names(tmp_path) == ["a.JPG", "no_suffix", "sub/b.png"]
    assert find_images(str(tmp_path)).ignored == 2


def test_an_image_format_we_cannot_read_is_listed_so_that_it_does_not_vanish(tmp_path: Path) -> None:
    touch(tmp_path, "a.heic")
    assert names(tmp_path) == ["a.heic"]


def test_links_are_followed_and_a_cycle_ends(tmp_path: Path) -> None:
    touch(tmp_path, "here/a.png", "elsewhere/b.png")
    (tmp_path / "here" / "link.png").symlink_to(tmp_path / "here" / "a.png")
    (tmp_path / "here" / "loop").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "other").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "here") == ["a.png", "link.png", "other/b.png"]


def test_a_dangling_link_is_listed_without_size(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = find_images(str(tmp_path))
    assert (len(found.paths), found.sizes) == (1, [-1])


def test_a_name_that_is_not_utf8_is_listed_with_escapes(tmp_path: Path) -> None:
    (tmp_path / b"caf\xe9.png".decode("utf-8", "surrogateescape")).write_bytes(b"x")
    assert names(tmp_path) == ["caf\\xe9.png"]


def test_folders_set_apart_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "unlabeled/b.png")
    assert names(tmp_path, apart_from=(str(tmp_path / "unlabeled"),)) == ["a.png"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        find_images(str(tmp_path / "nowhere"))


def test_a_picture_is_known_by_its_content_whatever_its_name(tmp_path: Path) -> None:
    odd = ["p.mpo", "p.jpg_large", "p.jpg.1", "p.jpg~", "1.2.840.7", "a.bin", "0001"]
    for name in odd:
        (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0 and so on")
    (tmp_path / "notes.doc").write_bytes(b"no picture")
    (tmp_path / "model.1.2").write_bytes(b"no picture")
    assert names(tmp_path) == sorted(odd)
    assert find_images(str(tmp_path)).ignored == 2
