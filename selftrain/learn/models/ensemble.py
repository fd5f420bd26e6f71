"""Ensemble: several saved models as one, which averages their calibrated probabilities."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from selftrain.errors import ConfigError
from selftrain.files.places import check_out, user_path
from selftrain.learn.models.contract import Contract, SavedModel
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import check_replaceable, save

if TYPE_CHECKING:
    import keras

SMALLEST_PROBABILITY = 1e-7


def ensemble(
    *,
    models: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    weights: Sequence[float] | None = None,
) -> SavedModel:
    """Save the models in the folders `models` as one model in the folder `out`.

    Its probabilities are the mean of the members' calibrated ones. It answers their logarithm, so that it can be used
    like any saved model: to predict, to label a pool, or as `teacher.start`. It is as large and slow as its members
    together; `distill` makes a small model of it.

    Args:
      - `models`: folders of saved models. They may read different image sizes; the ensemble reads the largest and
        resizes inside. They may have their classes in different orders; the ensemble has the first one's.
      - `out`: the folder of the new model. It must be new or empty, or hold an earlier ensemble of the same models,
        which is replaced.
      - `weights`: one number per model, 0 or more. None: all equal.

    Returns:
        The saved model.

    Raises:
      - ConfigError: there are fewer than two models, their classes differ, or `weights` or `out` do not fit.
      - UntrustedFileError: a folder does not hold a saved model, or holds one that was changed.
    """
    if len(models) < 2:
        raise ConfigError(f"an ensemble needs two models or more, got {len(models)}")
    shares = _shares(weights, len(models))
    out = user_path(out)
    check_out(out)
    members = [load(user_path(folder)) for folder in models]
    contracts = [contract for _, contract in members]
    _check_classes(contracts, models)
    promised = _contract(members)
    check_replaceable(out, lineage=promised.lineage, trained=False)
    return save(averaged([model for model, _ in members], contracts, shares), promised, out)


def averaged(models: Sequence[keras.Model], contracts: Sequence[Contract], shares: Sequence[float]) -> keras.Model:
    """A model of stock layers from images (n, s, s, 3) to log-probabilities; s is the members' largest size.

    `shares` sum to 1. Columns follow the first member's class names.
    """
    import keras

    size, names = max(contract.image_size for contract in contracts), contracts[0].class_names
    image = keras.Input((size, size, 3), name="image")
    weighted = []
    for number, (model, contract, share) in enumerate(zip(models, contracts, shares, strict=True)):
        fitting = image
        if contract.image_size != size:
            side = contract.image_size
            fitting = keras.layers.Resizing(side, side, antialias=True, name=f"resize_{number}")(image)
        member = keras.Model(model.input, model.output, name=f"member_{number}")
        calibrated = keras.layers.Rescaling(1 / contract.temperature, name=f"calibrate_{number}")(member(fitting))
        probs = keras.layers.Softmax(dtype="float32", name=f"probabilities_{number}")(calibrated)
        if contract.class_names != names:
            probs = keras.ops.take(probs, [contract.class_names.index(name) for name in names], axis=-1)
        weighted.append(keras.layers.Rescaling(share, name=f"share_{number}")(probs))
    mean = keras.layers.Add(name="mean")(weighted)
    return keras.Model(image, keras.ops.log(keras.ops.maximum(mean, SMALLEST_PROBABILITY)), name="ensemble")


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    numbers = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(numbers) != count or min(numbers) < 0 or not 0 < sum(numbers) < float("inf"):
        raise ConfigError(f"weights are {numbers} for {count} models; give one number per model, 0 or more, not all 0")
    return [weight / sum(numbers) for weight in numbers]


def _check_classes(contracts: Sequence[Contract], models: Sequence[str | os.PathLike[str]]) -> None:
    first = contracts[0].class_names
    for contract, folder in zip(contracts, models, strict=True):
        if set(contract.class_names) != set(first) or len(contract.class_names) != len(first):
            raise ConfigError(
                f"the classes of {os.fspath(folder)} are {', '.join(contract.class_names[:10])}, those of "
                f"{os.fspath(models[0])} {', '.join(first[:10])}; give models with the same classes"
            )
        if contract.bits != contracts[0].bits:
            raise ConfigError(
                f"{os.fspath(folder)} reads grey pictures of 16 bits as {contract.bits or 16}, "
                f"{os.fspath(models[0])} as {contracts[0].bits or 16}; give models that read them alike"
            )


def _contract(members: Sequence[tuple[keras.Model, Contract]]) -> Contract:
    """What the ensemble promises. Its `backbone` is the largest member's, so that a student climbs from there."""
    contracts = [contract for _, contract in members]
    digests = {contract.manifest_digest for contract in contracts}
    return Contract(
        backbone=max(members, key=lambda member: member[0].count_params())[1].backbone,
        image_size=max(contract.image_size for contract in contracts),
        class_names=contracts[0].class_names,
        manifest_digest=digests.pop() if len(digests) == 1 else "",
        lineage=tuple(dict.fromkeys(each for contract in contracts for each in contract.taught)),
        image_steps=sum(contract.image_steps for contract in contracts),
        seconds=sum(contract.seconds for contract in contracts),
        seed=contracts[0].seed,
        bits=contracts[0].bits,
    )
