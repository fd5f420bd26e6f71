"""A fitted head: the last layer of a network with a frozen backbone, by logistic regression instead of by steps."""

from __future__ import annotations

import keras
import numpy as np

from selftrain.data.store.pixels import Pixels
from selftrain.learn.heads.logistic import Ints, Linear, Targets, fit_logistic
from selftrain.learn.models.features import feature_network
from selftrain.learn.models.kept_features import views_of
from selftrain.progress import Progress, silent


def fit_head(
    network: keras.Model,
    pixels: Pixels,
    rows: Ints,
    targets: Targets,
    *,
    mirrored: bool,
    seed: int,
    progress: Progress = silent,
) -> Linear:
    """Fit the layer "logits" of `network`, a model from `backbones.build`, in place; its backbone stays as it is.

    `rows` (n,) of `pixels` have the `targets`. Each image is asked once, or twice if it may be `mirrored`: both views
    then count half. Returns the classifier that was written into the layer.
    """
    views = views_of(feature_network(network), pixels, rows, mirrored=mirrored, progress=progress)
    fitted = fit_logistic(np.concatenate(views), _repeated(targets, len(views)), seed=seed)
    network.get_layer("logits").set_weights([fitted.weights.astype(np.float32), fitted.bias.astype(np.float32)])
    return fitted


def _repeated(targets: Targets, views: int) -> Targets:
    """`targets` for each of the `views`. Only the first view is held out, so that no image is on both sides."""
    human = np.zeros((views, len(targets.human)), bool)
    human[0] = targets.human
    return Targets(np.tile(targets.probs, (views, 1)), np.tile(targets.weights / views, views), human.reshape(-1))
