"""Formats of models that a user brings: which one a path holds, what opens it, and how the others are converted."""

from __future__ import annotations

import hashlib
import json
import zipfile
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, assert_never

from selftrain.errors import ConfigError, UntrustedFileError
from selftrain.learn.adoption.keras2_layers import OldModelError, plain_name
from selftrain.learn.models.contract import CONTRACT_FILE, MODEL_FILE, file_digest
from selftrain.learn.models.loading import UNREADABLE_ZIP, backbone_of, load_keras

if TYPE_CHECKING:
    import keras

_GRAPH_FILE, _CONFIG_FILE, _TASK_FILE = "saved_model.pb", "config.json", "task.json"


class Format(Enum):
    """What a path holds that a user brings; only the first three can be trained and saved again."""

    KERAS = "a .keras file"
    H5 = "an .h5 file of Keras 2"
    PRESET = "a preset folder of KerasHub"
    SAVED_MODEL = "a SavedModel folder"
    ONNX = "an ONNX file"

    @property
    def only_answers(self) -> bool:
        """Whether a model of this format labels, but cannot be saved as one of ours."""
        return self in (Format.SAVED_MODEL, Format.ONNX)


_SUFFIXES: Final = {".keras": Format.KERAS, ".h5": Format.H5, ".hdf5": Format.H5, ".onnx": Format.ONNX}
_TORCH: Final = (".pt", ".pth", ".ckpt", ".safetensors", ".bin")
_PICKLES: Final = (".pkl", ".pickle", ".joblib")
ANY_SIDE: Final = 224  # pixels, of images for a model that reads any size
NAMED: Final = "a .keras, .h5 or .onnx file, a SavedModel folder or a KerasHub preset folder"


def format_of(path: Path) -> Format | None:
    """The format of what a user brings at `path`; None for a model's folder of ours, and for anything else."""
    if path.is_dir():
        if (path / CONTRACT_FILE).is_file():
            return None
        if (path / _GRAPH_FILE).is_file():
            return Format.SAVED_MODEL
        names = (_CONFIG_FILE, _TASK_FILE)
        return Format.PRESET if any((path / name).is_file() for name in names) else None
    return _SUFFIXES.get(path.suffix.lower()) if path.is_file() else None


def is_brought(path: Path) -> bool:
    """Whether `path` holds a model that a user brings, and no contract of ours says how it reads images."""
    return format_of(path) is not None and not (path.name == MODEL_FILE and (path.parent / CONTRACT_FILE).is_file())


def open_brought(path: Path) -> keras.Model:
    """The model at `path`, in any Format, for inference; no code in it is run.

    A single answer in a list or a dict is taken out of it. Raises UntrustedFileError, with the two lines that convert
    it, for a model that cannot be read safely, and ConfigError where an extra is missing.
    """
    form = format_of(path)
    try:
        match form:
            case Format.KERAS | None:
                return _unwrapped(load_keras(path))
            case Format.H5:
                from selftrain.learn.adoption.keras2 import load_h5

                return load_h5(path)
            case Format.PRESET:
                from selftrain.learn.adoption.preset_classifier import load_classifier

                return load_classifier(path)
            case Format.SAVED_MODEL:
                return _saved_model(path)
            case Format.ONNX:
                from selftrain.learn.adoption.onnx_model import load_onnx

                return load_onnx(path)
            case _:
                assert_never(form)
    except OldModelError as error:
        raise UntrustedFileError(f"{path} was refused: {error}.\n{_advice(path, form)}") from error
    except ModuleNotFoundError as error:
        if form is not Format.ONNX:
            raise
        raise ConfigError(f"{path} needs {error.name}; install selftrain[export]") from error


def _unwrapped(model: keras.Model) -> keras.Model:
    """`model`, whose only answer is an array, and not a list or a dict of one."""
    import keras

    if isinstance(model, keras.Sequential) or len(getattr(model, "outputs", ())) != 1:
        return model
    if not isinstance(model.output, list | tuple | dict):
        return model
    return keras.Model(model.inputs[0] if len(model.inputs) == 1 else model.inputs, model.outputs[0], name=model.name)


def refuse_other(path: Path) -> UntrustedFileError:
    """The refusal of a path that holds no Format, with the two lines that convert it."""
    return UntrustedFileError(f"{path} is not {NAMED}, nor a folder that selftrain saved.\n{_advice(path, None)}")


def side_of(path: Path) -> int | None:
    """The longer side in pixels of what the model at `path` reads; None where it reads any size, or is damaged."""
    match format_of(path):
        case Format.H5:
            from selftrain.learn.adoption.keras2 import side_of as side_of_h5

            return side_of_h5(path)
        case Format.PRESET:
            from selftrain.learn.adoption.preset_classifier import side_of_preset

            return side_of_preset(path)
        case Format.SAVED_MODEL:
            from selftrain.learn.adoption.saved_graph import read_signature

            try:
                shape = read_signature(path).input_shape
            except OldModelError:
                return None  # loading it says why
            return max((side for side in shape[1:3] if side is not None), default=None)
        case Format.ONNX:
            from selftrain.learn.adoption.onnx_model import side_of_onnx

            return side_of_onnx(path)
        case _:
            return _side_of_keras(path)


def name_of(path: Path) -> str:
    """The name of the network at `path`, of any Format or a saved model's folder, without loading it.

    Raises UntrustedFileError for a path that holds neither.
    """
    try:
        match format_of(path):
            case Format.H5:
                from selftrain.learn.adoption.keras2 import name_of_h5

                return name_of_h5(path)
            case Format.PRESET:
                from selftrain.learn.adoption.preset_classifier import name_of_classifier

                return name_of_classifier(path)
            case Format.SAVED_MODEL | Format.ONNX as form:
                raise UntrustedFileError(
                    f"{path} is {form.value}, which can label (`selftrain pseudo-label --model`), but not be "
                    f"trained or saved: as the teacher of a run, give a .keras file.\n{_advice(path, form)}"
                )
            case _:
                return backbone_of(path)
    except OldModelError as error:
        raise UntrustedFileError(f"{path} was refused: {error}.\n{_advice(path, format_of(path))}") from error


def digest_of(path: Path) -> str:
    """sha256 (hex) of a file, or of the names and contents of a folder's files."""
    if path.is_file():
        return file_digest(path)
    digest = hashlib.sha256()
    for each in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{each.relative_to(path).as_posix()} {file_digest(each)};".encode())
    return digest.hexdigest()


def _saved_model(path: Path) -> keras.Model:
    from selftrain.learn.adoption.graph_layer import graph_model
    from selftrain.learn.adoption.saved_graph import SavedGraph, read_signature

    signature = read_signature(path)
    if len(signature.input_shape) != 4 or len(signature.output_shape) != 2 or signature.output_shape[1] is None:
        raise OldModelError(
            f"it reads {signature.input_shape} and answers {signature.output_shape}, not images, classes"
        )
    if signature.input_shape[0] not in (None, 1):
        raise OldModelError(f"it reads {signature.input_shape[0]} images at a time; export it for any number")
    graph = SavedGraph(signature)
    name = plain_name(path.resolve().name) or "saved_model"
    return graph_model(
        graph, shape=signature.input_shape[1:], columns=signature.output_shape[1], variables=graph.variables, name=name
    )


def _side_of_keras(path: Path) -> int | None:
    try:
        with zipfile.ZipFile(path) as archive:
            described: Any = json.loads(archive.read("config.json"))
        inputs = [layer for layer in described["config"]["layers"] if layer["class_name"] == "InputLayer"]
        sides = [side for side in inputs[0]["config"]["batch_shape"][1:3] if isinstance(side, int)]
    except (*UNREADABLE_ZIP, TypeError, IndexError):
        return None  # if the file is broken, loading it says so
    return max(sides, default=None)


def _advice(path: Path, form: Format | None) -> str:
    """The two lines that make of `path` what is accepted."""
    called, suffix = repr(str(path)), path.suffix.lower()
    if suffix in _PICKLES:
        return "A pickle runs code when it is opened, so it never is. Where it was made:\n" + _lines(
            "model = ...  # the Keras model that was pickled", "model.save('model.keras')"
        )
    if suffix in _TORCH:
        return "Where PyTorch is, with the module that it belongs to:\n" + _lines(
            f"module.load_state_dict(torch.load({called}, weights_only=True)); module.eval()",
            "torch.onnx.export(module, torch.zeros(1, 3, 224, 224), 'model.onnx')",
        )
    if suffix == ".tflite" or form is Format.ONNX:
        return "From the model that it was made of, in Keras:\n" + _lines(
            "model = ...  # the Keras model", "model.save('model.keras')"
        )
    if form is Format.PRESET:
        return "Where KerasHub is:\n" + _lines(
            f"model = keras_hub.models.ImageClassifier.from_preset({called})", "model.save('model.keras')"
        )
    if form in (Format.H5, Format.SAVED_MODEL):
        return "With the TensorFlow that it was made with (2.13 or later; only a file that you trust):\n" + _lines(
            f"model = tf.keras.models.load_model({called}, compile=False)",
            "model.export('exported')  # a SavedModel folder, which labels, if its operations only compute",
        )
    return "If Keras can open it (only a file that you trust):\n" + _lines(
        f"model = keras.saving.load_model({called})", "model.save('model.keras')"
    )


def _lines(*lines: str) -> str:
    return "\n".join(f"    {line}" for line in lines)
