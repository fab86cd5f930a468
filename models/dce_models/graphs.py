"""Weights to the four ONNX graphs, node by node: exact control over operators, names and bytes, and no exporter.

The encoder uses the GRU operator with `sequence_lens`; the step graphs write the same cell as Gemm, Sigmoid and Tanh,
which is faster for one step. All operators work on each row alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .spec import Spec

Weights = Mapping[str, NDArray[np.float32]]
Shape = Sequence[int | str]
FLOAT, INT32, INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64
IR_VERSION = 8  # that of opset 17; newer ones only shut out older runtimes


class Graph:
    def __init__(self, name: str, opset: int) -> None:
        self.name, self.opset = name, opset
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.constants: dict[str, NDArray[Any]] = {}

    def input(self, name: str, kind: int, shape: Shape) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int, shape: Shape) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = np.asarray(value, order="C")
        return name

    def op(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:  # noqa: ANN401
        return self.ops(kind, *inputs, to=[to], **attributes)[0]

    def ops(self, kind: str, *inputs: str, to: Sequence[str | None], **attributes: Any) -> list[str]:  # noqa: ANN401
        """`to` names the outputs: "" for any name, None for one that is not wanted."""
        names = ["" if n is None else n or f"{kind.lower()}_{len(self.nodes)}_{i}" for i, n in enumerate(to)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def bytes(self) -> bytes:
        constants = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", self.opset)],
            ir_version=IR_VERSION,
            producer_name="dce_models",
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


def events(g: Graph, spec: Spec, encoder: Weights, fields: str, numbers: str, axis: int) -> str:
    """Each event's embeddings and numbers side by side, along `axis`."""
    parts = []
    for c, f in enumerate(spec.fields):
        column = g.op("Gather", fields, g.constant(f"column_{c}", np.array(c, np.int64)), axis=axis)
        parts.append(g.op("Gather", g.constant(f"table_{f.source}", encoder[f"tables.{c}.weight"]), column, axis=0))
    return g.op("Concat", *parts, numbers, axis=axis)


def linear(g: Graph, name: str, x: str, weights: Weights, to: str = "") -> str:
    weight = g.constant(f"{name}_weight", weights[f"{name}.weight"])
    return g.op("Gemm", x, weight, g.constant(f"{name}_bias", weights[f"{name}.bias"]), transB=1, to=to)


def cell(g: Graph, x: str, state: str, gates: Sequence[NDArray[np.float32]], units: int, to: str = "") -> str:
    """A GRU cell; `gates` are W, its bias, R, its bias, their rows in ONNX's order z, r, n."""
    w, wb, r, rb = (g.constant(n, v) for n, v in zip(("gru_w", "gru_wb", "gru_r", "gru_rb"), gates, strict=True))
    two_and_one = g.constant("two_and_one", np.array([2 * units, units], np.int64))
    zrx, nx = g.ops("Split", g.op("Gemm", x, w, wb, transB=1), two_and_one, axis=1, to=["", ""])
    zrh, nh = g.ops("Split", g.op("Gemm", state, r, rb, transB=1), two_and_one, axis=1, to=["", ""])
    halves = g.constant("halves", np.array([units, units], np.int64))
    z, reset = g.ops("Split", g.op("Sigmoid", g.op("Add", zrx, zrh)), halves, axis=1, to=["", ""])
    new = g.op("Tanh", g.op("Add", nx, g.op("Mul", reset, nh)))
    return g.op("Add", new, g.op("Mul", z, g.op("Sub", state, new)), to=to)


def onnx_order(gates: NDArray[np.float32]) -> NDArray[np.float32]:
    """PyTorch stacks r, z, n; ONNX z, r, n."""
    r, z, n = np.split(gates, 3)
    return np.concatenate([z, r, n])


def gru_gates(encoder: Weights) -> list[NDArray[np.float32]]:
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    return [onnx_order(encoder[f"gru.{name}"]) for name in names]


def session_encoder(spec: Spec, encoder: Weights) -> bytes:
    d = spec.dimensions
    g = Graph("session_encoder", spec.opset)
    fields = g.input("fields", INT64, ["B", "T", len(spec.fields)])
    numbers = g.input("numbers", FLOAT, ["B", "T", spec.number_columns])
    length = g.input("length", INT32, ["B"])
    read = g.op("Transpose", events(g, spec, encoder, fields, numbers, axis=2), perm=[1, 0, 2])
    w, wb, r, rb = gru_gates(encoder)
    parts = [g.constant(n, v[None]) for n, v in (("gru_w", w), ("gru_r", r), ("gru_b", np.concatenate([wb, rb])))]
    _, last = g.ops("GRU", read, *parts, length, to=[None, ""], hidden_size=d.hidden, linear_before_reset=1)
    hidden = g.op("Squeeze", last, g.constant("direction", np.array([0], np.int64)))
    g.output(linear(g, "out", hidden, encoder, to="session"), FLOAT, ["B", d.session])
    return g.bytes()


def session_step(spec: Spec, encoder: Weights) -> bytes:
    d = spec.dimensions
    g = Graph("session_step", spec.opset)
    fields = g.input("fields", INT64, ["B", len(spec.fields)])
    numbers = g.input("numbers", FLOAT, ["B", spec.number_columns])
    hidden = g.input("hidden", FLOAT, ["B", d.hidden])
    read = events(g, spec, encoder, fields, numbers, axis=1)
    g.output(cell(g, read, hidden, gru_gates(encoder), d.hidden, to="hidden_out"), FLOAT, ["B", d.hidden])
    g.output(linear(g, "out", "hidden_out", encoder, to="session"), FLOAT, ["B", d.session])
    return g.bytes()


def customer_step(spec: Spec, gates: Sequence[NDArray[np.float32]]) -> bytes:
    d = spec.dimensions
    g = Graph("customer_step", spec.opset)
    state = g.input("state", FLOAT, ["B", d.state])
    read = g.op(
        "Concat",
        g.input("session", FLOAT, ["B", d.session]),
        g.input("gap", FLOAT, ["B", 1]),
        g.input("calendar", FLOAT, ["B", 4]),
        g.input("context", FLOAT, ["B", spec.context_columns]),
        axis=1,
    )
    candidate = cell(g, read, state, gates, d.state)
    gate = constant_gate(g)
    kept = g.op("Sub", g.constant("one", np.ones(1, np.float32)), gate)
    g.op("Add", g.op("Mul", gate, candidate), g.op("Mul", kept, state), to="state_out")
    g.output("state_out", FLOAT, ["B", d.state])
    g.output("gate", FLOAT, ["B", 1])
    return g.bytes()


def customer_read(spec: Spec, customer: Weights) -> bytes:
    d = spec.dimensions
    g = Graph("customer_read", spec.opset)
    read = g.op(
        "Concat",
        g.input("state", FLOAT, ["B", d.state]),
        g.input("ahead", FLOAT, ["B", 1]),
        g.input("calendar", FLOAT, ["B", 4]),
        g.input("context", FLOAT, ["B", spec.context_columns]),
        axis=1,
    )
    raw = linear(g, "out", g.op("Tanh", linear(g, "fuse", read, customer)), customer)
    g.output(unit_length(g, raw, to="embedding"), FLOAT, ["B", d.embedding])
    return g.bytes()


def constant_gate(g: Graph) -> str:
    """`gate` [B, 1], always 1: the session is trusted."""
    one = numpy_helper.from_array(np.ones(1, np.float32))
    return g.op("ConstantOfShape", g.op("Shape", "gap"), value=one, to="gate")


def unit_length(g: Graph, x: str, to: str = "") -> str:
    axis = g.constant("row", np.array([1], np.int64))
    squares = g.op("ReduceSum", g.op("Mul", x, x), axis, keepdims=1)
    norm = g.op("Sqrt", g.op("Add", squares, g.constant("tiny", np.array([1e-12], np.float32))))
    return g.op("Div", x, norm, to=to)
