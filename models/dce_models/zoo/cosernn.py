"""CoSeRNN (Hansen et al., Contextual and Sequential User Embeddings for Large-Scale Music Recommendation, RecSys 2020;
equations by its public code, spotify-research/cosernn, TensorFlow 1): a session's vector is foretold from a long-term
mean, what the last sessions were, and the context of the session about to start.

    f_t = c_t ⊕ s_{t-1} ⊕ Δ_t           context of the coming session, the last one's vector, time since it
    o_t = LSTM(relu(dense(relu(dense(f_t)))))
    û_t = dense(relu(dense(o_t)))         short-term part, at unit length here
    ū_t ∝ Σ_{t' < t} t' s_{t'}            long-term part, at unit length: later sessions weigh more
    u_t = β û_t + (1 - β) ū_t             β by a softmax gate of o_t
    loss 1 - cosine(u_t, s_t)

Since c_t belongs to the session that is about to start, the LSTM's step for session t is done twice: for nothing but
the answer when the embedding is read (`read`), and for good once the session is over (`step`).

Simplified: one vector a session, of all its events (the paper: one of the played and one of the skipped tracks, an LSTM
each); no length or source of the session before (N, z), which the contract's step does not have; c_t is the contract's
calendar and login context (the paper: one-hots of weekday, time of day, device); the LSTM begins at zeros (there: user
features); 64 units instead of 400; three moments of reading as in `dce`, since here a reader comes at any time."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..device import CPU
from ..graphs import FLOAT, Graph, constant_gate, linear, unit_length
from ..material import Material, Say
from ..network import CALENDAR, SessionEncoder
from ..parts import Parts
from ..spec import Spec
from .sessions import encoded, encoder_of, session_graphs, trained, weights

Run = dict[str, Any]

UNITS = 64  # of the LSTM
DENSE = 64
TINY = 1e-12


class CoseRnn(nn.Module):
    """State [2 · UNITS + 2 · S + 1]: the LSTM's output and memory, the last session's vector at unit length, the
    long-term sum Σ t' s_{t'} / t, and t, the number of sessions."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.session = spec.dimensions.session
        self.units = state_size(self.session)
        self.first = nn.Linear(CALENDAR + spec.context_columns + self.session + 1, DENSE)
        self.second = nn.Linear(DENSE, DENSE)
        self.gates = nn.Linear(DENSE + UNITS, 4 * UNITS)  # input, forget, output, candidate
        self.third = nn.Linear(UNITS, DENSE)
        self.out = nn.Linear(DENSE, self.session)
        self.mix = nn.Linear(UNITS, 1)  # the difference of the softmax gate's two logits

    def lstm(self, state: Tensor, gap: Tensor, calendar: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Output and memory of the step for the session that these are of."""
        before, memory, last, _, _ = torch.split(state, parts_of(self.session), dim=-1)
        f = torch.cat([calendar, context, last, gap], dim=-1)
        x = torch.relu(self.second(torch.relu(self.first(f))))
        gates = self.gates(torch.cat([x, before], dim=-1))
        opened, candidate = torch.split(gates, [3 * UNITS, UNITS], dim=-1)
        take, keep, show = torch.sigmoid(opened).chunk(3, dim=-1)
        memory = keep * memory + take * torch.tanh(candidate)
        return show * torch.tanh(memory), memory

    def step(
        self, state: Tensor, session: Tensor, gap: Tensor, calendar: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        output, memory = self.lstm(state, gap, calendar, context)
        _, _, _, long, count = torch.split(state, parts_of(self.session), dim=-1)
        last = unit(session)
        long = long * (count / (count + 1)) + last
        return torch.cat([output, memory, last, long, count + 1], dim=-1), torch.ones_like(gap)

    def read(self, state: Tensor, ahead: Tensor, calendar: Tensor, context: Tensor) -> Tensor:
        output, _ = self.lstm(state, ahead, calendar, context)
        short = unit(self.out(torch.relu(self.third(output))))
        long = unit(torch.split(state, parts_of(self.session), dim=-1)[3])
        weight = torch.sigmoid(self.mix(output))
        return unit(weight * short + (1 - weight) * long)

    def foretell(self, embedding: Tensor) -> Tensor:
        return embedding


def state_size(session: int) -> int:
    return sum(parts_of(session))


def parts_of(session: int) -> list[int]:
    return [UNITS, UNITS, session, session, 1]


def unit(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).sum(-1, keepdim=True) + TINY)


class CoseRnnForward:
    def __init__(self, encoder: SessionEncoder, customer: CoseRnn) -> None:
        self.encode, self.encode_step = encoder.forward, encoder.step
        self.step, self.read = customer.step, customer.read


def train(material: Material, seed: int, say: Say, device: torch.device = CPU) -> Run:
    e = encoded(material, seed, say, device)
    d = e.spec.dimensions
    spec = replace(e.spec, dimensions=replace(d, state=state_size(d.session), embedding=d.session))
    paper = {"contrastive": 0.0, "cosine": 1.0}
    return trained(e, CoseRnn(spec), spec, spec.training | paper, seed, say, device)


def export(run: Run) -> Parts:
    spec, encoder = encoder_of(run)
    customer = CoseRnn(spec)
    customer.load_state_dict(run["customer"])
    customer.eval()
    return Parts(
        spec=spec,
        vocabulary=run["vocabulary"],
        graphs=session_graphs(spec, encoder)
        | {"customer_step": customer_step(spec, customer), "customer_read": customer_read(spec, customer)},
        forward=CoseRnnForward(encoder, customer),
    )


# -- graphs ------------------------------------------------------------------------------------------------------------


def opened(g: Graph, spec: Spec) -> list[str]:
    """The input `state`, in its parts."""
    state = g.input("state", FLOAT, ["B", spec.dimensions.state])
    sizes = g.constant("parts", np.array(parts_of(spec.dimensions.session), np.int64))
    return g.ops("Split", state, sizes, axis=1, to=[""] * 5)


def lstm(g: Graph, spec: Spec, customer: CoseRnn, state: list[str], gap: str) -> tuple[str, str]:
    w = weights(customer)
    calendar = g.input("calendar", FLOAT, ["B", CALENDAR])
    context = g.input("context", FLOAT, ["B", spec.context_columns])
    before, memory, last = state[:3]
    f = g.op("Concat", calendar, context, last, gap, axis=1)
    x = g.op("Relu", linear(g, "second", g.op("Relu", linear(g, "first", f, w)), w))
    gates = linear(g, "gates", g.op("Concat", x, before, axis=1), w)
    three_and_one = g.constant("three_and_one", np.array([3 * UNITS, UNITS], np.int64))
    three, candidate = g.ops("Split", gates, three_and_one, axis=1, to=["", ""])
    thirds = g.constant("thirds", np.array([UNITS] * 3, np.int64))
    take, keep, show = g.ops("Split", g.op("Sigmoid", three), thirds, axis=1, to=["", "", ""])
    memory = g.op("Add", g.op("Mul", keep, memory), g.op("Mul", take, g.op("Tanh", candidate)))
    return g.op("Mul", show, g.op("Tanh", memory)), memory


def customer_step(spec: Spec, customer: CoseRnn) -> bytes:
    d = spec.dimensions
    g = Graph("customer_step", spec.opset)
    state = opened(g, spec)
    session, gap = g.input("session", FLOAT, ["B", d.session]), g.input("gap", FLOAT, ["B", 1])
    output, memory = lstm(g, spec, customer, state, gap)
    last = unit_length(g, session)
    count = g.op("Add", state[4], g.constant("one", np.ones(1, np.float32)))
    long = g.op("Add", g.op("Mul", state[3], g.op("Div", state[4], count)), last)
    g.op("Concat", output, memory, last, long, count, axis=1, to="state_out")
    constant_gate(g)
    g.output("state_out", FLOAT, ["B", d.state])
    g.output("gate", FLOAT, ["B", 1])
    return g.bytes()


def customer_read(spec: Spec, customer: CoseRnn) -> bytes:
    w = weights(customer)
    g = Graph("customer_read", spec.opset)
    state = opened(g, spec)
    output, _ = lstm(g, spec, customer, state, g.input("ahead", FLOAT, ["B", 1]))
    short = unit_length(g, linear(g, "out", g.op("Relu", linear(g, "third", output, w)), w))
    long = unit_length(g, state[3])
    weight = g.op("Sigmoid", linear(g, "mix", output, w))
    rest = g.op("Sub", g.constant("one", np.ones(1, np.float32)), weight)
    mixed = g.op("Add", g.op("Mul", weight, short), g.op("Mul", rest, long))
    g.output(unit_length(g, mixed, to="embedding"), FLOAT, ["B", spec.dimensions.embedding])
    return g.bytes()
