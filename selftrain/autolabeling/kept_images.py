"""The images of an analysis: arrays in .npy files, or references to the user's own files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from selftrain.data.inputs.files import read_image
from selftrain.data.inputs.images import Array, Ids, ImageChunk, Unreadable
from selftrain.data.workers import cores
from selftrain.errors import SourceError
from selftrain.files.writing import replace

Int64s = npt.NDArray[np.int64]

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),  # sha256 in hex, of the pixels or of the file
        pa.field("part", pa.string(), nullable=False),
        pa.field("label", pa.int32()),  # a person's label, as index into the class names
        pa.field("path", pa.string()),  # the user's file
        pa.field("size", pa.int64()),  # size of that file in bytes
        pa.field("array", pa.string()),  # file name of the array with the image
        pa.field("row", pa.int32()),  # row in that array
    ]
)


class Part(StrEnum):
    """What an image is for."""

    TRAINING = "training"
    HELD_OUT = "held_out"
    UNLABELED = "unlabeled"


def write_array(folder: Path, name: str, values: npt.NDArray[np.generic]) -> None:
    """Write `values` to `folder`/`name` (.npy, no pickle), whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.save(file, values, allow_pickle=False)

    replace(folder / name, write)


def index_rows(chunk: ImageChunk, array: str) -> pa.Table:
    """The index of a chunk's images, all as unlabelled; their pixels are in `array` unless they are files."""
    count = len(chunk)
    stored = chunk.paths is None
    nothing = [None] * count
    columns = [
        ids_column(chunk.ids),
        pa.array([Part.UNLABELED.value] * count, pa.string()),
        pa.nulls(count, pa.int32()),
        pa.array(nothing if chunk.paths is None else chunk.paths, pa.string()),
        pa.array(nothing if chunk.sizes is None else chunk.sizes, pa.int64()),
        pa.array([array] * count if stored else nothing, pa.string()),
        pa.array(np.arange(count, dtype=np.int32)) if stored else pa.nulls(count, pa.int32()),
    ]
    return pa.table(columns, schema=SCHEMA)


def with_values(index: pa.Table, name: str, values: npt.NDArray[np.generic]) -> pa.Table:
    """`index` with `values` (n,) in the column `name`."""
    at = SCHEMA.get_field_index(name)
    return index.set_column(at, SCHEMA.field(at), pa.array(values, SCHEMA.field(at).type))


def ids_column(ids: Ids) -> pa.Array:
    """Ids (n,) as text."""
    return pa.array(ids.astype("U64"), pa.string())


@dataclass(frozen=True, eq=False)
class KeptImages:
    """Images to gather by row, as `index` (with SCHEMA) lists them.

    Arrays are in `folder`; files stay where the user keeps them. `shape` and `dtype` are those of one image. Files are
    decoded to this shape, and their grey ones of 16 bits by the `bits` that they fill.
    """

    folder: Path
    index: pa.Table
    shape: tuple[int, ...]
    dtype: str
    bits: int | None = None
    _open: dict[str, Array] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def write(self, path: Path) -> None:
        """Write the index to `path` as Parquet, whole or not at all."""
        replace(path, lambda part: pq.write_table(self.index, part, compression="zstd"))

    @classmethod
    def read(
        cls, path: Path, *, folder: Path, shape: tuple[int, ...], dtype: str, bits: int | None = None
    ) -> KeptImages:
        """The images whose index `write` put at `path`. Raises SourceError for another table."""
        table = pq.ParquetFile(path).read()
        if table.schema.names != SCHEMA.names:
            raise SourceError(f"{path} is not an index of images; run the analysis again")
        return cls(folder, table, shape, dtype, bits)

    def take(self, rows: npt.NDArray[np.integer]) -> KeptImages:
        """The images of `rows` (k,), in that order."""
        return KeptImages(self.folder, self.index.take(pa.array(rows)), self.shape, self.dtype, self.bits)

    def check_files(self) -> None:
        """Raise SourceError if files are gone or have another size than in the analysis; name the first of them."""
        files = self.index.filter(self.index["path"].is_valid())
        pairs = zip(files["path"].to_pylist(), files["size"].to_pylist(), strict=True)
        changed = [path for path, size in pairs if _size(path) != size]
        if changed:
            named = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
            raise SourceError(f"{len(changed)} files are gone or changed since the analysis: {named}; analyse again")

    def gather(self, rows: Int64s) -> Array:
        """A new array (k, *shape) with the images of `rows` (k,), in that order."""
        images = np.empty((len(rows), *self.shape), np.dtype(self.dtype))
        arrays, within, paths = self._places
        for name in sorted(set(arrays[rows].tolist()) - {""}):
            at = np.flatnonzero(arrays[rows] == name)
            images[at] = self._array(name)[within[rows[at]]]
        self._decode(images, rows, np.flatnonzero(paths[rows] != ""))
        return images

    @cached_property
    def _places(self) -> tuple[npt.NDArray[np.object_], Int64s, npt.NDArray[np.object_]]:
        """The array, the row in that array, and the path of each image; "" where it has no array or no path."""
        arrays = np.array(self.index["array"].fill_null("").to_pylist(), dtype=object)
        paths = np.array(self.index["path"].fill_null("").to_pylist(), dtype=object)
        return arrays, self.index["row"].fill_null(0).to_numpy().astype(np.int64), paths

    def _array(self, name: str) -> Array:
        if name not in self._open:
            try:
                self._open[name] = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise SourceError(f"{self.folder / name} cannot be read ({error}); run the analysis again") from error
        return self._open[name]

    def _decode(self, images: Array, rows: Int64s, at: Int64s) -> None:
        """Decode the files of `rows`[`at`] to `images`[`at`]."""
        if len(at) == 1:  # a data loader's worker reads one image at a time, and needs no threads
            self._decode_one(images, int(rows[at[0]]), int(at[0]))
        elif len(at):
            with ThreadPoolExecutor(cores()) as threads:
                list(threads.map(lambda place: self._decode_one(images, int(rows[place]), place), at.tolist()))

    def _decode_one(self, images: Array, row: int, place: int) -> None:
        read = read_image(self._places[2][row], size=self.shape[0], channels=self.shape[-1], bits=self.bits)
        if isinstance(read, Unreadable):
            raise SourceError(f"{read.path} can no longer be read ({read.detail}); analyse again")
        if read[1].decode() != self.index["image_id"][row].as_py():
            raise SourceError(f"{read[0]} has changed since the analysis; analyse again")
        images[place] = read[3]


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1
