"""Prediction from files: probabilities of image files, and which files cannot be decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from selftrain.config import Ingest
from selftrain.data.images.decode import decode, misnaming, probe, quiet
from selftrain.data.images.openers import image_bytes
from selftrain.data.images.reasons import QuarantineReason
from selftrain.data.workers import cores
from selftrain.errors import ImageError
from selftrain.learn.models.calibrate import softmax
from selftrain.learn.models.contract import Contract
from selftrain.learn.models.predict import Logits, logits_of, predict_logits
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
LIMITS = Ingest()
STRIP: Final = 2
AHEAD: Final = 1 << 27  # bytes of decoded images that wait for the network


def read_file(path: str) -> bytes:
    """The bytes of a file of this machine. Raises OSError, or ValueError for what cannot be a path."""
    return image_bytes(path)


@dataclass(frozen=True)
class Unread:
    """A file that could not be read: `reason` is its quarantine code, `detail` says what is wrong and what to do."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True)
class FilePredictions:
    """Calibrated probabilities float32 (n, classes) of `paths` (n,), and the files that could not be read.

    `misnamed` counts those that were read though their name announces another format, and `strips` those that are
    STRIP times as long as wide, or more: the model sees little of them.
    """

    paths: tuple[str, ...]
    probs: Floats
    unread: tuple[Unread, ...]
    class_names: tuple[str, ...]
    misnamed: int = 0
    strips: int = 0


def predict_files(
    network: keras.Model | Logits,
    contract: Contract,
    paths: Sequence[str],
    *,
    batch_size: int = 256,
    flips: bool = False,
    as_ingest: bool = False,
    progress: Progress = silent,
) -> FilePredictions:
    """The probabilities of the image files `paths`, in their order, and the files that cannot be read.

    Files are decoded as in training, by one thread per core. Meanwhile the batches before are predicted. `as_ingest`
    refuses a file that ingest would refuse by its header. `network` is a model, or its logits as a
    function, which answers batches of any size.
    """
    with FilePixels(tuple(paths), contract.image_size, as_ingest=as_ingest, bits=contract.bits) as files:
        return predict_opened(network, contract, files, batch_size=batch_size, flips=flips, progress=progress)


def predict_opened(
    network: keras.Model | Logits,
    contract: Contract,
    files: FilePixels,
    *,
    batch_size: int = 256,
    flips: bool = False,
    progress: Progress = silent,
) -> FilePredictions:
    """As `predict_files`, for `files` that are already being decoded, at the size that `contract` names."""
    rows, paths = np.arange(len(files)), files.paths
    if hasattr(network, "predict_on_batch"):
        logits = predict_logits(network, files, rows, batch_size=batch_size, flips=flips, progress=progress)
    elif len(files):
        logits = logits_of(network, files, rows, batch_size=batch_size, flips=flips, progress=progress)
    else:
        logits = np.empty((0, len(contract.class_names)), np.float32)
    unread = tuple(files.unread[row] for row in sorted(files.unread))
    read = np.array([row for row in range(len(files)) if row not in files.unread], np.int64)
    probs = softmax(logits[read], contract.temperature) if len(read) else logits[read]
    return FilePredictions(
        tuple(paths[row] for row in read), probs, unread, contract.class_names, len(files.misnamed), len(files.strips)
    )


class FilePixels:
    """Pixels of loose files, decoded by threads. A file that cannot be decoded is black, and listed in `unread`.

    Inside the `with` block, the files are decoded in their order before `gather` asks for them, so that this goes on
    while a model is loaded or predicts. At most AHEAD bytes of images wait.
    """

    def __init__(
        self,
        paths: tuple[str, ...],
        size: int,
        *,
        as_ingest: bool,
        read: Callable[[str], bytes] = read_file,
        threads: int | None = None,
        bits: int | None = None,
    ) -> None:
        """`read` gives the bytes of a path, or raises OSError; `threads` of None is one per core.

        `bits` is how many of 16 bits grey pictures fill, as the contract says.
        """
        self.paths = paths
        self.size = size
        self.as_ingest = as_ingest
        self._bits = bits
        self.unread: dict[int, Unread] = {}
        self.misnamed: set[int] = set()
        self.strips: set[int] = set()
        self._read = read
        self._count = threads or cores()
        self._threads = ThreadPoolExecutor(self._count)
        self._waiting: dict[int, Future[npt.NDArray[np.uint8]]] = {}
        self._most = max(2 * self._count, AHEAD // (3 * size * size))
        self._next = 0
        self._quiet = quiet()

    def __enter__(self) -> FilePixels:
        self._quiet.__enter__()  # once, here: other threads may set warnings while these decode
        self._look_ahead()
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._quiet.__exit__(None, None, None)

    def __len__(self) -> int:
        return len(self.paths)

    def gather(self, rows: Int64s) -> npt.NDArray[np.uint8]:
        """uint8 (k, size, size, 3) of `rows` (k,), in that order. A row that comes twice is decoded once."""
        once, back = np.unique(rows, return_inverse=True)
        asked = [
            self._waiting.pop(row) if row in self._waiting else self._threads.submit(self._pixels, row)
            for row in once.tolist()
        ]
        self._next = max(self._next, int(once[-1]) + 1) if len(once) else self._next
        self._look_ahead()
        images = np.stack([each.result() for each in asked])
        return images if len(once) == len(rows) and (np.diff(rows) > 0).all() else images[back]

    def _look_ahead(self) -> None:
        """Begin to decode the next files, until as many wait as may."""
        while len(self._waiting) < self._most and self._next < len(self.paths):
            self._waiting[self._next] = self._threads.submit(self._pixels, self._next)
            self._next += 1

    def _pixels(self, row: int) -> npt.NDArray[np.uint8]:
        """The pixels of one file, or black ones with the reason in `unread`."""
        try:
            return self._decode(row)
        except ImageError as error:
            detail = error.message.removeprefix(f"{self.paths[row]}: ").removeprefix("image: ")
            self.unread[row] = Unread(self.paths[row], str(error.reason), detail)
            return np.zeros((self.size, self.size, 3), np.uint8)

    def _decode(self, row: int) -> npt.NDArray[np.uint8]:
        path = self.paths[row]
        try:
            data = self._read(path)
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise ImageError(QuarantineReason.UNREADABLE, f"{reason}; check the path and its permissions") from error
        limit = int(LIMITS.max_megapixels * 1e6)
        if self.as_ingest:
            width, height = probe(data, path, max_pixels=limit, min_side=LIMITS.min_side)
            if max(width, height) >= STRIP * min(width, height):
                self.strips.add(row)
        pixels = decode(data, self.size, max_pixels=limit, bits=self._bits)
        if misnaming(data, path):
            self.misnamed.add(row)
        return pixels
