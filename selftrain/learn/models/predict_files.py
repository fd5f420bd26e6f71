"""Prediction from files: probabilities of image files, and which files cannot be decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selftrain.config import Ingest
from selftrain.data.images.decode import QuarantineReason, decode, probe
from selftrain.data.workers import cores
from selftrain.errors import ImageError
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.contract import Contract
from selftrain.learn.models.predict import predict_logits
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
LIMITS = Ingest()


def read_file(path: str) -> bytes:
    """The bytes of a file of this machine. Raises OSError, or ValueError for what cannot be a path."""
    return Path(path).read_bytes()


@dataclass(frozen=True)
class Unread:
    """A file that could not be read: `reason` is its quarantine code, `detail` says what is wrong and what to do."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True)
class FilePredictions:
    """Calibrated probabilities float32 (n, classes) of `paths` (n,), and the files that could not be read."""

    paths: tuple[str, ...]
    probs: Floats
    unread: tuple[Unread, ...]
    class_names: tuple[str, ...]


def predict_files(
    model: keras.Model,
    contract: Contract,
    paths: Sequence[str],
    *,
    batch_size: int = 256,
    flips: bool = False,
    strict_names: bool = False,
    progress: Progress = silent,
) -> FilePredictions:
    """The probabilities of the image files `paths`, in their order, and the files that cannot be read.

    Files are decoded as in training, by one thread per core. Meanwhile the previous batch is predicted. `strict_names`
    refuses a file whose name and bytes disagree on the format, as ingest does.
    """
    files = FilePixels(tuple(paths), contract.image_size, strict_names=strict_names)
    with files:
        logits = predict_logits(
            model, files, np.arange(len(files)), batch_size=batch_size, flips=flips, progress=progress
        )
    unread = tuple(files.unread[row] for row in sorted(files.unread))
    read = np.array([row for row in range(len(files)) if row not in files.unread], np.int64)
    probs = softmax(logits[read], contract.temperature) if len(read) else logits[read]
    return FilePredictions(tuple(paths[row] for row in read), probs, unread, contract.class_names)


class FilePixels:
    """Pixels of loose files, decoded by `gather`. A file that cannot be decoded is black, and listed in `unread`."""

    def __init__(
        self,
        paths: tuple[str, ...],
        size: int,
        *,
        strict_names: bool,
        read: Callable[[str], bytes] = read_file,
        threads: int | None = None,
    ) -> None:
        """`read` gives the bytes of a path, or raises OSError; `threads` of None is one per core."""
        self.paths = paths
        self.size = size
        self.strict_names = strict_names
        self.unread: dict[int, Unread] = {}
        self._read = read
        self._threads = ThreadPoolExecutor(threads or cores())

    def __enter__(self) -> FilePixels:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def __len__(self) -> int:
        return len(self.paths)

    def gather(self, rows: Int64s) -> npt.NDArray[np.uint8]:
        """uint8 (k, size, size, 3) of `rows` (k,), in that order. A row that comes twice is decoded once."""
        once, back = np.unique(rows, return_inverse=True)
        images = np.zeros((len(once), self.size, self.size, 3), np.uint8)

        def read(place: int) -> None:
            row = int(once[place])
            try:
                images[place] = self._decode(self.paths[row])
            except ImageError as error:
                detail = error.message.removeprefix(f"{self.paths[row]}: ").removeprefix("image: ")
                self.unread[row] = Unread(self.paths[row], str(error.reason), detail)

        for _ in self._threads.map(read, range(len(once))):
            pass
        return images[back]

    def _decode(self, path: str) -> npt.NDArray[np.uint8]:
        try:
            data = self._read(path)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ImageError(QuarantineReason.UNREADABLE, f"{reason}; check the path and its permissions") from error
        limit = int(LIMITS.max_megapixels * 1e6)
        if self.strict_names:
            probe(data, path, max_pixels=limit, min_side=LIMITS.min_side)
        return decode(data, self.size, max_pixels=limit)
