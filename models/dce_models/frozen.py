"""A bundle's graphs as they stand: run by ONNX Runtime, so that heads can be trained for any model, and put beside them
without a byte of the others changing."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import bundle, check, heads
from . import device as devices
from .bundle import Bundle
from .device import CPU
from .export import keep
from .features import Features
from .golden import head_cases
from .material import Material, Say
from .parts import Head, Inputs, Parts


class FrozenForward:
    def __init__(self, b: Bundle) -> None:
        self.graphs = {name: check.runner(check.session(path)) for name, path in b.graphs.items()}

    def run(self, graph: str, inputs: Mapping[str, Tensor], *outputs: str) -> list[Tensor]:
        found = self.graphs[graph]({name: np.ascontiguousarray(x.numpy()) for name, x in inputs.items()})
        return [torch.from_numpy(found[name]) for name in outputs]

    def encode(self, fields: Tensor, numbers: Tensor, length: Tensor) -> Tensor:
        return self.run("session_encoder", {"fields": fields, "numbers": numbers, "length": length}, "session")[0]

    def encode_step(self, fields: Tensor, numbers: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        inputs = {"fields": fields, "numbers": numbers, "hidden": hidden}
        hidden_out, session = self.run("session_step", inputs, "hidden_out", "session")
        return hidden_out, session

    def step(
        self, state: Tensor, session: Tensor, gap: Tensor, calendar: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        inputs = {"state": state, "session": session, "gap": gap, "calendar": calendar, "context": context}
        state_out, gate = self.run("customer_step", inputs, "state_out", "gate")
        return state_out, gate

    def read(self, state: Tensor, ahead: Tensor, calendar: Tensor, context: Tensor) -> Tensor:
        inputs = {"state": state, "ahead": ahead, "calendar": calendar, "context": context}
        return self.run("customer_read", inputs, "embedding")[0]


def parts_of(b: Bundle) -> Parts:
    """Its own heads too, task and classes as far as the manifest tells them."""
    forward = FrozenForward(b)
    made = []
    for name, entry in b.raw.get("heads", {}).items():

        def run(inputs: Inputs, graph: str = f"heads/{name}") -> Tensor:
            return forward.run(graph, inputs, "scores")[0]

        onnx = (b.folder / entry["file"]).read_bytes()
        told = entry.get("task", ""), tuple(entry.get("classes", ()))
        made.append(Head(name, tuple(entry["inputs"]), onnx, run, *told))
    graphs = {name: b.graphs[name].read_bytes() for name in bundle.GRAPHS}
    return Parts(b.spec, b.json("vocabulary"), graphs, forward, made)


def add_heads(b: Bundle, material: Material, out: Path, seed: int, say: Say, device: torch.device = CPU) -> list[str]:
    """The bundle with heads trained anew, those it has by the same names replaced; what `check` says against it."""
    devices.reproducible(seed)
    parts = parts_of(b)
    parts.spec.training.update(material.spec.training)
    old, parts.heads = parts.heads, []
    new = heads.built(devices.on_cpu(heads.train(parts, material, seed, say, device)), b.spec.opset)
    parts.heads = [h for h in old if h.name not in {n.name for n in new}] + new
    files = {entry["file"]: (b.folder / entry["file"]).read_bytes() for entry in b.raw["graphs"].values()}
    files |= {f"heads/{h.name}.onnx": h.onnx for h in parts.heads}
    files["vocabulary.json"] = (b.folder / b.raw["vocabulary"]["file"]).read_bytes()
    golden = b.json("golden")
    kept = {n: c for n, c in golden["graphs"].items() if n in bundle.GRAPHS}
    golden["graphs"] = kept | head_cases(Features(b.spec, b.json("vocabulary")), parts.heads)
    files["golden.json"] = (json.dumps(golden, separators=(",", ":"), ensure_ascii=False) + "\n").encode()
    return keep(parts, files, out)
