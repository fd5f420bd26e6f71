"""The baseline: logistic regression on frozen features, fitted to the human labels alone. Every run has one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import keras

from selftrain.data.manifest import Manifest, Split
from selftrain.data.store.pixels import Pixels
from selftrain.errors import BackboneError, TrainingDivergedError
from selftrain.evaluate.statistics.forecast import LabelForecast
from selftrain.learn.heads.logistic import Linear
from selftrain.learn.models import divergence
from selftrain.learn.models.calibrate import fit_temperature
from selftrain.learn.models.contract import FORECAST_FILE, Contract, SavedModel
from selftrain.learn.models.features import feature_network
from selftrain.learn.models.kept_features import head_logits
from selftrain.learn.models.loading import load
from selftrain.learn.models.saving import save
from selftrain.learn.training.batches import Examples
from selftrain.learn.training.curve import write_curve
from selftrain.learn.training.examples import examples
from selftrain.selflabel.teaching.fitted import fit_head_to, forecast_of_labels, without_steps
from selftrain.selflabel.teaching.training import train_control

if TYPE_CHECKING:
    from selftrain.selflabel.rounds.plan import BaselinePlan
    from selftrain.selflabel.teaching.task import Destination


def train_baseline(
    manifest: Manifest, pixels: Pixels, plan: BaselinePlan, *, first_teacher: SavedModel, into: Destination
) -> SavedModel:
    """Fit a head to the human labels of `manifest`, calibrate it on validation and save it with its network.

    The features are those of the plan's backbone with its published weights, or of the `first_teacher`. `pixels` have
    the image size of that network, and are aligned with the manifest's rows. Where nothing can be fitted, the folder
    holds the reason in place of a model (`divergence.reason`), so that a baseline never ends a run.
    """
    if not plan.of_teacher:
        return train_control(manifest, pixels, plan, into=into)
    began, contract = time.monotonic(), _contract(manifest, plan, first_teacher)
    try:
        return _on_teacher(manifest, pixels, plan, first_teacher, contract, into)
    except (TrainingDivergedError, BackboneError) as error:
        spent = {"seconds": time.monotonic() - began}
        return divergence.leave(error.message, contract.model_copy(update=spent), into.folder)


def _contract(manifest: Manifest, plan: BaselinePlan, teacher: SavedModel) -> Contract:
    """The contract of a new head on the features of `teacher`, as far as it is known before the fit."""
    return Contract(
        backbone=plan.backbone,
        image_size=teacher.contract.image_size,
        class_names=manifest.label_map.names,
        manifest_digest=manifest.digest,
        lineage=teacher.contract.taught,
        seed=plan.seed,
        bits=manifest.bits,
    )


def _on_teacher(
    manifest: Manifest,
    pixels: Pixels,
    plan: BaselinePlan,
    teacher: SavedModel,
    contract: Contract,
    into: Destination,
) -> SavedModel:
    began = time.monotonic()
    network = with_new_head(load(teacher.folder)[0], classes=len(contract.class_names))
    train, validation = examples(manifest, pixels, Split.TRAIN), examples(manifest, pixels, Split.VALIDATION)
    fitted = fit_head_to(network, train, plan.recipe, seed=plan.seed, progress=into.progress)
    trained = without_steps(network, validation, began=began)
    logits = head_logits(network, pixels, validation.rows)
    temperature = fit_temperature(logits, validation.targets.argmax(axis=1))
    learnt = {"temperature": temperature, "seconds": trained.seconds}
    saved = save(network, contract.model_copy(update=learnt), into.folder)
    write_curve(trained.curve, into.folder)
    _forecast(teacher, contract, fitted, network, train, validation).write(into.folder / FORECAST_FILE)
    return saved


def _forecast(
    teacher: SavedModel,
    contract: Contract,
    fitted: Linear,
    network: keras.Model,
    train: Examples,
    validation: Examples,
) -> LabelForecast:
    """What more labels would add, if the features of `teacher` are not themselves learned from these labels."""
    if teacher.contract.image_steps or teacher.contract.brought is not None:
        reason = (
            "the features are learned from these labels, so a head on them cannot say what other labels would add; "
            "with published weights for teacher and student, the next run can"
        )
        return LabelForecast(labels=int(train.human.sum()), unknown=reason)
    names, seed = contract.class_names, contract.seed
    return forecast_of_labels(network, train, validation, names=names, head=fitted, seed=seed)


def with_new_head(model: keras.Model, *, classes: int) -> keras.Model:
    """The feature network of `model` and a new last layer, "logits", with answers float32 (n, `classes`).

    Raises BackboneError as `feature_network` does.
    """
    network = feature_network(model)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(network.output)
    return keras.Model(network.inputs, logits, name=f"{model.name}_fitted")
