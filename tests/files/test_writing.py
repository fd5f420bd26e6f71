from pathlib import Path

import pytest

from selftrain.files.writing import replace, replace_text


def test_the_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "notes.txt"
    replace_text(path, "one\n")
    replace_text(path, "zwei, für später\n")
    assert path.read_text(encoding="utf-8") == "zwei, für später\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("durable", [False, True])
def test_a_writer_that_fails_leaves_the_old_file(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "notes.txt"
    replace(path, lambda part: part.write_bytes(b"old"), durable=durable)

    def fail(part: Path) -> None:
        part.write_bytes(b"ne")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        replace(path, fail, durable=durable)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
