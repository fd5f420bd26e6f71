"""Memory: whether it ran out, and trainings that go on with halves of their batches."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from selftrain.config import Recipe
from selftrain.errors import OutOfMemoryError

T = TypeVar("T")
_NO_MEMORY = frozenset({"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"})  # TensorFlow, torch, ours
_PHRASES = ("resource_exhausted", "out of memory")  # XLA
_LEAST = 2  # images in a half: batch norm needs two


def ran_out_of_memory(error: BaseException) -> bool:
    """True if `error` means, on any backend, that a device or this process had no memory left."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & _NO_MEMORY) or any(phrase in str(error).lower() for phrase in _PHRASES)


def why_not_halved(recipe: Recipe) -> str | None:
    """Why a step of `recipe` cannot take its batch in two halves, one after the other; None if it can.

    The gradient of a batch is the mean of its halves' gradients, if both have one size and the loss is a mean over
    images. The rules of in-training methods are not: their estimates, and FreeMatch's fairness, take a batch as a
    whole.

    >>> why_not_halved(Recipe(batch_size=32)), why_not_halved(Recipe(batch_size=7))
    (None, 'a batch of 7 does not have two equal halves of at least 2 images')
    """
    if recipe.in_training:
        return "its method takes a batch as a whole"
    if recipe.batch_size % 2 or recipe.batch_size // 2 < _LEAST:
        return f"a batch of {recipe.batch_size} does not have two equal halves of at least {_LEAST} images"
    return None


def halved_once(train: Callable[[int], T]) -> T:
    """The result of `train(1)`, or of `train(2)` if a step ran out of memory and halves may fit.

    `train(parts)` takes each step's batch in `parts`, one after the other, and applies the mean of their gradients.
    Steps, rates, averages, looks and image-steps are then those of whole batches. A smaller batch, with a lower rate
    and more steps, would keep none of them. What differs is batch norm, whose statistics are those of a half, the
    partners of MixUp and CutMix, and the random numbers. Raises OutOfMemoryError the second time.
    """
    try:
        return train(1)
    except OutOfMemoryError as error:
        if not error.halves_may_fit:
            raise
    gc.collect()  # frees what the failed training holds on the device
    return train(2)


@contextmanager
def memory_named(recipe: Recipe, parts: int, step: Callable[[], int]) -> Iterator[None]:
    """Turn a backend's error about memory into an OutOfMemoryError that names `step()` and the batch in `parts`."""
    try:
        yield
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        refused = why_not_halved(recipe)
        how = f", even in {parts} parts" if parts > 1 else f" ({refused})" if refused else ""
        raise OutOfMemoryError(
            f"out of memory in step {step()}, with batches of {recipe.batch_size} images{how}; lower "
            f"{type(recipe).__name__.lower()}.batch_size, or train on a device with more memory",
            halves_may_fit=parts == 1 and refused is None,
        ) from error
