"""The member's graphs, written by the same formulas that it is trained with."""

import numpy as np

from ..graphs import FLOAT, INT32, INT64, Graph
from ..spec import Spec
from .cell import Calibration, Gate, Head, logit, read, score, step
from .encoder import Encoder, Floats, encode
from .features import Population, features
from .layout import Layout
from .ops import Node, Onnx
from .words import FACTOR, Words


def ids(o: Onnx, words: Words, fields: Node, numbers: Node, before: Node, axis: int) -> Node:
    """fields, numbers and the name before, columns along `axis`, to ids; the last axis is the column. See Words.of."""

    def column(x: Node, c: int) -> Node:
        return o.node("Slice", x, o.ints(c), o.ints(c + 1), o.ints(axis))

    parts = [column(fields, c) + o.ints(words.columns[c].base) for c in range(words.fields)]
    at = words.fields
    if words.pair_buckets:
        hashed = before * o.ints(FACTOR) + column(fields, 0)
        parts.append(o.node("Mod", hashed, o.ints(words.pair_buckets)) + o.ints(words.columns[at].base))
        at += 1
    for number, edges in words.edges:
        above = o.node("Greater", column(numbers, number), o.constant(np.array(edges, np.float32)))
        place = o.node("ReduceSum", o.cast(above, INT64), o.ints(axis), keepdims=1)
        parts.append(place + o.ints(words.columns[at].base))
        at += 1
    return o.concat(parts, axis)


def added(o: Onnx, counts: Node, at: Node, weight: Node) -> Node:
    return o.node("ScatterElements", counts, at, weight, axis=1, reduction="add")


def session_encoder(spec: Spec, layout: Layout, words: Words, encoder: Encoder) -> bytes:
    g = Graph("session_encoder", spec.opset)
    o = Onnx(g)
    fields = o.value(g.input("fields", INT64, ["B", "T", len(spec.fields)]))
    numbers = o.value(g.input("numbers", FLOAT, ["B", "T", spec.number_columns]))
    length = o.value(g.input("length", INT32, ["B"]))
    names = o.node("Slice", fields, o.ints(0), o.ints(1), o.ints(2))  # [B, T, 1]
    first = o.node("Slice", names, o.ints(0), o.ints(1), o.ints(1)) * o.ints(0)
    before = o.concat([first, o.node("Slice", names, o.ints(0), o.ints(-1), o.ints(1))], 1)
    at = ids(o, words, fields, numbers, before, axis=2)  # [B, T, columns]
    shape = o.node("Shape", fields)
    batch, events = o.cut(shape, 0, 1, 0), o.drop(o.cut(shape, 1, 2, 0), 0)
    place = o.node("Range", o.constant(np.array(0, np.int64)), events, o.constant(np.array(1, np.int64)))
    inside = o.node("Less", place, o.insert(o.cast(length, INT64), 1))  # [B, T]
    weight = o.insert(o.cast(inside, FLOAT), 2) * o.constant(np.ones(len(words.columns), np.float32))
    flat = o.ints(0, -1)
    zeros = o.node("Expand", o.constant(np.zeros((1, 1), np.float32)), o.concat([batch, o.ints(layout.words)], 0))
    counts = added(o, zeros, o.node("Reshape", at, flat), o.node("Reshape", weight, flat))
    o.named(o.concat([counts, encode(o, encoder, counts)], 1), "session")
    g.output("session", FLOAT, ["B", layout.session])
    return g.bytes()


def session_step(spec: Spec, layout: Layout, words: Words, encoder: Encoder) -> bytes:
    g = Graph("session_step", spec.opset)
    o = Onnx(g)
    fields = o.value(g.input("fields", INT64, ["B", len(spec.fields)]))
    numbers = o.value(g.input("numbers", FLOAT, ["B", spec.number_columns]))
    hidden = o.value(g.input("hidden", FLOAT, ["B", layout.words + 1]))
    before = o.cast(o.cut(hidden, layout.words, layout.words + 1, 1), INT64)
    at = ids(o, words, fields, numbers, before, axis=1)  # [B, columns]
    one = o.cast(at, FLOAT) * 0.0 + 1.0
    counts = added(o, o.cut(hidden, 0, layout.words, 1), at, one)
    name = o.cast(o.node("Slice", fields, o.ints(0), o.ints(1), o.ints(1)), FLOAT)
    o.named(o.concat([counts, name], 1), "hidden_out")
    o.named(o.concat([counts, encode(o, encoder, o.relu(counts))], 1), "session")
    g.output("hidden_out", FLOAT, ["B", layout.words + 1])
    g.output("session", FLOAT, ["B", layout.session])
    return g.bytes()


def customer_step(spec: Spec, layout: Layout, population: Population, head: Head, gate: Gate) -> bytes:
    g = Graph("customer_step", spec.opset)
    o = Onnx(g)
    state = o.value(g.input("state", FLOAT, ["B", layout.state]))
    session = o.value(g.input("session", FLOAT, ["B", layout.session]))
    unused(o, [("gap", 1), ("calendar", 4), ("context", spec.context_columns)])
    state_out, weight = step(o, layout, population, head, gate, state, session)
    o.named(state_out, "state_out")
    o.named(weight, "gate")
    g.output("state_out", FLOAT, ["B", layout.state])
    g.output("gate", FLOAT, ["B", 1])
    return g.bytes()


def customer_read(spec: Spec, layout: Layout, bias: Floats) -> bytes:
    g = Graph("customer_read", spec.opset)
    o = Onnx(g)
    state = o.value(g.input("state", FLOAT, ["B", layout.state]))
    unused(o, [("ahead", 1), ("calendar", 4), ("context", spec.context_columns)])
    o.named(read(o, layout, bias, state), "embedding")
    g.output("embedding", FLOAT, ["B", layout.width])
    return g.bytes()


def takeover(spec: Spec, layout: Layout, population: Population, head: Head, calibration: Calibration) -> bytes:
    g = Graph("takeover", spec.opset)
    o = Onnx(g)
    state = o.value(g.input("state", FLOAT, ["B", layout.state]))
    session = o.value(g.input("session", FLOAT, ["B", layout.session]))
    z = logit(o, head, features(o, layout, population, state, session))
    o.named(score(o, calibration, z), "scores")
    g.output("scores", FLOAT, ["B", 1])
    return g.bytes()


def unused(o: Onnx, inputs: list[tuple[str, int]]) -> None:
    """Inputs that the contract has and this model does not read."""
    for name, width in inputs:
        o.graph.input(name, FLOAT, ["B", width])
