"""SavedModel folders: the graph of a model's serving signature, read without TensorFlow's loader and checked first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from selftrain.learn.adoption.keras2_layers import OldModelError

if TYPE_CHECKING:
    import tensorflow as tf

GRAPH_FILE: Final = "saved_model.pb"
_SIGNATURE: Final = "serving_default"
_MOST_BYTES: Final = 1_000_000_000  # of saved_model.pb; the weights lie in other files

_OPS: Final = """
    Abs Add AddN AddV2 All Any ArgMax AvgPool BatchMatMul BatchMatMulV2 BiasAdd BroadcastArgs BroadcastTo Cast Ceil
    ClipByValue Concat ConcatV2 Const Conv2D Conv2DBackpropInput Cos DepthToSpace DepthwiseConv2dNative
    DisableCopyOnRead Div DivNoNan Einsum Elu EnsureShape Equal Erf Erfc Exp ExpandDims Expm1 Fill Floor FloorDiv
    FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 GatherNd GatherV2 Greater GreaterEqual Identity IdentityN
    ImageProjectiveTransformV2 ImageProjectiveTransformV3 Inv IsFinite IsNan L2Loss LeakyRelu Less LessEqual Log Log1p
    LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul Max MaxPool Maximum Mean Min Minimum MirrorPad Mul MulNoNan Neg
    NoOp NotEqual OneHot OnesLike Pack Pad PadV2 PartitionedCall Placeholder Pow Prod Range ReadVariableOp RealDiv
    Reciprocal Relu Relu6 Reshape ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor ReverseV2 Rint Round
    Rsqrt Select SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Size Slice Softmax Softplus Softsign SpaceToBatchND
    SpaceToDepth BatchToSpaceND Split SplitV Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StatelessIf
    StatelessWhile StopGradient StridedSlice Sub Sum Tan Tanh Tile TopKV2 Transpose TruncateDiv Unpack Where ZerosLike
    _FusedConv2D
"""
PURE_OPS: Final = frozenset(_OPS.split())
"""Operations that only compute from numbers: none reads or writes files, runs code, or draws random numbers."""


@dataclass(frozen=True)
class Signature:
    """What a SavedModel serves: the shapes of its input and output, and the function between them.

    `captured` are the ids of the objects whose values the function reads, in the order of its last arguments.
    """

    folder: Path
    meta: Any
    function: str
    input_shape: tuple[int | None, ...]
    input_type: int
    output_shape: tuple[int | None, ...]
    captured: tuple[int, ...]
    reached: frozenset[str]


def read_signature(folder: Path) -> Signature:
    """The serving signature of the SavedModel in `folder`. Nothing of it is run.

    Raises OldModelError unless it has one input and one output, and every operation that it reaches is in PURE_OPS.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / GRAPH_FILE
    if path.stat().st_size > _MOST_BYTES:
        raise OldModelError(f"its {GRAPH_FILE} is larger than {_MOST_BYTES // 10**6} MB")
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise OldModelError(f"its {GRAPH_FILE} is damaged") from error
    metas = [meta for meta in saved.meta_graphs if "serve" in meta.meta_info_def.tags]
    if len(metas) != 1 or not metas[0].object_graph_def.nodes:
        raise OldModelError("it was not saved by TensorFlow 2")
    meta = metas[0]
    if _SIGNATURE not in meta.signature_def:
        raise OldModelError(f"it has no signature {_SIGNATURE!r}, which says what it reads and answers")
    signature = meta.signature_def[_SIGNATURE]
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        raise OldModelError(f"it has {len(signature.inputs)} inputs and {len(signature.outputs)} outputs; one is read")
    function, captured = _function(meta)
    reached = _reached(meta.graph_def.library, function)
    given, answered = next(iter(signature.inputs.values())), next(iter(signature.outputs.values()))
    return Signature(folder, meta, function, _shape(given), given.dtype, _shape(answered), captured, frozenset(reached))


def _shape(tensor: Any) -> tuple[int | None, ...]:
    return tuple(each.size if each.size >= 0 else None for each in tensor.tensor_shape.dim)


def _function(meta: Any) -> tuple[str, tuple[int, ...]]:
    """The name of the function that the signature calls, and the ids of the objects that it captures."""
    objects = meta.object_graph_def

    def child(node: Any, name: str) -> Any:
        found = [each.node_id for each in node.children if each.local_name == name]
        if not found:
            raise OldModelError(f"its objects have no {name!r}")
        return objects.nodes[found[0]]

    node = child(child(objects.nodes[0], "signatures"), _SIGNATURE)
    name = node.bare_concrete_function.concrete_function_name or next(iter(node.function.concrete_functions), "")
    if name not in objects.concrete_functions:
        raise OldModelError(f"its signature {_SIGNATURE!r} has no function")
    return name, tuple(objects.concrete_functions[name].bound_inputs)


def _reached(library: Any, name: str) -> set[str]:
    """The functions that `name` calls, and itself. Raises OldModelError for an operation that is not in PURE_OPS."""
    functions = {each.signature.name: each for each in library.function}
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in reached:
            continue
        if current not in functions:
            raise OldModelError(f"its function {current!r} is missing")
        reached.add(current)
        for node in functions[current].node_def:
            if node.op in functions:
                waiting.append(node.op)
            elif node.op not in PURE_OPS:
                raise OldModelError(
                    f"its graph has the operation {node.op} ({node.name}), which is not on the list of those that only "
                    "compute"
                )
            waiting += _named_functions(node)
    return reached


def _named_functions(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (each.name for each in value.list.func)


class SavedGraph:
    """The function of a Signature with its variables: float images (n, height, width, channels) to answers (n, k)."""

    def __init__(self, signature: Signature) -> None:
        import tensorflow as tf

        self.variables: list[tf.Variable] = []
        self._signature = signature
        values = _values(signature)
        self._captured = [self._held(signature.meta, each, values) for each in signature.captured]
        self._graph = _call(signature, [each.dtype for each in self._captured])
        reads = tf.TensorSpec(signature.input_shape, tf.dtypes.as_dtype(signature.input_type))
        self._answers = tf.compat.v1.wrap_function(self._imported, [reads])  # it knows the functions of the graph

    def _held(self, meta: Any, number: int, values: dict[int, Any]) -> tf.Tensor:
        """The object of this number: a variable's handle, or a constant."""
        import tensorflow as tf

        node = meta.object_graph_def.nodes[number]
        kind = node.WhichOneof("kind")
        if kind == "variable" and number in values:
            variable = tf.Variable(values[number], trainable=False, dtype=node.variable.dtype)
            self.variables.append(variable)
            return variable.handle
        if kind == "constant":
            found = [each for each in meta.graph_def.node if each.name == node.constant.operation]
            if found and found[0].op == "Const":
                return tf.constant(tf.make_ndarray(found[0].attr["value"].tensor))
        raise OldModelError(f"its function reads a {kind} whose value is not in it")

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        """Answers (n, k) to `images` (n, height, width, channels); one by one, where the function takes one."""
        import tensorflow as tf

        given = tf.cast(images, tf.dtypes.as_dtype(self._signature.input_type))
        if self._signature.input_shape[0] is None:
            return self._answers(given)
        one = tf.TensorSpec(self._signature.output_shape[1:], tf.float32)
        return tf.map_fn(lambda image: self._answers(image[None])[0], given, fn_output_signature=one)

    def _imported(self, given: tf.Tensor) -> tf.Tensor:
        """The operations, written into the graph that is made, with what they read."""
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
        feed = {f"captured_{place}:0": graph.capture(each) for place, each in enumerate(self._captured)}
        feed["images:0"] = given
        (answers,) = tf.graph_util.import_graph_def(
            self._graph, input_map=feed, return_elements=["answers:0"], name="brought"
        )
        answers.set_shape(self._signature.output_shape)
        return tf.cast(answers, tf.float32)


def _call(signature: Signature, types: Iterable[Any]) -> Any:
    """A graph of one call of the signature's function, with the functions that it reaches and no other."""
    import tensorflow as tf

    library = signature.meta.graph_def.library
    graph = tf.compat.v1.GraphDef()
    graph.versions.CopyFrom(signature.meta.graph_def.versions)
    own = hashlib.sha256(library.SerializeToString(deterministic=True)).hexdigest()[:16]
    renamed = {name: f"brought_{own}_{name}" for name in signature.reached}  # a process knows a function by its name
    for function in library.function:
        if function.signature.name in renamed:
            _rename(graph.library.function.add(), function, renamed)
    called = next(each for each in library.function if each.signature.name == signature.function).signature
    kinds = [signature.input_type, *(tf.dtypes.as_dtype(each).as_datatype_enum for each in types)]
    names = ["images", *(f"captured_{place}" for place in range(len(kinds) - 1))]
    if len(called.input_arg) != len(names) or len(called.output_arg) != 1:
        raise OldModelError(f"its function takes {len(called.input_arg)} values; {len(names)} are known")
    for name, kind in zip(names, kinds, strict=True):
        node = graph.node.add(name=name, op="Placeholder")
        node.attr["dtype"].type = kind
    node = graph.node.add(name="answers", op="StatefulPartitionedCall", input=names)
    node.attr["f"].func.name = renamed[signature.function]
    node.attr["Tin"].list.type.extend(kinds)
    node.attr["Tout"].list.type.append(called.output_arg[0].type)
    return graph


def _rename(copy: Any, function: Any, renamed: dict[str, str]) -> None:
    """Make `copy` the function with its own name, and those that it calls, as `renamed` says."""
    copy.CopyFrom(function)
    copy.signature.name = renamed[function.signature.name]
    for node in copy.node_def:
        node.op = renamed.get(node.op, node.op)
        for value in node.attr.values():
            for called in [value.func] if value.HasField("func") else value.list.func:
                called.name = renamed[called.name]


def _values(signature: Signature) -> dict[int, np.ndarray[Any, Any]]:
    """The values of the variables by the ids of their objects: both graphs are walked from their roots, by names."""
    import tensorflow as tf
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    try:
        reader = tf.train.load_checkpoint(str(signature.folder / "variables" / "variables"))
        kept = trackable_object_graph_pb2.TrackableObjectGraph()
        kept.ParseFromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        if any(signature.meta.object_graph_def.nodes[each].HasField("variable") for each in signature.captured):
            raise OldModelError("its folder variables is missing or damaged") from error
        return {}
    keys: dict[int, str] = {}
    seen, waiting = set(), [(0, 0)]
    while waiting:
        ours, theirs = waiting.pop()
        if ours in seen:
            continue
        seen.add(ours)
        for each in kept.nodes[theirs].attributes:
            if each.name == "VARIABLE_VALUE":
                keys[ours] = each.checkpoint_key
        there = {each.local_name: each.node_id for each in kept.nodes[theirs].children}
        here = signature.meta.object_graph_def.nodes[ours].children
        waiting += [(each.node_id, there[each.local_name]) for each in here if each.local_name in there]
    return {number: reader.get_tensor(keys[number]) for number in signature.captured if number in keys}
