"""Held-out images: a share of the labelled ones, by a hash of their ids."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from selftrain.data.hash_position import hash_position

Mask = npt.NDArray[np.bool_]


def held_out_mask(ids: npt.NDArray[np.bytes_], *, share: float, seed: int) -> Mask:
    """(n,) True for the `ids` that are held out: about `share` of them, chosen by id and seed alone."""
    return np.array([hash_position(image_id, seed=seed) < share for image_id in ids.tolist()], dtype=np.bool_)
