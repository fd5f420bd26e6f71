"""View losses: how much the embeddings of two augmentations of the same images disagree."""

from __future__ import annotations

import keras
from keras import ops

_TINY = 1e-12
_NEVER = 1e9


def barlow_twins(
    first: keras.KerasTensor, second: keras.KerasTensor, *, off_diagonal: float = 0.005
) -> keras.KerasTensor:
    """Barlow Twins' loss (arXiv:2103.03230, eq. 1-2) of embeddings (n, d) of the same n images in two views; a scalar.

    The cross-correlation of the embeddings over the batch should be the identity. `off_diagonal` is the paper's lambda,
    the weight of the redundancy term. A dimension that is constant over the batch correlates with nothing.
    """
    correlation = ops.matmul(ops.transpose(_standard(first)), _standard(second))
    invariance = ops.sum(ops.square(1.0 - ops.diagonal(correlation)))
    redundancy = ops.sum(ops.square(correlation * (1.0 - ops.eye(correlation.shape[0], dtype=correlation.dtype))))
    return invariance + off_diagonal * redundancy


def nt_xent(first: keras.KerasTensor, second: keras.KerasTensor, *, temperature: float = 0.5) -> keras.KerasTensor:
    """SimCLR's NT-Xent loss (arXiv:2002.05709, eq. 1) of embeddings (n, d) of the same n images in two views; a scalar.

    Each of the 2n embeddings has to find the other view of its image among 2n - 1 others, by cosine similarity over
    `temperature`. The loss is the mean cross-entropy of that choice.
    """
    n = ops.shape(first)[0]
    unit = ops.normalize(ops.concatenate([first, second]), axis=-1, order=2)
    similarity = ops.matmul(unit, ops.transpose(unit)) / temperature
    similarity = similarity - _NEVER * ops.eye(2 * n, dtype=similarity.dtype)
    partner = ops.concatenate([ops.arange(n) + n, ops.arange(n)])
    return ops.mean(keras.losses.sparse_categorical_crossentropy(partner, similarity, from_logits=True))


def _standard(embeddings: keras.KerasTensor) -> keras.KerasTensor:
    """The embeddings, with each column scaled to mean 0 and length 1 over the batch."""
    centred = embeddings - ops.mean(embeddings, axis=0, keepdims=True)
    squares = ops.sum(ops.square(centred), axis=0, keepdims=True)
    return centred / ops.sqrt(ops.maximum(squares, _TINY))
