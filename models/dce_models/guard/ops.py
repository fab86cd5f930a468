"""The same formulas for training and for the graphs: each is written once, over a backend, and runs on PyTorch tensors
or leaves ONNX nodes behind. Only operators whose result for a row is the same, bit for bit, whatever the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from ..device import CPU
from ..graphs import Graph

Array = NDArray[Any]
V = Any  # a value: a Tensor, or a Node of a graph; both know + - * / and unary -


class Ops(Protocol):
    """`axis` counts from the left, the batch is axis 0. Sums and maxima keep their axis, of length 1."""

    def constant(self, value: Array) -> V: ...
    def sqrt(self, x: V) -> V: ...
    def exp(self, x: V) -> V: ...
    def tanh(self, x: V) -> V: ...
    def sigmoid(self, x: V) -> V: ...
    def clip(self, x: V, low: float, high: float) -> V: ...
    def relu(self, x: V) -> V: ...
    def sum(self, x: V, length: int) -> V:
        """Over the last axis, which is so long. A product with ones: ONNX Runtime's ReduceSum adds up a lone row in
        another order than a row of a batch."""

    def max(self, x: V, axis: int) -> V: ...
    def concat(self, parts: Sequence[V], axis: int) -> V: ...
    def cut(self, x: V, start: int, end: int, axis: int) -> V: ...
    def insert(self, x: V, axis: int) -> V: ...
    def drop(self, x: V, axis: int) -> V: ...
    def linear(self, x: V, weight: Array) -> V:
        """x [B, n] times a constant [n, m]."""

    def largest(self, x: V, count: int) -> tuple[V, V]:
        """The `count` largest of each row [B, n], and their columns as int64; of equal ones the leftmost first."""

    def pick(self, x: V, index: V) -> V:
        """x [B, n] at index [B, k]: [B, k]."""


class Torch:
    """Tensors, all on one device."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.device = device

    def constant(self, value: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(value)).to(self.device)

    def sqrt(self, x: Tensor) -> Tensor:
        return torch.sqrt(x)

    def exp(self, x: Tensor) -> Tensor:
        return torch.exp(x)

    def tanh(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def sigmoid(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def clip(self, x: Tensor, low: float, high: float) -> Tensor:
        return torch.clamp(x, low, high)

    def relu(self, x: Tensor) -> Tensor:
        return torch.relu(x)

    def sum(self, x: Tensor, length: int) -> Tensor:
        return x.sum(-1, keepdim=True)

    def max(self, x: Tensor, axis: int) -> Tensor:
        return x.amax(axis, keepdim=True)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat(list(parts), axis)

    def cut(self, x: Tensor, start: int, end: int, axis: int) -> Tensor:
        return x.narrow(axis, start, end - start)

    def insert(self, x: Tensor, axis: int) -> Tensor:
        return x.unsqueeze(axis)

    def drop(self, x: Tensor, axis: int) -> Tensor:
        return x.squeeze(axis)

    def linear(self, x: Tensor, weight: Array) -> Tensor:
        return x @ self.constant(weight)

    def largest(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        values, index = torch.sort(x, dim=1, descending=True, stable=True)
        return values[:, :count], index[:, :count]

    def pick(self, x: Tensor, index: Tensor) -> Tensor:
        return torch.gather(x, 1, index)


class Node:
    """A value of a graph, by name."""

    def __init__(self, ops: Onnx, name: str) -> None:
        self.ops, self.name = ops, name

    def __add__(self, other: Node | float) -> Node:
        return self.ops.node("Add", self, other)

    def __radd__(self, other: float) -> Node:
        return self.ops.node("Add", other, self)

    def __sub__(self, other: Node | float) -> Node:
        return self.ops.node("Sub", self, other)

    def __rsub__(self, other: float) -> Node:
        return self.ops.node("Sub", other, self)

    def __mul__(self, other: Node | float) -> Node:
        return self.ops.node("Mul", self, other)

    def __rmul__(self, other: float) -> Node:
        return self.ops.node("Mul", other, self)

    def __truediv__(self, other: Node | float) -> Node:
        return self.ops.node("Div", self, other)

    def __rtruediv__(self, other: float) -> Node:
        return self.ops.node("Div", other, self)

    def __neg__(self) -> Node:
        return self.ops.node("Neg", self)


class Onnx:
    """Nodes of a graph. Equal constants are stored once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.stored: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def value(self, name: str) -> Node:
        return Node(self, name)

    def constant(self, value: Array) -> Node:
        value = np.ascontiguousarray(value)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self.stored:
            self.stored[key] = self.graph.constant(f"constant_{len(self.stored)}", value)
        return Node(self, self.stored[key])

    def node(self, kind: str, *inputs: Node | float, **attributes: Any) -> Node:  # noqa: ANN401
        names = [(x if isinstance(x, Node) else self.constant(np.array(x, np.float32))).name for x in inputs]
        return Node(self, self.graph.op(kind, *names, **attributes))

    def cast(self, x: Node, kind: int) -> Node:
        name = f"cast_{len(self.graph.nodes)}"  # Graph.op has a `to` of its own
        self.graph.nodes.append(helper.make_node("Cast", [x.name], [name], to=kind))
        return Node(self, name)

    def named(self, x: Node, name: str) -> None:
        """Gives a value the name of an output."""
        self.graph.op("Identity", x.name, to=name)

    def ints(self, *values: int) -> Node:
        return self.constant(np.array(values, np.int64))

    def sqrt(self, x: Node) -> Node:
        return self.node("Sqrt", x)

    def exp(self, x: Node) -> Node:
        return self.node("Exp", x)

    def tanh(self, x: Node) -> Node:
        return self.node("Tanh", x)

    def sigmoid(self, x: Node) -> Node:
        return self.node("Sigmoid", x)

    def clip(self, x: Node, low: float, high: float) -> Node:
        return self.node("Clip", x, low, high)

    def relu(self, x: Node) -> Node:
        return self.node("Relu", x)

    def sum(self, x: Node, length: int) -> Node:
        return self.linear(x, np.ones((length, 1), np.float32))

    def max(self, x: Node, axis: int) -> Node:
        if self.graph.opset < 18:
            return self.node("ReduceMax", x, axes=[axis], keepdims=1)
        return self.node("ReduceMax", x, self.ints(axis), keepdims=1)

    def concat(self, parts: Sequence[Node], axis: int) -> Node:
        return self.node("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]

    def cut(self, x: Node, start: int, end: int, axis: int) -> Node:
        return self.node("Slice", x, self.ints(start), self.ints(end), self.ints(axis))

    def insert(self, x: Node, axis: int) -> Node:
        return self.node("Unsqueeze", x, self.ints(axis))

    def drop(self, x: Node, axis: int) -> Node:
        return self.node("Squeeze", x, self.ints(axis))

    def linear(self, x: Node, weight: Array) -> Node:
        return self.node("MatMul", x, self.constant(weight))

    def largest(self, x: Node, count: int) -> tuple[Node, Node]:
        values, index = self.graph.ops("TopK", x.name, self.ints(count).name, to=["", ""], axis=1)
        return Node(self, values), Node(self, index)

    def pick(self, x: Node, index: Node) -> Node:
        return self.node("GatherElements", x, index, axis=1)


# -- what the graphs may not have as an operator -----------------------------------------------------------------------

ROOTS = 6


def log(o: Ops, x: V) -> V:
    """ln x for x in 1e-18 … 1e18 within a few units of the last place. By six square roots, r = x^(1/64) in
    0.52 … 1.92, ln r = 2 artanh t, t = (r - 1) / (r + 1), |t| < 0.32: 2 (t + t³/3 + t⁵/5 + t⁷/7) is good to 5e-4 after
    the factor 64; then a step of Newton's method for exp y = x, y + x exp(-y) - 1, squares the error and forgets the
    roots' rounding."""
    root = x
    for _ in range(ROOTS):
        root = o.sqrt(root)
    t = (root - 1.0) / (root + 1.0)
    square = t * t
    series = square * (1 / 7) + 1 / 5
    for term in (1 / 3, 1.0):
        series = series * square + term
    y = t * series * float(2 ** (ROOTS + 1))
    return y + (x * o.exp(-y) - 1.0)


def log_rising(o: Ops, x: V, count: V) -> V:
    """ln Γ(x + c) - ln Γ(x) for x > 0, c ≥ 0: Stirling's series three steps higher, where it is good to 4e-6,
    ln Γ(x) = S(x + 3) - ln(x (x + 1) (x + 2)), S(y) = (y - 1/2) ln y - y + 1/(12 y) - 1/(360 y³)."""
    z = x + count
    low, high = x + 3.0, z + 3.0
    # x (x + 1) (x + 2) / (z (z + 1) (z + 2)), factor by factor: the product alone would overflow
    steps = (x / z) * ((x + 1.0) / (z + 1.0)) * ((x + 2.0) / (z + 2.0))
    logs = log(o, o.concat([o.insert(v, 1) for v in (low, high, steps)], 1))
    log_low, log_high, log_steps = (o.drop(o.cut(logs, i, i + 1, 1), 1) for i in range(3))

    def rest(y: V) -> V:
        inverse = 1.0 / y
        return inverse * (1 / 12) - inverse * inverse * inverse * (1 / 360)

    return (high - 0.5) * log_high - (low - 0.5) * log_low - count + rest(high) - rest(low) + log_steps
