"""The architecture. A GRU encodes a session's events to a vector from which a GRU decoder can tell them again; over the
sessions three recurrent branches (time since the last session; calendar; context) make up the customer's state."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from .spec import Spec

CALENDAR = 4


class SessionEncoder(nn.Module):
    def __init__(self, spec: Spec, tables: list[int]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(
            nn.Embedding(rows, f.embedding) for rows, f in zip(tables, spec.fields, strict=True)
        )
        self.width = sum(f.embedding for f in spec.fields) + spec.number_columns
        self.gru = nn.GRU(self.width, spec.dimensions.hidden, batch_first=True)
        self.out = nn.Linear(spec.dimensions.hidden, spec.dimensions.session)

    def events(self, fields: Tensor, numbers: Tensor) -> Tensor:
        """[.., F] ids and [.., N] numbers to what the GRU reads of each event."""
        return torch.cat([*(table(fields[..., c]) for c, table in enumerate(self.tables)), numbers], dim=-1)

    def forward(self, fields: Tensor, numbers: Tensor, length: Tensor) -> Tensor:
        hidden, _ = self.gru(self.events(fields, numbers))
        session: Tensor = self.out(hidden[torch.arange(len(length), device=hidden.device), length.long() - 1])
        return session

    def step(self, fields: Tensor, numbers: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        _, last = self.gru(self.events(fields, numbers)[:, None], hidden[None])
        return last[0], self.out(last[0])


class SessionDecoder(nn.Module):
    """Tells the session's events again, each from the vector and the event before it. Training only."""

    def __init__(self, spec: Spec, tables: list[int], encoder: SessionEncoder) -> None:
        super().__init__()
        hidden = spec.dimensions.hidden
        self.start = nn.Linear(spec.dimensions.session, hidden)
        self.gru = nn.GRU(encoder.width + spec.dimensions.session, hidden, batch_first=True)
        self.names = nn.ModuleList(nn.Linear(hidden, rows) for rows in tables)
        self.numbers = nn.Linear(hidden, spec.number_columns)

    def forward(self, session: Tensor, before: Tensor) -> tuple[list[Tensor], Tensor]:
        along = session[:, None].expand(-1, before.shape[1], -1)
        hidden, _ = self.gru(torch.cat([before, along], dim=-1), torch.tanh(self.start(session))[None])
        return [head(hidden) for head in self.names], self.numbers(hidden)


class Presence(nn.Module):
    """Which names occur in the session, and which twice or more, straight from the vector: what a decoder that goes
    through the events in order may leave out when it is rare. Training only."""

    def __init__(self, spec: Spec, tables: list[int]) -> None:
        super().__init__()
        self.out = nn.Linear(spec.dimensions.session, 2 * tables[0])

    def loss(self, session: Tensor, fields: Tensor, length: Tensor) -> Tensor:
        """Mean over the sessions of the nats for all names together."""
        names = self.out.out_features // 2
        real = (torch.arange(fields.shape[1], device=fields.device)[None] < length[:, None]).float()
        counts = torch.zeros(len(fields), names, device=fields.device).scatter_add_(1, fields[..., 0], real)
        truth = torch.cat([counts >= 1, counts >= 2], dim=1).float()
        loss = functional.binary_cross_entropy_with_logits(self.out(session), truth, reduction="none")
        return loss.sum(1).mean()


class BranchedGru(nn.Module):
    """GRU cells side by side in one pair of matrices: each branch has its own part of the state and sees the inputs
    that its mask lets through. Gates in ONNX's order: z, r, n."""

    masks: Tensor
    loops: Tensor

    def __init__(self, inputs: int, branches: list[tuple[int, list[int]]]) -> None:
        """`branches`: how many units, and which input columns they see."""
        super().__init__()
        self.units = sum(units for units, _ in branches)
        masks, loops = torch.zeros(self.units, inputs), torch.zeros(self.units, self.units)
        at = 0
        for units, columns in branches:
            masks[at : at + units, columns] = 1.0
            loops[at : at + units, at : at + units] = 1.0
            at += units
        self.register_buffer("masks", masks.repeat(3, 1))
        self.register_buffer("loops", loops.repeat(3, 1))
        bound = (self.units / len(branches)) ** -0.5
        self.input = nn.Parameter(torch.empty(3 * self.units, inputs).uniform_(-bound, bound))
        self.state = nn.Parameter(torch.empty(3 * self.units, self.units).uniform_(-bound, bound))
        # Units that remember from 1 to 60 sessions to begin with (z = how much is kept).
        keep = torch.cat([torch.log(torch.rand(self.units) * 59 + 1), torch.zeros(2 * self.units)])
        self.input_bias = nn.Parameter(keep)
        self.state_bias = nn.Parameter(torch.zeros(3 * self.units))

    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.input * self.masks, self.input_bias, self.state * self.loops, self.state_bias

    def forward(self, inputs: Tensor, state: Tensor) -> Tensor:
        wx, bx, wh, bh = self.weights()
        zx, rx, nx = functional.linear(inputs, wx, bx).chunk(3, dim=-1)
        zh, rh, nh = functional.linear(state, wh, bh).chunk(3, dim=-1)
        keep = torch.sigmoid(zx + zh)
        new = torch.tanh(nx + torch.sigmoid(rx + rh) * nh)
        return new + keep * (state - new)


class CustomerModel(nn.Module):
    def __init__(self, spec: Spec) -> None:
        super().__init__()
        d, context = spec.dimensions, spec.context_columns
        self.units = d.state
        session = list(range(d.session))
        gap = [d.session]
        calendar = [d.session + 1 + i for i in range(CALENDAR)]
        snapshot = [d.session + 1 + CALENDAR + i for i in range(context)]
        third = d.state // 4
        self.cell = BranchedGru(
            d.session + 1 + CALENDAR + context,
            [(d.state - 2 * third, session + gap), (third, session + calendar), (third, snapshot + gap)],
        )
        self.fuse = nn.Linear(d.state + 1 + CALENDAR + context, 96)
        self.out = nn.Linear(96, d.embedding)
        self.foretell = nn.Linear(d.embedding, d.session)  # the pretext's head; training only

    def step(
        self, state: Tensor, session: Tensor, gap: Tensor, calendar: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The new state, and the weight with which the session went in: this model trusts every session."""
        candidate = self.cell(torch.cat([session, gap, calendar, context], dim=-1), state)
        gate = torch.ones_like(gap)
        return gate * candidate + (1 - gate) * state, gate

    def read(self, state: Tensor, ahead: Tensor, calendar: Tensor, context: Tensor) -> Tensor:
        raw: Tensor = self.out(torch.tanh(self.fuse(torch.cat([state, ahead, calendar, context], dim=-1))))
        return raw / torch.sqrt((raw * raw).sum(-1, keepdim=True) + 1e-12)
