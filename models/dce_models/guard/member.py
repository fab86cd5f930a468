"""The zoo's member `guard`: its run as torch keeps it, and its parts for the export."""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..device import CPU
from ..material import Material, Say
from ..parts import Head as ZooHead
from ..parts import Inputs, Parts
from ..spec import Spec, SpecError, parse
from . import graphs
from .cell import Calibration, Floats, Gate, Head, logit, read, score, step
from .encoder import Encoder, encode
from .features import Population, features
from .gather import gathered
from .layout import Column, Layout
from .ops import Torch
from .settings import settings
from .trainer import Guard
from .trainer import train as train_guard
from .words import Words

Run = dict[str, Any]
NEVER = 1e9  # sessions: more than any state will know
BIAS = 0.05  # length of the constant that an empty state's embedding shows alone


class GuardForward:
    def __init__(self, layout: Layout, words: Words, guard: Guard, bias: Floats) -> None:
        self.layout, self.words, self.guard, self.bias = layout, words, guard, bias
        self.ops = Torch()

    def session(self, counts: Tensor) -> Tensor:
        return torch.cat([counts, encode(self.ops, self.guard.encoder, counts.relu())], dim=1)

    def encode(self, fields: Tensor, numbers: Tensor, length: Tensor) -> Tensor:
        ids = self.words.session(fields, numbers)
        inside = (torch.arange(fields.shape[1])[None] < length[:, None]).float()
        weight = inside[..., None].expand(ids.shape)
        counts = torch.zeros(len(fields), self.layout.words)
        return self.session(counts.scatter_add_(1, ids.flatten(1), weight.flatten(1)))

    def encode_step(self, fields: Tensor, numbers: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        before = hidden[:, self.layout.words].trunc().long()
        ids = self.words.of(fields, numbers, before)
        counts = hidden[:, : self.layout.words].scatter_add(1, ids, torch.ones(ids.shape))
        return torch.cat([counts, fields[:, :1].float()], dim=1), self.session(counts)

    def step(
        self, state: Tensor, session: Tensor, gap: Tensor, calendar: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        g = self.guard
        state_out, weight = step(self.ops, self.layout, g.population, g.head, g.gate, state, session)
        return state_out, weight

    def read(self, state: Tensor, ahead: Tensor, calendar: Tensor, context: Tensor) -> Tensor:
        embedding: Tensor = read(self.ops, self.layout, self.bias, state)
        return embedding

    def takeover(self, inputs: Inputs) -> Tensor:
        g, o = self.guard, self.ops
        x = features(o, self.layout, g.population, inputs["state"], inputs["session"])
        scores: Tensor = score(o, g.calibration, logit(o, g.head, x))
        return scores


def train(material: Material, seed: int, say: Say, device: torch.device = CPU) -> Run:
    s = settings(material.spec.training)
    found = gathered(material, s, seed)
    layout = found.sample.layout
    say(f"{layout.words} words in {len(layout.columns)} columns, a state of {layout.state} numbers")
    guard = train_guard(found, s, seed, say, device)
    bias = np.random.default_rng([seed, 11]).normal(size=(1, layout.width))
    return {
        "spec": asdict(found.spec),
        "vocabulary": found.vocabulary,
        "layout": asdict(layout),
        "words": asdict(found.words),
        "encoder": tensors(guard.encoder),
        "population": tensors(guard.population),
        "head": tensors({"middle": guard.head.middle, "inverse_range": guard.head.inverse_range})
        | {"layers": [[torch.from_numpy(w), torch.from_numpy(b)] for w, b in guard.head.layers]},
        "gate": asdict(guard.gate),
        "calibration": asdict(guard.calibration),
        "bias": torch.from_numpy((BIAS * bias / np.linalg.norm(bias)).astype(np.float32)),
    }


def tensors(arrays: Any) -> dict[str, Tensor]:  # noqa: ANN401
    items = arrays if isinstance(arrays, dict) else vars(arrays)
    return {name: torch.from_numpy(value) for name, value in items.items() if value is not None}


def arrays(saved: dict[str, Tensor]) -> dict[str, Floats]:
    return {name: value.numpy() for name, value in saved.items() if isinstance(value, Tensor)}


def restored(run: Run) -> tuple[Spec, Layout, Words, Guard, Floats]:
    try:
        columns = tuple(Column(**c) for c in run["layout"]["columns"])
        layout = Layout(columns, *(run["layout"][n] for n in ("width", "decays", "vector_decays", "quarantine")))
        edges = tuple((n, tuple(e)) for n, e in run["words"]["edges"])
        words = Words(columns, run["words"]["fields"], run["words"]["pair_buckets"], edges)
        layers = [(w.numpy(), b.numpy()) for w, b in run["head"]["layers"]]
        guard = Guard(
            Encoder(**arrays(run["encoder"])),
            Population(**arrays(run["population"])),
            Head(**arrays(run["head"]), layers=layers),
            Gate(**run["gate"]),
            Calibration(**run["calibration"]),
        )
        return parse(run["spec"]), layout, words, guard, run["bias"].numpy()
    except (KeyError, TypeError) as wrong:
        raise SpecError(f"the run is not one of this version's guard: {wrong}") from None


def opened(run: Run) -> Run:
    """The same model with its gate open for good: every session is folded. To see what the gate is worth."""
    return {**run, "gate": {**run["gate"], "sessions_min": NEVER}}


def export(run: Run) -> Parts:
    spec, layout, words, guard, bias = restored(run)
    forward = GuardForward(layout, words, guard, bias)
    people, head = guard.population, guard.head
    return Parts(
        spec=spec,
        vocabulary=run["vocabulary"],
        graphs={
            "session_encoder": graphs.session_encoder(spec, layout, words, guard.encoder),
            "session_step": graphs.session_step(spec, layout, words, guard.encoder),
            "customer_step": graphs.customer_step(spec, layout, people, head, guard.gate),
            "customer_read": graphs.customer_read(spec, layout, bias),
        },
        forward=forward,
        heads=[
            ZooHead(
                name="takeover",
                inputs=("state", "session"),
                onnx=graphs.takeover(spec, layout, people, head, guard.calibration),
                run=forward.takeover,
                task="owner",
            )
        ],
    )
