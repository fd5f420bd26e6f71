"""Pretraining: a backbone learns from images without labels, through two views of each; it resumes after a kill."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import keras
import numpy as np
from numpy.typing import NDArray

from selftrain.config import Pretraining
from selftrain.errors import ConfigError, TrainingDivergedError
from selftrain.learn.models.features import feature_network
from selftrain.learn.models.predict import predict_logits
from selftrain.learn.networks import variables
from selftrain.learn.networks.batchnorm import Statistics
from selftrain.learn.networks.copies import at_precision
from selftrain.learn.networks.device import jit
from selftrain.learn.pretraining.knn import knn_accuracy, spread
from selftrain.learn.pretraining.two_views import TwoViews, projector
from selftrain.learn.training import schedule
from selftrain.learn.training.batches import Batches, Examples
from selftrain.learn.training.checkpoint import TORN, Checkpoints, read_arrays, write_arrays
from selftrain.learn.training.feed import feed
from selftrain.learn.training.optimizer import FlatAdamW
from selftrain.progress import Progress, silent

if TYPE_CHECKING:
    import pyarrow as pa

    from selftrain.data.store.pixels import Pixels

STATE_FILE = "pretraining.npz"
_COLLAPSED = 0.01  # spread; 1 is healthy
_LOOKED_AT = 512  # unlabelled images for the embeddings' spread
_MOST_NEIGHBOURS = 5000  # labelled images that vote
_NOT_OF_THE_STEPS = {"backbone", "image_size", "reduce_strides", "checkpoint_s"}  # the network itself is compared
_SAMPLED = 256  # images whose bytes tell two sets apart


@dataclass(frozen=True)
class LabeledRows:
    """Labelled images that judge the features: `rows` (n,) of `pixels` and their class indices (n,)."""

    pixels: Pixels
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class FeatureLook:
    """The features after `step` steps, and the mean loss since the look before.

    `spread` is that of the embeddings: 1 is healthy, 0 is collapsed. `knn_accuracy` is the share of labelled images
    whose neighbours vote for their label, None without labels.
    """

    step: int
    loss: float
    spread: float
    knn_accuracy: float | None
    learning_rate: float


@dataclass(frozen=True)
class PretrainingResult:
    """A model from `backbones.build` with a trained backbone, its looks, and the wall time over all starts.

    `knn_before` is the k-NN accuracy of its first weights, None without labels.
    """

    model: keras.Model
    looks: tuple[FeatureLook, ...]
    knn_before: float | None
    seconds: float


def curve_of(pretrained: PretrainingResult) -> pa.Table:
    """The looks as a table, one per row."""
    import pyarrow as pa

    return pa.Table.from_pylist([asdict(look) for look in pretrained.looks])


@dataclass(frozen=True)
class _PretrainingPosition:
    fingerprint: str
    step: int = 0
    seconds: float = 0.0
    knn_before: float | None = None
    looks: tuple[FeatureLook, ...] = ()
    loss_sum: float = 0.0
    loss_count: int = 0


def pretrain(
    model: keras.Model,
    *,
    recipe: Pretraining,
    pixels: Pixels,
    rows: NDArray[np.int64],
    labeled: LabeledRows | None = None,
    seed: int,
    checkpoints: Checkpoints,
    progress: Progress = silent,
) -> PretrainingResult:
    """Train the backbone of `model` (from `backbones.build`), in place, on the images `rows` (n,) of `pixels`.

    The training uses AdamW, a linear warm-up and a cosine decay. Batch norm's statistics are measured again on images
    without augmentation, as prediction sees them. The state is saved to `checkpoints` at each look and from time to
    time. A call with the same arguments continues from there, or returns at once if it had finished.

    Raises ConfigError for fewer images than a batch, and TrainingHeldError if another process runs the same training.
    Raises TrainingDivergedError, naming the step, for a loss that is not finite or embeddings that have collapsed.
    """
    batches = _batches(recipe, pixels, rows, seed)
    position = _PretrainingPosition(_fingerprint(model, recipe, batches, labeled))
    run = _PretrainingRun(model, recipe, batches, labeled, checkpoints, position, progress)
    with checkpoints.held():
        return run.to_the_end()


def identity(model: keras.Model, *, recipe: Pretraining, pixels: Pixels, rows: NDArray[np.int64], seed: int) -> str:
    """A digest (hex) for the weights from `pretrain`, of the network, the settings and the images.

    Raises ConfigError for fewer images than a batch.
    """
    return _fingerprint(model, recipe, _batches(recipe, pixels, rows, seed), None)


def _batches(recipe: Pretraining, pixels: Pixels, rows: NDArray[np.int64], seed: int) -> Batches:
    if len(rows) < recipe.batch_size:
        raise ConfigError(f"{len(rows)} images for batches of {recipe.batch_size}; give more images or a smaller batch")
    none, ones = np.zeros((len(rows), 1), np.float32), np.ones(len(rows), np.float32)
    return Batches(Examples(pixels, rows, none, ones, ones.astype(np.bool_)), recipe.batch_size, seed)


def _fingerprint(model: keras.Model, recipe: Pretraining, batches: Batches, labeled: LabeledRows | None) -> str:
    """Tells pretrainings apart: a checkpoint is continued only with the same fingerprint."""
    network = (model.name, model.input_shape, model.get_layer("backbone").output.shape, model.count_params())
    examples = batches.examples
    sample = examples.rows[np.linspace(0, len(examples) - 1, min(_SAMPLED, len(examples))).astype(np.int64)]
    content = hashlib.sha256(examples.pixels.gather(sample).tobytes()).hexdigest()
    judges = hashlib.sha256(labeled.rows.tobytes() + labeled.labels.tobytes()).hexdigest() if labeled else ""
    data = (examples.digest, content, judges, batches.seed)
    settings = recipe.model_dump(mode="json", exclude=_NOT_OF_THE_STEPS)
    text = json.dumps((settings, network, data), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class _PretrainingRun:
    """One pretraining in progress: the live networks, and how far it is."""

    def __init__(
        self,
        model: keras.Model,
        recipe: Pretraining,
        batches: Batches,
        labeled: LabeledRows | None,
        checkpoints: Checkpoints,
        position: _PretrainingPosition,
        progress: Progress,
    ) -> None:
        self.model, self.recipe, self.batches, self.labeled = model, recipe, batches, labeled
        self.state_file, self.save_every_s = checkpoints.folder / STATE_FILE, checkpoints.every_s
        self.position, self.progress = position, progress
        self.features = feature_network(model)
        head = projector(recipe, self.features.output_shape[-1])
        self.embed = keras.Model(model.input, head(self.features.output), name="embed")
        self.learning = at_precision(self.embed, recipe.precision)
        self.trainer = TwoViews(self.learning, recipe, seed=batches.seed)
        self.started = time.monotonic()

    def to_the_end(self) -> PretrainingResult:
        """Train what is left, and return the model."""
        phase = schedule.Phase(0, self.recipe.steps, frozen=False, rate=self.recipe.learning_rate)
        rate = schedule.learning_rate(phase, warmup=self.recipe.warmup)
        optimizer = FlatAdamW(rate, weight_decay=self.recipe.weight_decay)
        self.trainer.compile(optimizer, jit_compile=jit())
        optimizer.build(self.trainer.trainable_variables)
        statistics = Statistics(self.embed)
        if not self._restored():
            statistics.measure(self._plain_batches())
            self.position = replace(self.position, knn_before=self._knn_accuracy())
        elif self.learning is not self.embed:
            self._bring_over(statistics)
        for stop in schedule.looks(phase, every=self.recipe.look_every):
            if self.position.step < stop:
                self._fit(stop)
                self._look(stop, statistics)
        return PretrainingResult(self.model, self.position.looks, self.position.knn_before, self.position.seconds)

    def _restored(self) -> bool:
        try:
            arrays, text = read_arrays(self.state_file)
        except TORN:
            return False
        values = json.loads(text)
        if values["fingerprint"] != self.position.fingerprint:
            return False
        looks = tuple(FeatureLook(**look) for look in values["looks"])
        self.position = _PretrainingPosition(**{**values, "looks": looks})
        self.started = time.monotonic() - self.position.seconds
        variables.write(self._state(), arrays)
        return True

    def _state(self) -> list[keras.Variable]:
        return [*self.trainer.variables, *self.trainer.optimizer.variables]

    def _fit(self, stop: int) -> None:
        start = self.position.step
        data = feed(self.batches.dataset(start, stop))
        watch = _PretrainingWatch(self, stop)
        self.trainer.fit(data, epochs=1, steps_per_epoch=stop - start, shuffle=False, verbose=0, callbacks=[watch])

    def _look(self, step: int, statistics: Statistics) -> None:
        """Judge the features as prediction sees them, and save."""
        self._bring_over(statistics)
        rows = self.batches.examples.rows[:_LOOKED_AT]
        spread_now = spread(predict_logits(self.embed, self.batches.examples.pixels, rows))
        if spread_now < _COLLAPSED:
            raise TrainingDivergedError(
                f"the embeddings of all images are the same at step {step} (spread {spread_now:.4f}, 1 is healthy); "
                f"lower learning_rate (now {self.recipe.learning_rate}), or raise batch_size or warmup"
            )
        look = FeatureLook(
            step=step,
            loss=self.position.loss_sum / max(self.position.loss_count, 1),
            spread=spread_now,
            knn_accuracy=self._knn_accuracy(),
            learning_rate=float(self.trainer.optimizer.learning_rate),
        )
        self.position = replace(
            self.position, step=step, looks=(*self.position.looks, look), loss_sum=0.0, loss_count=0
        )
        self.save()

    def _bring_over(self, statistics: Statistics) -> None:
        """Copy the learnt weights to the network that is judged and returned, and measure its batch norm."""
        if self.learning is not self.embed:
            variables.write(self.embed.weights, variables.read(self.learning.weights))
        statistics.measure(self._plain_batches())

    def _knn_accuracy(self) -> float | None:
        if self.labeled is None:
            return None
        chosen = np.random.default_rng(self.batches.seed).permutation(len(self.labeled.rows))[:_MOST_NEIGHBOURS]
        features = predict_logits(self.features, self.labeled.pixels, self.labeled.rows[chosen])
        return knn_accuracy(features, self.labeled.labels[chosen])

    def _plain_batches(self) -> list[NDArray[np.uint8]]:
        """Images for batch norm's statistics, in batches of one size."""
        examples, size = self.batches.examples, min(128, len(self.batches.examples))
        count = min(_LOOKED_AT, len(examples)) // size * size
        rows = np.random.default_rng(self.batches.seed).permutation(examples.rows)[:count]
        return [examples.pixels.gather(rows[i : i + size]) for i in range(0, count, size)]

    def save(self) -> None:
        """Write the state to disk."""
        self.position = replace(self.position, seconds=time.monotonic() - self.started)
        write_arrays(self.state_file, variables.read(self._state()), json.dumps(asdict(self.position)))


class _PretrainingWatch(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Stops a pretraining whose loss is not finite, saves it from time to time, and reports progress."""

    def __init__(self, run: _PretrainingRun, stop: int) -> None:
        super().__init__()
        self.run, self.stop, self.before = run, stop, run.position
        self.saved_at = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """`logs["loss"]` is the mean over the batches of this fit."""
        loss, done = float((logs or {})["loss"]), batch + 1
        step = self.before.step + done
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"the loss became {loss} at step {step} of {self.run.recipe.steps}; "
                f"lower learning_rate (now {self.run.recipe.learning_rate}) or lengthen warmup"
            )
        self.run.position = replace(
            self.run.position,
            step=step,
            loss_sum=self.before.loss_sum + loss * done,
            loss_count=self.before.loss_count + done,
        )
        if step < self.stop and time.monotonic() - self.saved_at >= self.run.save_every_s:
            _ = self.model  # Keras brings the variables up to date here on backends that keep them apart
            self.run.save()
            self.saved_at = time.monotonic()
        self.run.progress(step, self.run.recipe.steps, f"loss {loss:.3f}")
