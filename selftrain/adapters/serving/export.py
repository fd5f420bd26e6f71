"""Export: a saved model in a format that runs without selftrain, checked on real images before it is kept."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from selftrain.adapters.process.quiet_start import native_stderr_held
from selftrain.adapters.serving import example
from selftrain.adapters.serving.parity import Allowed, Parity, Probs, check, measure, probabilities
from selftrain.errors import ConfigError, ExportError
from selftrain.files.places import check_folder
from selftrain.files.writing import replace_text
from selftrain.learn.models.contract import Contract

if TYPE_CHECKING:
    import keras

Format = Literal["savedmodel", "litert", "onnx"]
Quantization = Literal["float16", "int8"]
FILES: dict[Format, str] = {"savedmodel": "saved_model", "litert": "model.tflite", "onnx": "model.onnx"}
CONTRACT, EXAMPLE = "contract.json", "example.py"
OPSET = 17
OF_ONNX = ("tf2onnx", "onnx", "onnxruntime")
RESIZING = (
    "EXIF orientation applied, converted to RGB, the shorter side resized to image_size (antialiased bicubic), the "
    "centre cropped"
)
_DEEP = "grey pictures of 16 bits fill {} of them, and each value was shifted right by {} bits first"


class ExportContract(BaseModel):
    """What the exported `file` reads and answers, what it was made from, and how it was checked.

    It reads `image`, uint8 0-255 (n, image_size, image_size, 3), RGB. It answers `probabilities`, float32 (n, classes),
    calibrated: the temperature is inside. `bits` is how many of 16 bits grey pictures fill; None: all of them. `sha256`
    is that of the file, or of all files of a folder by their paths.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    format: Format
    quantize: Quantization | None
    file: str
    sha256: str
    image_size: int
    resizing: str = RESIZING
    bits: int | None = None
    channel_order: Literal["RGB"] = "RGB"
    input: Literal["image"] = "image"
    output: Literal["probabilities"] = "probabilities"
    class_names: tuple[str, ...]
    temperature: float
    model: str
    backbone: str
    identity: str
    weights_sha256: str
    manifest_digest: str
    parity: Parity
    made_with: dict[str, str]


@dataclass(frozen=True)
class Export:
    """What is wanted: the format, its precision, the new folder, and how far answers may differ."""

    form: Format
    quantize: Quantization | None
    out: Path
    allowed: Allowed


def check_export(wanted: Export) -> None:
    """Raise ConfigError for what cannot be exported, before a model is loaded."""
    if wanted.quantize is not None and wanted.form != "litert":
        raise ConfigError(f"--quantize {wanted.quantize} goes with --format litert, not {wanted.form}; leave it out")
    if wanted.form == "onnx":
        _check_installed(OF_ONNX)
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        raise ConfigError("models are exported with TensorFlow; unset KERAS_BACKEND for this command")
    place = Path(os.path.realpath(wanted.out))
    check_folder(place, option="--out")
    check_folder(place.parent, option="--out")
    if place.is_dir() and any(place.iterdir()):
        raise ConfigError(f"--out {wanted.out} is not empty and was left as it is; give a new folder")


def export(
    model: keras.Model, contract: Contract, images: npt.NDArray[np.uint8], wanted: Export, *, called: str
) -> ExportContract:
    """Write `model` as `wanted`, with a contract and an example beside it, if it answers `images` as the model does.

    `images` are uint8 (n, image_size, image_size, 3). Quantization to int8 takes its ranges from them too. Raises
    ExportError where the format cannot hold the model, or its answers differ by more than is allowed. The folder is
    written whole or not at all.
    """
    probs = probabilities(model, contract, images)
    with whole_folder(wanted.out) as part:
        file = part / FILES[wanted.form]
        with in_one_line(f"{wanted.form} cannot hold this model"):
            served = _serving(with_rescalings(model), contract)
            write_form(served, wanted.form, file, quantize=wanted.quantize, images=images)
        parity = measure(probs, _run(wanted.form, file, images))
        check(parity, wanted.allowed, what=f"{called} as {wanted.form}")
        promised = _contract(contract, wanted, parity, file, called=called)
        replace_text(part / CONTRACT, promised.model_dump_json(indent=2) + "\n")
        replace_text(part / EXAMPLE, example.script(wanted.form))
    return promised


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes the new or empty folder `out` at the end of the block, and vanishes if that raises."""
    place = Path(os.path.realpath(out))
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as scratch:
        part = Path(scratch) / "export"
        part.mkdir()
        yield part
        if place.is_dir():
            place.rmdir()  # it is empty, or this raises and it stays
        part.rename(place)


def _contract(contract: Contract, wanted: Export, parity: Parity, file: Path, *, called: str) -> ExportContract:
    return ExportContract(
        format=wanted.form,
        quantize=wanted.quantize,
        file=file.name,
        sha256=digest_of_export(file),
        image_size=contract.image_size,
        resizing=RESIZING if contract.bits is None else f"{RESIZING}; {_DEEP.format(contract.bits, contract.bits - 8)}",
        bits=contract.bits,
        class_names=contract.class_names,
        temperature=contract.temperature,
        model=called,
        backbone=contract.backbone,
        identity=contract.identity,
        weights_sha256=contract.weights_sha256,
        manifest_digest=contract.manifest_digest,
        parity=parity,
        made_with=packages_of(wanted.form),
    )


def packages_of(form: Format) -> dict[str, str]:
    """The packages that make an export, with their versions."""
    packages = ("keras", "tensorflow", *(OF_ONNX if form == "onnx" else ()))
    return {name: version(name if name != "tensorflow" else _tensorflow()) for name in packages}


def write_form(
    served: Serving, form: Format, file: Path, *, quantize: Quantization | None, images: npt.NDArray[np.uint8]
) -> None:
    """Write the file, or the folder, of a format. `images` give int8 its ranges."""
    match form:
        case "savedmodel":
            served.save(file)
        case "litert":
            file.write_bytes(_litert(served, quantize, images))
        case "onnx":
            _onnx(served, file)
        case _:
            assert_never(form)


@contextmanager
def in_one_line(complaint: str) -> Iterator[None]:
    """What a converter or a runtime raises becomes an ExportError of one line; what they log is hidden."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with native_stderr_held(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ExportError:
        raise
    except Exception as error:  # they raise anything for a layer that their format does not have
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(f"{complaint} ({reason[:300]}); nothing was written: export it in another format") from error
    finally:
        logger.setLevel(level)


def with_rescalings(model: keras.Model) -> keras.Model:
    """`model` on the same weights, with a Rescaling by the same numbers for each Normalization.

    Its mean and variance are not weights but constants of the graph: ONNX would ask for them with each image.
    """
    import keras

    def plain(layer: keras.layers.Layer) -> keras.layers.Layer:
        normalizes = isinstance(layer, keras.layers.Normalization) and not layer.invert
        return _rescaling(layer) if normalizes else layer

    copy: keras.Model = keras.models.clone_model(model, clone_function=plain, recursive=True)
    return copy


def _rescaling(layer: keras.layers.Layer) -> keras.layers.Layer:
    import keras

    mean = keras.ops.convert_to_numpy(layer.mean).astype(np.float64).ravel()
    deviation = np.sqrt(keras.ops.convert_to_numpy(layer.variance).astype(np.float64)).ravel()
    deviation = np.maximum(deviation, keras.config.epsilon())
    return keras.layers.Rescaling((1 / deviation).tolist(), (-mean / deviation).tolist(), name=layer.name)


@dataclass(frozen=True, eq=False)
class Serving:
    """The TensorFlow function from uint8 images to named answers, and the variables that it reads."""

    function: Any
    variables: list[Any]

    def save(self, folder: Path) -> None:
        """Write it as a SavedModel with one signature."""
        import tensorflow as tf

        module = tf.Module()
        module.weights = self.variables
        tf.saved_model.save(module, str(folder), signatures={"serving_default": self.function})


def _serving(model: keras.Model, contract: Contract) -> Serving:
    """`training=False` is part of the function: layers that augment would be on in a SavedModel otherwise."""
    import tensorflow as tf

    images = tf.TensorSpec((None, contract.image_size, contract.image_size, 3), tf.uint8, name="image")

    def serve(image: Any) -> dict[str, Any]:
        logits = tf.cast(model(image, training=False), tf.float32)
        return {"probabilities": tf.nn.softmax(logits / contract.temperature)}

    function = tf.function(serve, input_signature=[images])
    return Serving(function, [variable.value for variable in model.variables])


def _litert(served: Serving, quantize: Quantization | None, images: npt.NDArray[np.uint8]) -> bytes:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # With variables it would need an initialisation that the runtimes of phones do not do, and answer NaN.
    frozen = convert_variables_to_constants_v2(served.function.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    match quantize:
        case None:
            pass
        case "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        case "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[None]] for image in images)
        case _:
            assert_never(quantize)
    content: bytes = converter.convert()
    return content


def _onnx(served: Serving, file: Path) -> None:
    import tf2onnx  # type: ignore[import-untyped]  # it ships no types

    signature = served.function.input_signature
    made, _ = tf2onnx.convert.from_function(
        served.function, input_signature=signature, opset=OPSET, output_path=str(file)
    )
    extra = [each.name for each in made.graph.input if each.name != "image"]
    if extra:
        raise ExportError(
            f"onnx would ask for {', '.join(extra[:3])} with each image: a layer of this model keeps numbers that are "
            "not its weights; export it in another format"
        )


def _run(form: Format, file: Path, images: npt.NDArray[np.uint8]) -> Probs:
    """The probabilities that the exported `file` answers, in the format's own runtime."""
    runs: dict[Format, Callable[[Path, npt.NDArray[np.uint8]], Any]] = {
        "savedmodel": example.run_savedmodel,
        "litert": example.run_litert,
        "onnx": example.run_onnx,
    }
    with in_one_line(f"{form} does not run this model"):
        return np.asarray(runs[form](file, images), np.float32)


def digest_of_export(file: Path) -> str:
    """sha256 of a file, or of a folder's files with their paths, in order."""
    total = hashlib.sha256()
    for path in [file] if file.is_file() else sorted(each for each in file.rglob("*") if each.is_file()):
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        total.update(f"{path.relative_to(file).as_posix()} {digest}\n".encode())
        if file.is_file():
            return digest
    return total.hexdigest()


def _check_installed(packages: tuple[str, ...]) -> None:
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise ConfigError(f"--format onnx needs {', '.join(missing)}; install selftrain[export]")


def _tensorflow() -> str:
    """The name of the distribution that TensorFlow was installed as."""
    from importlib.metadata import packages_distributions

    return packages_distributions()["tensorflow"][0]
