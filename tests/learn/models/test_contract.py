"""Saved models: digest first, no code, and a user's own model taken in."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from selftrain.errors import BackboneError, ConfigError, UntrustedFileError

pytestmark = [
    pytest.mark.keras,
    # Keras's own save copies TensorFlow variables in a way that numpy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
]


def classifier(activation: str | None = None, classes: int = 3, size: int = 8):
    import keras

    keras.utils.set_random_seed(1)
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(x))
    return keras.Model(image, keras.layers.Dense(classes, activation=activation)(pooled), name="mine")


def contract():
    from selftrain.learn.models.contract import Contract

    return Contract(backbone="mine", image_size=8, class_names=("a", "b", "c"), temperature=1.5)


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)


def test_a_saved_model_answers_the_same_after_loading(tmp_path: Path) -> None:
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.saving import save

    model = classifier()
    saved = save(model, contract(), tmp_path / "m")
    loaded, found = load(tmp_path / "m")
    assert found == saved.contract
    assert len(found.weights_sha256) == 64
    np.testing.assert_allclose(loaded.predict_on_batch(IMAGES), model.predict_on_batch(IMAGES), atol=1e-6)


def test_saving_again_replaces_and_leaves_nothing_else_behind(tmp_path: Path) -> None:
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.saving import save

    save(classifier(), contract(), tmp_path / "m")
    save(classifier(), contract().model_copy(update={"seed": 9}), tmp_path / "m")
    assert load(tmp_path / "m")[1].seed == 9
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_the_model_that_was_there_is_back_where_the_new_one_cannot_be_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.saving import save

    save(classifier(), contract(), tmp_path / "m")
    rename = Path.rename

    def refuse_the_new(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError("no space left")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new)
    with pytest.raises(OSError, match="no space left"):
        save(classifier(), contract().model_copy(update={"seed": 9}), tmp_path / "m")
    assert load(tmp_path / "m")[1].seed == contract().seed
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_model_is_known_by_its_values_not_by_its_file(tmp_path: Path) -> None:
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.saving import save

    first = save(classifier(), contract(), tmp_path / "first").contract
    loaded, _ = load(tmp_path / "first")
    again = save(loaded, contract(), tmp_path / "again").contract
    assert first.identity == again.identity == first.values_sha256
    kernel, bias = loaded.layers[-1].get_weights()
    loaded.layers[-1].set_weights([kernel, np.nextafter(bias, np.float32(1))])
    assert save(loaded, contract(), tmp_path / "other").contract.identity != first.identity


def test_a_file_of_a_users_own_is_the_same_model_when_it_is_taken_in(tmp_path: Path) -> None:
    from selftrain.learn.adoption.adopt import adopt
    from selftrain.learn.models.contract import MODEL_FILE
    from selftrain.learn.models.saving import save

    ours = save(classifier(), contract(), tmp_path / "ours")
    model, promised = adopt(ours.folder / MODEL_FILE, class_names=("a", "b", "c"), image_size=8)
    assert save(model, promised, tmp_path / "adopted").contract.identity == ours.contract.identity


def test_who_learns_from_a_model_descends_from_it_and_from_its_teachers_once() -> None:
    from selftrain.learn.models.contract import Contract

    taught = Contract(backbone="b", image_size=8, class_names=("a", "b"), values_sha256="me", lineage=("x", "y"))
    assert taught.taught == ("x", "y", "me")
    assert taught.model_copy(update={"lineage": ("me", "y")}).taught == ("me", "y")


def test_changed_bytes_are_refused_before_they_are_read(tmp_path: Path) -> None:
    from selftrain.learn.models.contract import MODEL_FILE
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.saving import save

    save(classifier(), contract(), tmp_path / "m")
    path = tmp_path / "m" / MODEL_FILE
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UntrustedFileError, match="was changed after it was saved"):
        load(tmp_path / "m")
    path.unlink()
    with pytest.raises(UntrustedFileError, match="no file"):
        load(tmp_path / "m")


def test_a_folder_without_a_sound_contract_is_refused(tmp_path: Path) -> None:
    from selftrain.learn.models.contract import CONTRACT_FILE
    from selftrain.learn.models.loading import load

    with pytest.raises(UntrustedFileError, match=r"no contract\.json"):
        load(tmp_path)
    (tmp_path / CONTRACT_FILE).write_text('{"format_version": 99}')
    with pytest.raises(UntrustedFileError, match="is not a contract of format 1"):
        load(tmp_path)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_a_users_own_model_answers_logits_whatever_it_answered(tmp_path: Path, activation: str | None) -> None:
    from selftrain.learn.adoption.adopt import adopt
    from selftrain.learn.models.calibrate import softmax
    from selftrain.learn.models.loading import load
    from selftrain.learn.models.saving import save

    model = classifier(activation)
    model.save(tmp_path / "mine.keras")
    adopted, found = adopt(tmp_path / "mine.keras", class_names=("a", "b", "c"), image_size=8)
    answers = model.predict_on_batch(IMAGES)
    wanted = answers if activation else softmax(answers)
    np.testing.assert_allclose(softmax(adopted.predict_on_batch(IMAGES)), wanted, atol=1e-5)
    save(adopted, found, tmp_path / "m")
    np.testing.assert_allclose(softmax(load(tmp_path / "m")[0].predict_on_batch(IMAGES)), wanted, atol=1e-5)


def test_a_model_of_other_classes_or_another_size_is_refused(tmp_path: Path) -> None:
    from selftrain.learn.adoption.adopt import adopt

    classifier().save(tmp_path / "mine.keras")
    with pytest.raises(BackboneError, match=r"answers \(None, 3\); allowed is \(n, 2\)"):
        adopt(tmp_path / "mine.keras", class_names=("a", "b"), image_size=8)
    with pytest.raises(BackboneError, match="reads 8x8 px"):
        adopt(tmp_path / "mine.keras", class_names=("a", "b", "c"), image_size=16)


@pytest.mark.parametrize("names", [("cat",), ("cat", "cat"), ("cat", ""), ()])
def test_too_few_repeated_and_empty_classes_are_refused_in_one_line(tmp_path: Path, names: tuple[str, ...]) -> None:
    from selftrain.learn.adoption.adopt import adopt

    classifier(classes=max(1, len(names))).save(tmp_path / "mine.keras")
    with pytest.raises(BackboneError, match=r"the classes are .*; give two or more") as error:
        adopt(tmp_path / "mine.keras", class_names=names, image_size=8)
    assert "\n" not in error.value.message


def test_a_model_file_damaged_anywhere_is_a_refusal_that_names_it(tmp_path: Path) -> None:
    from selftrain.learn.adoption.adopt import adopt
    from selftrain.learn.models.loading import backbone_of

    classifier().save(tmp_path / "whole.keras")
    whole = (tmp_path / "whole.keras").read_bytes()
    path = tmp_path / "mine.keras"
    refused = 0
    for position in [*range(0, len(whole), 97), *range(len(whole) - 200, len(whole))]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        for read in (lambda: adopt(path, class_names=("a", "b", "c"), image_size=8), lambda: backbone_of(path)):
            try:
                read()  # some bytes are dates and the like
            except UntrustedFileError as error:
                refused += str(path) in error.message and "\n" not in error.message
    assert refused > 100
    with zipfile.ZipFile(tmp_path / "whole.keras") as kept, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in kept.namelist():
            packed.writestr(name, kept.read(name))
    deflated = bytearray(path.read_bytes())
    deflated[60:80] = b"\xff" * 20
    path.write_bytes(deflated)
    with pytest.raises(UntrustedFileError, match=r"mine\.keras is damaged \(.*was not loaded"):
        adopt(path, class_names=("a", "b", "c"), image_size=8)


def test_code_in_a_model_is_refused(tmp_path: Path) -> None:
    import keras

    from selftrain.learn.adoption.adopt import adopt

    image = keras.Input((8, 8, 3))
    x = keras.layers.Lambda(lambda y: y * 2, output_shape=(8, 8, 3))(image)
    keras.Model(image, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))).save(tmp_path / "code.keras")
    with pytest.raises(UntrustedFileError, match="was refused"):
        adopt(tmp_path / "code.keras", class_names=("a", "b", "c"), image_size=8)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.h5", r"damaged, or not a model of Keras 2"),
        ("model.pkl", r"only the \.keras format"),
        ("model.keras", r"only the \.keras format"),
    ],
)
def test_another_format_is_refused_whatever_its_name(tmp_path: Path, name: str, said: str) -> None:
    from selftrain.learn.adoption.adopt import adopt

    (tmp_path / name).write_bytes(b"\x80\x04pickle")
    with pytest.raises(UntrustedFileError, match=said):
        adopt(tmp_path / name, class_names=("a", "b"), image_size=8)


def test_a_folder_with_other_files_is_never_replaced_by_a_model(tmp_path: Path) -> None:
    from selftrain.learn.models.saving import save

    save(classifier(), contract(), tmp_path / "m")
    (tmp_path / "m" / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()}
    with pytest.raises(ConfigError, match=r"holds other files \(notes\.txt\)"):
        save(classifier(), contract(), tmp_path / "m")
    assert {path.name: path.read_bytes() for path in (tmp_path / "m").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
