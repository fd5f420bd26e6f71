"""The flat optimizer gives the numbers of Keras's own, and an average that warms up."""

import numpy as np
import pytest

pytestmark = pytest.mark.keras


def test_ten_steps_equal_keras_adamw_and_the_average_a_naive_one() -> None:
    import keras

    from selftrain.learn.networks.variables import read
    from selftrain.learn.training.optimizer import FlatAdamW

    rng = np.random.default_rng(0)
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 8, warmup_target=0.1, warmup_steps=2)
    start = [rng.normal(size=(3, 2)), rng.normal(size=(2,))]
    ours = [keras.Variable(start[0], name="kernel"), keras.Variable(start[1], name="bias")]
    theirs = [keras.Variable(start[0], name="kernel"), keras.Variable(start[1], name="bias")]
    flat = FlatAdamW(schedule, weight_decay=0.1, average=0.45)
    stock = keras.optimizers.AdamW(schedule, weight_decay=0.1)
    stock.exclude_from_weight_decay(var_names=["bias"])
    naive: list[np.ndarray] = []
    for t in range(10):
        gradients = [keras.ops.convert_to_tensor(rng.normal(size=(3, 2)).astype("float32")), keras.ops.ones((2,))]
        flat.apply(gradients, ours)
        stock.apply(gradients, theirs)
        momentum = min(0.45, (1 + t) / (10 + t))  # tf.train.ExponentialMovingAverage(0.45, num_updates=t)
        pairs = zip(naive or read(theirs), read(theirs), strict=True)
        naive = [momentum * mean + (1 - momentum) * now for mean, now in pairs]
    for one, other in zip(read(ours), read(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    for mean, other in zip(flat.averaged(), naive, strict=True):
        np.testing.assert_allclose(mean, other, rtol=1e-4, atol=1e-6)


def test_without_an_average_there_is_none_to_read() -> None:
    import keras

    from selftrain.learn.networks.variables import read
    from selftrain.learn.training.optimizer import FlatAdamW

    variable = keras.Variable(np.ones(2))
    optimizer = FlatAdamW(0.1)
    optimizer.apply([keras.ops.ones((2,))], [variable])
    assert (read([variable])[0] < 1).all()
    with pytest.raises(ValueError, match="average=None"):
        optimizer.averaged()
