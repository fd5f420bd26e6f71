"""Held-out images: a share of the labelled images, chosen by a hash of their bytes."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def held_out_mask(ids: npt.NDArray[np.bytes_], *, share: float, seed: int) -> Mask:
    """Which of `ids` (n,) are held out: a function of the id and the seed alone, about `share` of them."""
    return np.array([_position(seed, image_id) < share for image_id in ids.tolist()], dtype=np.bool_)


def _position(seed: int, image_id: bytes) -> float:
    digest = hashlib.blake2b(b"%d:%s" % (seed, image_id), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
