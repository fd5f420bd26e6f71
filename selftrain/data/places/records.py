"""TFRecord files: a tf.train.Example per image, with its encoded bytes and a label; folders of TFDS among them."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from selftrain.data.images.formats import sniff
from selftrain.data.places.place import INSIDE, LARGEST, Found, split_named, splits_noted
from selftrain.errors import SourceError

_IMAGES: Final = ("image/encoded", "image", "image_raw", "encoded", "jpeg", "png")
_LABELS: Final = ("image/class/text", "label/text", "label", "class", "image/class/label", "image/label", "category")
_HEAD, _TAIL = 12, 4  # length and its checksum before a record, the checksum of its bytes behind it


@dataclass(frozen=True)
class Records:
    """The images of TFRecord files. Class names come from `KEY.labels.txt` beside the files, where TFDS wrote one."""

    files: Sequence[str]

    def find(self, *, labelled: bool) -> Found:
        found = Found()
        for path in self.files:
            split = split_named(os.path.basename(path)) if len(self.files) > 1 else None
            mtime_ns = os.stat(path).st_mtime_ns
            for start, data in _records(path):
                features = _features(data, path, start)
                if _image(features) is None:
                    found.ignored += 1
                    continue
                asked = labelled and split != "unlabeled"
                label, word = _label(features, os.path.dirname(path)) if asked else (None, False)
                where = f"{path}{INSIDE}{start:015d}"
                found.add(where, label=label, size=len(data), mtime_ns=mtime_ns, split=split, word=word)
        found.notes += splits_noted(found, len(self.files))
        if not found.paths:
            raise SourceError(
                f"no record of {self.files[0]!r} and its like holds an encoded image in one of {', '.join(_IMAGES)}; "
                "write the images as JPEG or PNG bytes"
            )
        return found

    def holds(self, path: str) -> bool:
        return path.partition(INSIDE)[0] in self.files

    def read(self, path: str) -> bytes:
        file, _, start = path.partition(INSIDE)
        with open(file, "rb") as opened:
            opened.seek(int(start))
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > LARGEST:
                raise OSError(f"the record at byte {int(start)} of {file!r} has {length} bytes; the file has changed")
            opened.seek(4, os.SEEK_CUR)
            data = opened.read(length)
        try:
            image = _image(_features(data, file, int(start)))
        except SourceError as error:
            raise OSError(error.message) from error
        if image is None:
            raise FileNotFoundError(f"the record at byte {int(start)} of {file!r} holds no image")
        return image


def _records(path: str) -> Iterator[tuple[int, bytes]]:
    """(position, bytes) of each record. Raises SourceError for a file that is compressed, or ends inside a record."""
    size, position = os.path.getsize(path), 0
    with open(path, "rb") as file:
        while position < size:
            head = file.read(_HEAD)
            length = struct.unpack_from("<Q", head)[0] if len(head) == _HEAD else size
            if position + _HEAD + length + _TAIL > size:
                raise SourceError(
                    f"{path!r} is not a whole TFRecord file: the record at byte {position} runs past its end; download "
                    "it again, or decompress it if it was written with GZIP"
                )
            yield position, file.read(length)
            file.seek(_TAIL, os.SEEK_CUR)
            position += _HEAD + length + _TAIL


def _features(data: bytes, path: str, start: int) -> dict[str, bytes | int]:
    """The first value of each feature of an Example that holds bytes or whole numbers."""
    example = _example_class()()
    try:
        example.ParseFromString(data)
    except DecodeError as error:
        raise SourceError(
            f"the record at byte {start} of {path!r} is not a tf.train.Example; write one per image"
        ) from error
    found: dict[str, bytes | int] = {}
    for name, feature in example.features.feature.items():
        values = feature.bytes_list.value or feature.int64_list.value
        if len(values) == 1:
            found[name] = values[0]
    return found


def _image(features: dict[str, bytes | int]) -> bytes | None:
    for name in _IMAGES:
        value = features.get(name)
        if isinstance(value, bytes) and sniff(value) is not None:
            return value
    return None


def _label(features: dict[str, bytes | int], folder: str) -> tuple[str | None, bool]:
    """The label of a record, and whether it is a word, and not the number of a class."""
    name = next((each for each in _LABELS if each in features), None)
    if name is None:
        return None, False
    value = features[name]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip() or None, True
    names = _class_names(folder, name.replace("/", "_"))
    return None if value < 0 else names[value] if value < len(names) else str(value), False


@cache
def _class_names(folder: str, key: str) -> tuple[str, ...]:
    path = os.path.join(folder, f"{key}.labels.txt")
    if not os.path.isfile(path):
        return ()
    with open(path, encoding="utf-8") as file:
        return tuple(line.strip() for line in file if line.strip())


@cache
def _example_class() -> Any:
    """The message tf.train.Example, without its floats, in a pool of its own: TensorFlow's is the same on the wire."""
    message = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="selftrain_example.proto", package="example", syntax="proto3")

    def add(name: str, *fields: tuple[str, int, int, int, str]) -> descriptor_pb2.DescriptorProto:
        made = file.message_type.add(name=name)
        for field, number, kind, label, of in fields:
            made.field.add(name=field, number=number, type=kind, label=label, type_name=of or None)
        return made

    one, many, nested = message.LABEL_OPTIONAL, message.LABEL_REPEATED, message.TYPE_MESSAGE
    add("BytesList", ("value", 1, message.TYPE_BYTES, many, ""))
    add("Int64List", ("value", 1, message.TYPE_INT64, many, ""))
    add(
        "Feature",
        ("bytes_list", 1, nested, one, ".example.BytesList"),
        ("int64_list", 3, nested, one, ".example.Int64List"),
    )
    features = add("Features", ("feature", 1, nested, many, ".example.Features.FeatureEntry"))
    entry = features.nested_type.add(name="FeatureEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    entry.field.add(name="key", number=1, type=message.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=nested, label=one, type_name=".example.Feature")
    add("Example", ("features", 1, nested, one, ".example.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("example.Example"))
