"""SavedModel folders: their graph is read, and only one that computes and nothing else is called."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from selftrain.errors import UntrustedFileError
from selftrain.learn.adoption.adopt import Known, adopt
from selftrain.learn.adoption.formats import Format, digest_of, format_of, name_of, open_brought, side_of
from selftrain.learn.adoption.keras2_layers import OldModelError
from selftrain.learn.adoption.saved_graph import PURE_OPS, read_signature

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]
SAMPLES = Path(__file__).with_name("keras2")
EXPORTED = SAMPLES / "exported"
ACTING = ("ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "RestoreV2", "SaveV2", "MatchingFiles", "PrintV2",
          "Assert", "HashTableV2", "VarHandleOp", "AssignVariableOp", "RandomUniform", "ImmutableConst")  # fmt: skip


def images() -> NDArray[np.float32]:
    return np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype(np.float32)


def acting(folder: Path, secret: Path) -> Path:
    """A SavedModel whose answer depends on a file of the machine, and that writes one."""
    import tensorflow as tf

    class Acting(tf.Module):  # type: ignore[misc]  # tensorflow is not typed here
        @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 3), tf.float32)])  # type: ignore[untyped-decorator]  # tensorflow has no types
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            tf.io.write_file(str(secret), "written by a model")
            return tf.reduce_mean(images, axis=(1, 2))

    module = Acting()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.__call__})
    return folder


def test_a_saved_model_of_tensorflow_2_15_answers_as_it_did_there() -> None:
    assert format_of(EXPORTED) is Format.SAVED_MODEL
    assert side_of(EXPORTED) == 16
    model = open_brought(EXPORTED)
    np.testing.assert_allclose(model.predict(images(), verbose=0), np.load(SAMPLES / "tiny.npy"), atol=1e-5)


def test_two_saved_models_with_functions_of_one_name_stay_apart(tmp_path: Path) -> None:
    first, second = open_brought(EXPORTED), open_brought(shutil.copytree(EXPORTED, tmp_path / "other"))
    np.testing.assert_array_equal(first.predict(images(), verbose=0), second.predict(images(), verbose=0))


def test_a_saved_model_is_adopted_for_labelling(tmp_path: Path) -> None:
    model, contract = adopt(EXPORTED, class_names=("a", "b", "c"), image_size=16, known=Known(pixels="0..255"))
    logits = model.predict(images(), verbose=0)
    exact = np.load(SAMPLES / "tiny.npy")
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), exact, atol=1e-4)
    assert contract.brought is not None
    assert contract.brought.answers == "softmax"


def test_a_graph_that_takes_one_image_is_asked_one_by_one_and_other_numbers_are_refused(tmp_path: Path) -> None:
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.float32)
    for count in (1, 4):
        module = tf.Module()
        mean = tf.function(lambda shown: {"means": tf.reduce_mean(shown, [1, 2])})
        called = mean.get_concrete_function(tf.TensorSpec([count, 8, 8, 3], tf.float32, "image"))
        tf.saved_model.save(module, str(tmp_path / f"of{count}"), signatures={"serving_default": called})
    answers = open_brought(tmp_path / "of1").predict_on_batch(images)
    np.testing.assert_allclose(answers, images.mean(axis=(1, 2)), rtol=1e-5)
    with pytest.raises(UntrustedFileError, match="it reads 4 images at a time; export it for any number"):
        open_brought(tmp_path / "of4")


def test_what_keras_3_exports_is_read_too(tmp_path: Path) -> None:
    import keras

    image = keras.Input((None, None, 3))
    convolution, mean = keras.layers.Conv2D(4, 3, activation="gelu"), keras.layers.GlobalAveragePooling2D()
    layers = (keras.layers.Rescaling(1 / 255), convolution, keras.layers.BatchNormalization(), mean)
    inside = image
    for layer in layers:
        inside = layer(inside)
    model = keras.Model(image, keras.layers.Dense(3)(inside))
    model.export(tmp_path / "exported", verbose=False)
    again = open_brought(tmp_path / "exported")
    assert side_of(tmp_path / "exported") is None
    np.testing.assert_allclose(again.predict(images(), verbose=0), model.predict(images(), verbose=0), atol=1e-5)


def test_a_graph_that_acts_is_refused_and_does_nothing(tmp_path: Path) -> None:
    written = tmp_path / "written.txt"
    folder = acting(tmp_path / "acting", written)
    with pytest.raises(UntrustedFileError) as caught:
        open_brought(folder)
    assert "operation WriteFile" in caught.value.message
    assert "model = tf.keras.models.load_model(" in caught.value.message
    assert not written.exists()


@pytest.mark.parametrize("operation", ACTING)
def test_operations_that_act_are_not_on_the_list(operation: str) -> None:
    assert operation not in PURE_OPS


def test_every_operation_on_the_list_keeps_no_state_but_reading() -> None:
    from tensorflow.python.framework import op_def_registry

    known = {name: op_def_registry.get(name) for name in PURE_OPS}
    stateful = {name for name, definition in known.items() if definition is not None and definition.is_stateful}
    assert stateful == {"DisableCopyOnRead", "ReadVariableOp", "StatefulPartitionedCall", "Placeholder"} & stateful


def test_damaged_and_old_ones_say_why(tmp_path: Path) -> None:
    broken = shutil.copytree(EXPORTED, tmp_path / "broken")
    (broken / "saved_model.pb").write_bytes(b"no protobuf \xff\xff")
    with pytest.raises(OldModelError, match=r"saved_model\.pb is damaged"):
        read_signature(broken)
    lost = shutil.copytree(EXPORTED, tmp_path / "lost")
    shutil.rmtree(lost / "variables")
    with pytest.raises(UntrustedFileError, match="its folder variables is missing or damaged"):
        open_brought(lost)
    (broken / "saved_model.pb").write_bytes(b"")
    with pytest.raises(OldModelError, match="not saved by TensorFlow 2"):
        read_signature(broken)


def test_as_a_teacher_of_a_run_it_says_that_it_can_only_label() -> None:
    with pytest.raises(UntrustedFileError, match=r"can label .* but not be trained or saved") as caught:
        name_of(EXPORTED)
    assert "give a .keras file" in caught.value.message


def test_the_digest_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    copy = shutil.copytree(EXPORTED, tmp_path / "copy")
    assert digest_of(copy) == digest_of(EXPORTED)
    (copy / "variables" / "more").write_text("x")
    assert digest_of(copy) != digest_of(EXPORTED)
