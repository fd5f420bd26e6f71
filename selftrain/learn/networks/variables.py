"""Variables: the state of a model or an optimizer as numpy arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from numpy.typing import NDArray


def read(variables: Iterable[keras.Variable]) -> list[NDArray[Any]]:
    """Each variable's value, copied, in the variables' order."""
    # Copied to a tensor first: numpy 2 warns when it copies a TensorFlow variable directly.
    return [keras.ops.convert_to_numpy(keras.ops.copy(variable)) for variable in variables]


def write(variables: Sequence[keras.Variable], values: Sequence[NDArray[Any]]) -> None:
    """Assign `values` to `variables`, one each. Raises ValueError if the counts or a shape differ."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
