"""A head's weights: fitted to the training labels, stopped and calibrated by those that may choose."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..device import CPU
from ..spec import SpecError
from .network import HeadNet, Shape

Say = Callable[[str], None]

EPOCHS = 12
BATCH = 512
RATE = 2e-3
DECAY = 1e-2  # of the weights, AdamW
STEPS_MIN = 400  # small sets get more epochs
JUDGED = 16_384  # rows at a time
POSITIVES_MIN = 10  # of each class, to calibrate by


@dataclass
class Rows:
    """Inputs [n, ..], answers [n] (a class's number, or 0 and 1) and weights [n]."""

    inputs: dict[str, Tensor]
    y: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def at(self, chosen: Tensor) -> "Rows":
        return Rows({n: x[chosen] for n, x in self.inputs.items()}, self.y[chosen], self.weight[chosen])

    def to(self, device: torch.device) -> "Rows":
        inputs = {n: x.to(device) for n, x in self.inputs.items()}
        return Rows(inputs, self.y.to(device), self.weight.to(device))


def fit(shape: Shape, learn: Rows, choose: Rows, seed: int, device: torch.device = CPU) -> tuple[HeadNet, float]:
    """The weights of the epoch that does best on `choose`, and its loss there. Not yet calibrated. The rows stay on the
    CPU, wide as they may be, and go to the device part by part; the net comes back from it."""
    torch.manual_seed(seed)
    net = HeadNet(shape).to(device)
    mean = {n: x.mean(0) for n, x in learn.inputs.items()}
    scale = {n: spread(x) for n, x in learn.inputs.items()}

    def scaled(rows: Rows) -> Rows:
        inputs = {n: (x - mean[n]) / scale[n] for n, x in rows.inputs.items()}
        return Rows(inputs, rows.y, rows.weight).to(device)

    mass = learn.weight.mean().to(device)  # of the whole: a batch with more heavy rows is a larger step
    batch = min(BATCH, max(32, len(learn) // 20))
    per_epoch = -(-len(learn) // batch)
    epochs = max(EPOCHS, min(100, STEPS_MIN // per_epoch))
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * per_epoch)
    best, kept = math.inf, copy.deepcopy(net)
    for _ in range(epochs):
        net.train()
        order = torch.randperm(len(learn))
        for at in range(0, len(order), batch):
            part = scaled(learn.at(order[at : at + batch]))
            loss = (losses_of(net(part.inputs), part) * part.weight).mean() / mass
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        found = judged(net.eval(), choose, scaled)
        if found < best:
            best, kept = found, copy.deepcopy(net)
    if not math.isfinite(best):
        raise SpecError(f"the head gives no finite loss on the {len(choose)} rows that its weights are chosen by")
    kept = kept.to(CPU)
    kept.standardise(mean, scale)
    return kept.eval(), best


@torch.no_grad()
def judged(net: HeadNet, choose: Rows, scaled: Callable[[Rows], Rows]) -> float:
    """The mean loss, a part of the rows at a time: wide inputs are not to lie in memory twice."""
    total = mass = 0.0
    for rows in torch.arange(len(choose)).split(JUDGED):  # type: ignore[no-untyped-call]
        part = scaled(choose.at(rows))
        total += float((losses_of(net(part.inputs), part) * part.weight).double().sum())
        mass += float(part.weight.double().sum())
    return total / mass if mass else math.nan


def spread(x: Tensor) -> Tensor:
    """Standard deviation; 1 of what hardly varies."""
    deviation = x.std(0) if len(x) > 1 else torch.zeros(x.shape[1])
    return torch.where(deviation > 1e-4, deviation, torch.ones_like(deviation))


def losses_of(logits: Tensor, rows: Rows) -> Tensor:
    """[n] nats."""
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0], rows.y.float(), reduction="none")
    return functional.cross_entropy(logits, rows.y, reduction="none")


def loss_of(logits: Tensor, rows: Rows) -> Tensor:
    """The mean by weight."""
    return (losses_of(logits, rows) * rows.weight).sum() / rows.weight.sum()


def calibrate(net: HeadNet, choose: Rows) -> tuple[float, float]:
    """Platt scaling of a probability, a temperature of classes, on rows that did not fit the weights; folded into the
    last layer. Gives factor and shift: 1 and 0 where there is too little to go by."""
    binary = net.shape.outputs == 1
    counts = np.bincount(choose.y.numpy(), minlength=2)
    if (binary and counts.min() < POSITIVES_MIN) or len(choose) < 2 * POSITIVES_MIN:
        return 1.0, 0.0
    with torch.no_grad():
        logits = net(choose.inputs).double()
    factor = torch.ones(1, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    free = [factor, shift] if binary else [factor]
    optimiser = torch.optim.LBFGS(free, max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        loss = loss_of(logits * factor + shift, choose)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    found = float(factor.detach()), float(shift.detach())
    if not (all(map(math.isfinite, found)) and 0.05 < found[0] < 20):
        return 1.0, 0.0
    net.rescale(*found)
    return found
