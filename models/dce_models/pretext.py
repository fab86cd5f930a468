"""The second stage: a customer's embedding is what foretells the vector of their next session."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .dataset import READS, Dataset, Sequence
from .device import CPU


class Model(Protocol):
    """A customer model that can be trained so; each is an nn.Module too."""

    units: int  # of its state

    def step(
        self, state: Tensor, session: Tensor, gap: Tensor, calendar: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]: ...

    def read(self, state: Tensor, ahead: Tensor, calendar: Tensor, context: Tensor) -> Tensor: ...

    def foretell(self, embedding: Tensor) -> Tensor:
        """To a next session's vector."""


@dataclass
class Batch:
    """Customers' last sessions side by side: [B, K, ..]; `real` says which rows are sessions."""

    session: Tensor
    gap: Tensor
    calendar: Tensor
    context: Tensor
    ahead: Tensor
    read_calendar: Tensor
    read_context: Tensor
    real: Tensor


def collate(sequences: list[Sequence], vectors: Tensor, sessions_max: int, device: torch.device = CPU) -> Batch:
    """The batch on `device`; `vectors` may lie there or on the CPU."""
    longest = min(max(len(s) for s in sequences), sessions_max)

    def side_by_side(arrays: list[Tensor]) -> Tensor:
        out = torch.zeros(len(arrays), longest, *arrays[0].shape[1:], device=arrays[0].device)
        for i, a in enumerate(arrays):
            a = a[-longest:]
            out[i, : len(a)] = a
        return out.to(device)

    def column(name: str) -> Tensor:
        return side_by_side([torch.from_numpy(getattr(s, name)) for s in sequences])

    return Batch(
        session=side_by_side([vectors[s.first : s.first + len(s)] for s in sequences]),
        gap=column("gap"),
        calendar=column("calendar"),
        context=column("context"),
        ahead=column("ahead"),
        read_calendar=column("read_calendar"),
        read_context=column("read_context"),
        real=side_by_side([torch.ones(len(s)) for s in sequences]).bool(),
    )


def foretold(model: Model, batch: Batch) -> Tensor:
    """[B, K - 1, reads, S]: what is foretold of session k + 1 after session k, at each of the moments."""
    state = torch.zeros(len(batch.session), model.units, device=batch.session.device)
    states = []
    for k in range(batch.session.shape[1] - 1):
        state, _ = model.step(state, batch.session[:, k], batch.gap[:, k], batch.calendar[:, k], batch.context[:, k])
        states.append(state)
    all_states = torch.stack(states, dim=1)[:, :, None].expand(-1, -1, len(READS), -1)
    embedding = model.read(all_states, batch.ahead[:, :-1], batch.read_calendar[:, :-1], batch.read_context[:, :-1])
    return functional.normalize(model.foretell(embedding), dim=-1)


class Trainable(Model, Protocol):
    def parameters(self) -> Iterator[nn.Parameter]: ...

    def eval(self) -> Any: ...  # noqa: ANN401 # nn.Module's

    def to(self, device: torch.device) -> Any: ...  # noqa: ANN401


M = TypeVar("M", bound=Trainable)


def train(
    model: M,
    t: dict[str, Any],
    learn: Dataset,
    vectors: Tensor,
    seed: int,
    say: Callable[[str], None],
    device: torch.device = CPU,
) -> M:
    """`t` is the configuration's [training]. The model stays on the device."""
    model.to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=t["customer_rate"])
    random = np.random.default_rng(seed)
    sequences = [s for s in learn.customers if len(s) > 1]
    if not sequences or not t["customer_epochs"]:
        if not sequences:
            say("no customer has a second session: there is nothing to foretell")
        model.eval()
        return model
    per_epoch = -(-len(sequences) // t["customer_batch"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, t["customer_rate"], total_steps=t["customer_epochs"] * per_epoch
    )
    for epoch in range(t["customer_epochs"]):
        began, losses = time.monotonic(), []
        order = random.permutation(len(sequences))
        for at in range(0, len(order), t["customer_batch"]):
            chosen = [sequences[i] for i in order[at : at + t["customer_batch"]]]
            batch = collate(chosen, vectors, t["sessions_max"], device)
            loss = next_session_loss(model, batch, t)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        spent = time.monotonic() - began
        say(f"customers {epoch + 1}/{t['customer_epochs']}: loss {np.mean(losses):.4f}, {spent:.0f} s")
    return model


def next_session_loss(model: Model, batch: Batch, t: dict[str, Any], moves: bool = False) -> Tensor:
    """InfoNCE against other customers' next sessions of the batch, and 1 - cosine, over the moments of reading. The
    targets stand still, unless they move."""
    real = batch.real[:, 1:]
    ahead = foretold(model, batch)[real]  # [n, reads, S]
    target = functional.normalize(batch.session[:, 1:][real], dim=-1)
    target = target if moves else target.detach()
    owner = torch.arange(len(real), device=real.device)[:, None].expand_as(real)[real]
    chosen = torch.randperm(len(target))[:512].to(real.device)
    ahead, target, owner = ahead[chosen], target[chosen], owner[chosen]
    cosine = 1 - (ahead * target[:, None]).sum(-1).mean()
    own = (owner[:, None] == owner[None]) & ~torch.eye(len(owner), dtype=torch.bool, device=real.device)
    logits = (torch.einsum("nrs,ms->rnm", ahead, target) / t["temperature"]).masked_fill(own, float("-inf"))
    right = torch.arange(len(owner), device=real.device).expand(len(READS), -1)
    contrast = functional.cross_entropy(logits.flatten(0, 1), right.flatten())
    loss: Tensor = t["contrastive"] * contrast + t["cosine"] * cosine
    return loss


def one_by_one(dataset: Dataset, vectors: Tensor, device: torch.device = CPU) -> Iterator[Batch]:
    """Each customer that has a next session, whole."""
    for s in dataset.customers:
        if len(s) > 1:
            yield collate([s], vectors, len(s), device)
