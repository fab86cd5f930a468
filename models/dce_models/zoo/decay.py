"""The baseline of Dynamic Customer Embeddings (arXiv 2106.11880, Table 4 as reported): a decayed sum of the past
sessions' vectors, the k-th last one with the weight λ^k (there (1 - a)^k), λ fitted by gradient descent on the training
set. Here it is fitted to the cosine with the next session's vector; the vectors are those of the autoencoder of `dce`.

State [S + 1]: the sum, and the sum of the weights (0: nothing was folded yet). Embedding [S]: the sum at unit length,
of an empty state a constant direction. Neither time nor calendar nor context is looked at."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..device import CPU
from ..graphs import FLOAT, Graph, constant_gate, unit_length
from ..material import Material, Say
from ..network import SessionEncoder
from ..parts import Parts
from ..pretext import Batch, collate
from ..spec import Spec
from .sessions import Encoded, encoded, encoder_of, session_graphs

Run = dict[str, Any]

STEPS = 150
BATCH = 64  # customers
RATE = 0.1
TINY = 1e-12


class DecayForward:
    def __init__(self, encoder: SessionEncoder, decay: float) -> None:
        self.encode, self.encode_step = encoder.forward, encoder.step
        self.decay = decay

    def step(
        self, state: Tensor, session: Tensor, gap: Tensor, calendar: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        gate = torch.ones_like(gap)
        return state * self.decay + torch.cat([session, gate], dim=-1), gate

    def read(self, state: Tensor, ahead: Tensor, calendar: Tensor, context: Tensor) -> Tensor:
        total, mass = state[..., :-1], state[..., -1:]
        raw = total + torch.relu(1 - mass) * torch.from_numpy(empty(total.shape[-1]))
        return raw / torch.sqrt((raw * raw).sum(-1, keepdim=True) + TINY)


def empty(size: int) -> NDArray[np.float32]:
    """[S]: what an empty state shows. After one session the weights add up to 1 or more, and it is gone."""
    return np.full(size, size**-0.5, np.float32)


def train(material: Material, seed: int, say: Say, device: torch.device = CPU) -> Run:
    e = encoded(material, seed, say, device)
    decay = fitted(e, seed, device)
    d = e.spec.dimensions
    spec = replace(e.spec, dimensions=replace(d, state=d.session + 1, embedding=d.session))
    say(f"decay {decay:.4f}, fitted")
    return {
        "spec": asdict(spec),
        "vocabulary": e.vocabulary,
        "encoder": e.encoder.state_dict(),
        "decay": decay,
    }


def fitted(e: Encoded, seed: int, device: torch.device = CPU) -> float:
    """λ = sigmoid(θ); θ by Adam from λ = 0.9."""
    sequences = [s for s in e.learn.customers if len(s) > 1]
    theta = torch.tensor([np.log(0.9 / 0.1)], dtype=torch.float32).to(device).requires_grad_()
    optimiser = torch.optim.Adam([theta], lr=RATE)
    random = np.random.default_rng(seed)
    for step in range(STEPS if sequences else 0):
        optimiser.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        chosen = [sequences[i] for i in random.choice(len(sequences), min(BATCH, len(sequences)), replace=False)]
        batch = collate(chosen, e.vectors, e.spec.training["sessions_max"], device)
        loss = loss_of(torch.sigmoid(theta), batch)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return float(torch.sigmoid(theta.detach()).item())


def loss_of(decay: Tensor, batch: Batch) -> Tensor:
    """1 - cosine of the sum so far and the next session, over all transitions."""
    total = torch.zeros_like(batch.session[:, 0])
    sums = []
    for k in range(batch.session.shape[1] - 1):
        total = total * decay + batch.session[:, k]
        sums.append(total)
    real = batch.real[:, 1:]
    return 1 - functional.cosine_similarity(torch.stack(sums, dim=1)[real], batch.session[:, 1:][real], dim=-1).mean()


def export(run: Run) -> Parts:
    spec, encoder = encoder_of(run)
    return Parts(
        spec=spec,
        vocabulary=run["vocabulary"],
        graphs=session_graphs(spec, encoder)
        | {"customer_step": customer_step(spec, run["decay"]), "customer_read": customer_read(spec)},
        forward=DecayForward(encoder, run["decay"]),
    )


def customer_step(spec: Spec, decay: float) -> bytes:
    d = spec.dimensions
    g = Graph("customer_step", spec.opset)
    state, session = g.input("state", FLOAT, ["B", d.state]), g.input("session", FLOAT, ["B", d.session])
    for name, columns in (("gap", 1), ("calendar", 4), ("context", spec.context_columns)):
        g.input(name, FLOAT, ["B", columns])
    gate = constant_gate(g)
    kept = g.op("Mul", state, g.constant("decay", np.array([decay], np.float32)))
    g.op("Add", kept, g.op("Concat", session, gate, axis=1), to="state_out")
    g.output("state_out", FLOAT, ["B", d.state])
    g.output("gate", FLOAT, ["B", 1])
    return g.bytes()


def customer_read(spec: Spec) -> bytes:
    d = spec.dimensions
    g = Graph("customer_read", spec.opset)
    state = g.input("state", FLOAT, ["B", d.state])
    for name, columns in (("ahead", 1), ("calendar", 4), ("context", spec.context_columns)):
        g.input(name, FLOAT, ["B", columns])
    parts = g.constant("parts", np.array([d.session, 1], np.int64))
    total, mass = g.ops("Split", state, parts, axis=1, to=["", ""])
    lacking = g.op("Relu", g.op("Sub", g.constant("one", np.ones(1, np.float32)), mass))
    raw = g.op("Add", total, g.op("Mul", lacking, g.constant("empty", empty(d.session)[None])))
    g.output(unit_length(g, raw, to="embedding"), FLOAT, ["B", d.embedding])
    return g.bytes()
