import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.bucket import BucketServer, served
from selftrain.errors import ConfigError, InboxError
from selftrain.files.remote import Bucket, FileChangedError, FoundFiles, open_remote


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    folder = tmp_path_factory.mktemp("buckets")
    for name in ("a.jpg", "day/b.jpg", "day/night/c.jpg", ".hidden/d.jpg", "day/.e.jpg"):
        path = folder / "cameras" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    server = served(folder)
    yield server
    server.stop()


def names(found: FoundFiles, root: str) -> list[str]:
    return [file.path.removeprefix(f"{root}/") for file in found.files]


def message(url: str, **options: str) -> str:
    with pytest.raises(InboxError) as caught:
        open_remote(url, options).list()
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_folder_lists_all_its_files_but_hidden_ones_and_follows_each_link_once(tmp_path: Path) -> None:
    inbox, elsewhere = tmp_path / "inbox", tmp_path / "elsewhere"
    for path in (
        inbox / "b.jpg",
        inbox / "day" / "a.jpg",
        inbox / ".x.jpg",
        inbox / ".d" / "y.jpg",
        elsewhere / "c.jpg",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    os.utime(inbox / "b.jpg", ns=(7, 1_000_000_007))
    (inbox / "day" / "again").symlink_to(inbox)
    (inbox / "linked").symlink_to(elsewhere)
    (inbox / "gone.jpg").symlink_to(tmp_path / "nothing")
    os.mkfifo(inbox / "pipe.jpg")

    found = open_remote(str(inbox), {}).list()

    assert names(found, str(inbox)) == ["b.jpg", "day/a.jpg", "gone.jpg", "linked/c.jpg"]
    assert [file.size for file in found.files] == [5, 5, 0, 5]
    assert found.files[0].mtime_ns == 1_000_000_007
    assert found.files[0].changed_ns > 1_700_000_000_000_000_000, "the time of the last write cannot be set"


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"1")
    assert open_remote(f"file://{tmp_path}", {}).list() == open_remote(str(tmp_path), {}).list()


def test_a_file_that_changed_after_it_was_listed_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"half")
    folder = open_remote(str(tmp_path), {})
    (file,) = folder.list().files
    assert folder.read(file) == b"half"
    (tmp_path / "a.jpg").write_bytes(b"half and the rest")
    with pytest.raises(FileChangedError, match="changed after it was listed"):
        folder.read(file)


def test_a_folder_that_cannot_be_listed_is_named_in_one_line(tmp_path: Path) -> None:
    assert "is not there" in message(str(tmp_path / "none"))
    (tmp_path / "file").write_bytes(b"")
    assert "not a folder" in message(str(tmp_path / "file"))


def test_a_scheme_that_is_unknown_or_lacks_its_package_is_refused() -> None:
    with pytest.raises(ConfigError, match="Protocol not known: carrier"):
        open_remote("carrier://pigeon", {})


def test_an_option_cannot_be_a_value_and_a_group() -> None:
    with pytest.raises(ConfigError, match=r"both 'client_kwargs' and 'client_kwargs.region_name'"):
        open_remote("memory://a", {"client_kwargs": 1, "client_kwargs.region_name": "x"})


def test_a_bucket_lists_all_its_objects_with_their_etags(server: BucketServer) -> None:
    bucket = open_remote("s3://cameras", {**server.options, "client_kwargs.region_name": "us-east-1"})
    found = bucket.list()
    assert names(found, "s3://cameras") == ["a.jpg", "day/b.jpg", "day/night/c.jpg"]
    assert [len(file.version) for file in found.files] == [32, 32, 32]
    assert all(file.mtime_ns > 1_700_000_000_000_000_000 for file in found.files)
    assert bucket.read(found.files[1]) == b"day/b.jpg"
    assert names(open_remote("s3://cameras/day/", server.options).list(), "s3://cameras/day") == [
        "b.jpg",
        "night/c.jpg",
    ]
    bucket.check()


def test_a_bucket_is_listed_with_one_request_for_a_thousand_objects(server: BucketServer) -> None:
    bucket = open_remote("s3://cameras", server.options)
    assert isinstance(bucket, Bucket)
    asked: list[str] = []
    bucket.list()  # connects
    events = bucket.system.s3.meta.events  # type: ignore[attr-defined]  # botocore's own hook

    def note(model: object, **_: object) -> None:
        asked.append(str(getattr(model, "name", "")))

    events.register("before-call.s3", note)
    bucket.list()
    assert sorted(asked) == ["ListMultipartUploads", "ListObjectsV2"]


def test_an_upload_in_parts_that_has_begun_is_counted_and_not_listed(server: BucketServer) -> None:
    bucket = open_remote("s3://uploads", server.options)
    assert isinstance(bucket, Bucket)
    (server.folder / "uploads").mkdir()
    call = bucket.system.call_s3  # type: ignore[attr-defined]
    upload = call("create_multipart_upload", Bucket="uploads", Key="big.jpg")
    assert bucket.list() == FoundFiles((), uploads=1)
    place = {"Bucket": "uploads", "Key": "big.jpg", "UploadId": upload["UploadId"]}
    part = call("upload_part", **place, PartNumber=1, Body=b"all of it")
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    call("complete_multipart_upload", **place, MultipartUpload=parts)
    found = bucket.list()
    assert (names(found, "s3://uploads"), found.uploads) == (["big.jpg"], 0)


def test_a_bucket_without_objects_below_the_prefix_is_an_empty_inbox(server: BucketServer) -> None:
    assert open_remote("s3://cameras/tomorrow", server.options).list() == FoundFiles(())


def test_a_refused_key_says_that_it_was_refused_and_what_it_needs(server: BucketServer) -> None:
    for wrong in ({"secret": "guessed"}, {"key": "nobody"}):
        said = message("s3://cameras", **{**server.options, **wrong})
        assert "check the key (inbox.secrets) and its rights" in said
        assert "guessed" not in said


def test_a_bucket_that_is_not_there_says_so(server: BucketServer) -> None:
    assert "The specified bucket does not exist; correct inbox.url" in message("s3://nowhere", **server.options)


def test_a_server_that_is_not_there_says_so(server: BucketServer) -> None:
    said = message("s3://cameras", **{**server.options, "endpoint_url": "http://127.0.0.1:9"})
    assert "Could not connect" in said
    assert "check inbox.url, inbox.storage and the server" in said


class ExpiredKey:
    """A file system whose key has expired, as S3 says it."""

    def find(self, path: str, *, detail: bool) -> dict[str, dict[str, object]]:
        raise PermissionError("The provided token has expired.")

    cat_file = info = find


def test_an_expired_key_is_told_apart_from_a_wrong_one() -> None:
    with pytest.raises(InboxError, match=r"refuses the key, which has expired; renew it"):
        Bucket(ExpiredKey(), "cameras", "s3://cameras").list()  # type: ignore[arg-type]
