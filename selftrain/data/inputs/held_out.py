"""Held-out images: a share of the labelled images, chosen by a hash of their bytes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from selftrain.data.hash_position import hash_position

Mask = npt.NDArray[np.bool_]


def held_out_mask(ids: npt.NDArray[np.bytes_], *, share: float, seed: int) -> Mask:
    """Which of `ids` (n,) are held out: a function of the id and the seed alone, about `share` of them."""
    return np.array([hash_position(image_id, seed=seed) < share for image_id in ids.tolist()], dtype=np.bool_)
