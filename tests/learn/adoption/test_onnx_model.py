"""ONNX files: what onnxruntime answers, in both orders of axes and any size of batch; or one line that says why not."""

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from selftrain.errors import ConfigError, UntrustedFileError
from selftrain.learn.adoption.adopt import Known, adopt
from selftrain.learn.adoption.formats import name_of, open_brought, side_of

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.keras
KERNEL = np.random.default_rng(1).normal(0, 0.01, (3, 4)).astype(np.float32)


def images(count: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(0).integers(0, 256, (count, 16, 12, 3)).astype(np.float32)


def wanted(shown: NDArray[np.float32]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = shown.mean(axis=(1, 2)) @ KERNEL
    return logits


def network(
    path: Path, *, shape: tuple[Any, ...] = ("n", 3, 16, 12), columns: Any = 4, external: str | None = None
) -> Path:
    """A file in ONNX of the mean of each channel times KERNEL."""
    import onnx
    from onnx import TensorProto, helper

    axes = [2, 3] if shape[1] == 3 else [1, 2]
    kernel = onnx.numpy_helper.from_array(KERNEL, "kernel")
    if external is not None:
        (path.parent / "weights.bin").write_bytes(KERNEL.tobytes())
        kernel.ClearField("raw_data")
        kernel.data_location = TensorProto.EXTERNAL
        kernel.external_data.add(key="location", value=external)
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "kernel"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mine",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (shape[0], columns))],
        [onnx.numpy_helper.from_array(np.int64(axes), "axes"), kernel],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(made.SerializeToString())
    return path


@pytest.mark.parametrize("shape", [("n", 3, 16, 12), ("n", 16, 12, 3), (1, 3, 16, 12), (2, 16, 12, 3)])
def test_both_orders_of_axes_and_fixed_batches_answer_the_same(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    path = network(tmp_path / "mine.onnx", shape=shape)
    assert side_of(path) == 16
    model = open_brought(path)
    np.testing.assert_allclose(model.predict(images(), verbose=0), wanted(images()), rtol=1e-4, atol=1e-4)


def test_an_unknown_number_of_answers_is_asked(tmp_path: Path) -> None:
    model = open_brought(network(tmp_path / "mine.onnx", shape=("n", 3, "h", "w"), columns="k"))
    assert model.output_shape == (None, 4)
    assert model.input_shape == (None, None, None, 3)


def test_a_network_is_adopted_at_the_size_that_is_said(tmp_path: Path) -> None:
    path = network(tmp_path / "mine.onnx", shape=("n", 3, "h", "w"))
    known = Known(pixels="0..1", size=(16, 12))
    model, contract = adopt(path, class_names=("a", "b", "c", "d"), image_size=16, known=known)
    assert contract.brought is not None
    assert contract.brought.shape == (16, 12)
    shown = np.full((2, 16, 16, 3), 51, np.uint8)
    answers = model.predict(shown, verbose=0)
    np.testing.assert_allclose(answers - answers[:, :1], (k := wanted(shown / np.float32(255))) - k[:, :1], atol=1e-5)


def test_weights_beside_it_are_read_and_others_refused(tmp_path: Path) -> None:
    beside = network(tmp_path / "beside.onnx", external="weights.bin")
    np.testing.assert_allclose(
        open_brought(beside).predict(images(), verbose=0), wanted(images()), rtol=1e-4, atol=1e-4
    )
    for place in ("../weights.bin", "/etc/hostname", "folder/weights.bin"):
        with pytest.raises(UntrustedFileError, match="not a file beside it"):
            open_brought(network(tmp_path / "elsewhere.onnx", external=place))


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_bytes(b"no network \xff\xff")
    with pytest.raises(UntrustedFileError, match="damaged, or not ONNX"):
        open_brought(tmp_path / "text.onnx")
    with pytest.raises(UntrustedFileError, match="can label"):
        name_of(tmp_path / "text.onnx")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = network(tmp_path / "mine.onnx")
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("onnx"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"needs onnxruntime; install selftrain\[export\]"):
        open_brought(path)
    assert side_of(path) is None
