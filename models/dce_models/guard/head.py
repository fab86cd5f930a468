"""The head: a small multilayer perceptron over standardised features."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..device import CPU
from .cell import SCALED_MAX, Head

Floats = NDArray[np.float32]


@dataclass
class HeadSettings:
    units: tuple[int, ...] = (32, 16)
    nets: int = 4
    epochs: int = 14
    batch: int = 512
    rate: float = 3e-3
    decay: float = 0.3


def fit(x: Tensor, y: Tensor, settings: HeadSettings, seed: int, device: torch.device = CPU) -> Head:
    """x [n, features], y [n] 1 for an intruder's: the mean of several nets' logits, as one net of blocks."""
    generator = torch.Generator().manual_seed(seed)
    some = x[torch.randperm(len(x), generator=generator)[:200_000]].double()
    quarter, middle, three = (torch.quantile(some, p, dim=0) for p in (0.25, 0.5, 0.75))
    # what hardly varies is scaled by its deviation, what never does by 0
    spread = torch.where(three - quarter > 1e-6, three - quarter, 2 * some.std(0))
    inverse = torch.where(spread > 1e-6, 1 / spread, torch.zeros_like(spread)).float()
    scaled = ((x - middle.float()) * inverse).clamp(-SCALED_MAX, SCALED_MAX)
    scaled, y = scaled.to(device), y.to(device)
    nets = [fit_one(scaled, y, settings, seed * 1000 + i) for i in range(settings.nets)]
    return Head(middle.float().numpy()[None], inverse.numpy()[None], side_by_side(nets))


def fit_one(x: Tensor, y: Tensor, settings: HeadSettings, seed: int) -> list[nn.Linear]:
    """Computed where x and y are; its layers come to the CPU."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    width = x.shape[1]
    for units in settings.units:
        layers += [nn.Linear(width, units), nn.Tanh()]
        width = units
    net = nn.Sequential(*layers, nn.Linear(width, 1)).to(x.device)
    optimiser = torch.optim.AdamW(net.parameters(), lr=settings.rate, weight_decay=settings.decay)
    batch = min(settings.batch, max(32, len(x) // 16))  # few rows are worth as many steps
    steps = settings.epochs * (1 + (len(x) - 1) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.rate, total_steps=steps)
    for _ in range(settings.epochs):
        order = torch.randperm(len(x), generator=generator).to(x.device)
        for rows in order.split(batch):  # type: ignore[no-untyped-call]
            loss = nn.functional.binary_cross_entropy_with_logits(net(x[rows]).flatten(), y[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return [m for m in net.to(CPU) if isinstance(m, nn.Linear)]


@torch.no_grad()
def side_by_side(nets: list[list[nn.Linear]]) -> list[tuple[Floats, Floats]]:
    made = []
    last = len(nets[0]) - 1
    for i, layers in enumerate(zip(*nets, strict=True)):
        weights = [layer.weight.T for layer in layers]
        biases = torch.stack([layer.bias for layer in layers])
        if i == last:
            weight, bias = torch.cat(weights) / len(nets), biases.mean(0)
        else:
            weight = torch.cat(weights, 1) if i == 0 else torch.block_diag(*weights)  # type: ignore[no-untyped-call]
            bias = biases.flatten()
        if i == last and i == 0:
            weight = torch.stack(weights).mean(0)
        made.append((np.ascontiguousarray(weight.numpy()), bias.numpy().copy()))
    return made
