"""A head: a small multilayer perceptron over its inputs and, for `takeover`, over how the session and the embedding
before it agree. In PyTorch, and node by node in ONNX."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..graphs import FLOAT, Graph, linear
from ..parts import Inputs

PAIR = 32  # products of a projection of the embedding before and one of the session


@dataclass(frozen=True)
class Shape:
    inputs: tuple[tuple[str, int], ...]  # names and widths, in order
    outputs: int  # 1: a probability; more: as many that add up to 1
    units: tuple[int, int] = (64, 32)
    pair: tuple[str, str] | None = None  # two inputs whose projections are multiplied


class HeadNet(nn.Module):
    """Its outputs are logits."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        sizes = dict(shape.inputs)
        width = sum(sizes.values())
        if shape.pair:
            self.left = nn.Linear(sizes[shape.pair[0]], PAIR)
            self.right = nn.Linear(sizes[shape.pair[1]], PAIR)
        self.first = nn.Linear(width, shape.units[0])
        self.products = nn.Linear(PAIR, shape.units[0], bias=False) if shape.pair else None
        self.second = nn.Linear(*shape.units)
        self.out = nn.Linear(shape.units[1], shape.outputs)

    def forward(self, inputs: Inputs) -> Tensor:
        x = self.first(torch.cat([inputs[name] for name, _ in self.shape.inputs], dim=-1))
        if self.shape.pair and self.products is not None:
            left, right = (inputs[name] for name in self.shape.pair)
            x = x + self.products(self.left(left) * self.right(right))
        logits: Tensor = self.out(torch.tanh(self.second(torch.tanh(x))))
        return logits

    def scores(self, inputs: Inputs) -> Tensor:
        """[B, K] probabilities."""
        logits = self(inputs)
        return torch.sigmoid(logits) if self.shape.outputs == 1 else torch.softmax(logits, dim=-1)

    @torch.no_grad()
    def standardise(self, mean: dict[str, Tensor], scale: dict[str, Tensor]) -> None:
        """Puts (x - mean) / scale of the inputs into the weights that read them."""
        names = [name for name, _ in self.shape.inputs]
        readers = [(self.first, names)]
        if self.shape.pair:
            readers += [(self.left, [self.shape.pair[0]]), (self.right, [self.shape.pair[1]])]
        for layer, read in readers:
            weight = layer.weight / torch.cat([scale[n] for n in read])
            layer.bias.sub_(weight @ torch.cat([mean[n] for n in read]))
            layer.weight.copy_(weight)

    @torch.no_grad()
    def rescale(self, factor: float, shift: float) -> None:
        """Logits z become factor · z + shift."""
        self.out.weight *= factor
        self.out.bias.copy_(self.out.bias * factor + shift)


def graph(name: str, opset: int, net: HeadNet) -> bytes:
    shape = net.shape
    weights = {n: v.detach().numpy().astype(np.float32) for n, v in net.state_dict().items()}
    g = Graph(f"head_{name}", opset)
    given = {n: g.input(n, FLOAT, ["B", width]) for n, width in shape.inputs}
    whole = g.op("Concat", *given.values(), axis=1) if len(given) > 1 else next(iter(given.values()))
    x = linear(g, "first", whole, weights)
    if shape.pair:
        left, right = (
            linear(g, "left", given[shape.pair[0]], weights),
            linear(g, "right", given[shape.pair[1]], weights),
        )
        products = g.constant("products_weight", np.ascontiguousarray(weights["products.weight"].T))
        x = g.op("Add", x, g.op("MatMul", g.op("Mul", left, right), products))
    hidden = g.op("Tanh", linear(g, "second", g.op("Tanh", x), weights))
    logits = linear(g, "out", hidden, weights)
    if shape.outputs == 1:
        g.op("Sigmoid", logits, to="scores")
    else:
        g.op("Softmax", logits, axis=1, to="scores")
    g.output("scores", FLOAT, ["B", shape.outputs])
    return g.bytes()
