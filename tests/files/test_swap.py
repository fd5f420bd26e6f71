"""Two writers of one file: who comes second is told, in a folder, on S3 with conditional writes and on S3 without."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selftrain.errors import MirrorError
from selftrain.files.mirror import Mirror
from selftrain.files.swap import Seen, look, swap
from tests.adapters.s3 import S3Server, bucket
from tests.files.conditional_s3 import ConditionalS3

pytestmark = [
    # aiobotocore's sessions are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*Exception ignored.*:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with bucket(tmp_path_factory.mktemp("buckets")) as server:
        yield server


@pytest.fixture
def conditional(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConditionalS3]:
    """The same server behind a front that knows conditional writes; clients are led to it."""
    with ConditionalS3(server) as front:
        key = {"AWS_ACCESS_KEY_ID": "camera", "AWS_SECRET_ACCESS_KEY": "film"}
        for name, value in {**server.environment(), **key, "AWS_ENDPOINT_URL": front.address}.items():
            monkeypatch.setenv(name, value)
        yield front


def s3() -> Any:
    import fsspec

    return fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)


def test_a_server_refuses_the_second_writer_even_between_its_last_look_and_its_write(
    conditional: ConditionalS3, tmp_path: Path
) -> None:
    path, system = f"data/{tmp_path.name}", s3()
    assert swap(system, path, b"one", Seen(None, None))
    seen = look(system, path)
    conditional.before_put = lambda: s3().pipe_file(path, b"theirs")
    assert not swap(system, path, b"two", seen)
    assert conditional.refused == 1
    assert look(system, path).content == b"theirs"
    assert swap(system, path, b"two", look(system, path))


def test_a_file_that_another_made_meanwhile_is_not_replaced(conditional: ConditionalS3, tmp_path: Path) -> None:
    path, system = f"data/{tmp_path.name}", s3()
    conditional.before_put = lambda: s3().pipe_file(path, b"theirs")
    assert not swap(system, path, b"ours", look(system, path))
    assert look(system, path).content == b"theirs"


def test_a_write_that_was_sent_twice_counts_as_written(conditional: ConditionalS3, tmp_path: Path) -> None:
    path, system = f"data/{tmp_path.name}", s3()
    conditional.before_put = lambda: s3().pipe_file(path, b"ours")  # the answer to the first was lost
    assert swap(system, path, b"ours", look(system, path))
    assert conditional.refused == 1


def test_a_server_that_knows_no_conditions_is_written_without(conditional: ConditionalS3, tmp_path: Path) -> None:
    path, system = f"data/{tmp_path.name}", s3()
    conditional.knows = False
    assert swap(system, path, b"one", look(system, path))
    assert not swap(system, path, b"two", Seen(None, None))
    assert look(system, path).content == b"one"


def test_of_writers_that_start_from_the_same_state_in_a_folder_one_succeeds_every_time(tmp_path: Path) -> None:
    for turn in range(20):
        path, gate, won = tmp_path / str(turn), threading.Barrier(4), []

        def write(name: bytes, path: Path = path, gate: Any = gate, won: list[bytes] = won) -> None:
            import fsspec

            system = fsspec.filesystem("file")
            seen = look(system, str(path))
            gate.wait()
            if swap(system, str(path), name, seen):
                won.append(name)

        writers = [threading.Thread(target=write, args=(bytes([each]),)) for each in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert [path.read_bytes()] == won


def test_a_generation_that_came_meanwhile_is_checked_again_and_stays(
    conditional: ConditionalS3, tmp_path: Path
) -> None:
    url, folder = f"s3://data/{tmp_path.name}", tmp_path / "state" / "cats"
    folder.mkdir(parents=True)
    mirror, asked = Mirror(url, folder.parent), []

    def check(newest: Any) -> None:
        asked.append(newest)
        if len(asked) == 1:  # another is faster, after it was looked
            (folder / "state").write_text("theirs")
            mirror.send(folder, ["state"], wait=True)
        if newest is not None:
            raise MirrorError("another was faster")

    (folder / "state").write_text("ours")
    with pytest.raises(MirrorError, match="another was faster"):
        mirror.replace(folder, ["state"], check)
    assert asked == [None, {"state": b"theirs"}]
    assert mirror.newest(folder, "state") == b"theirs"
