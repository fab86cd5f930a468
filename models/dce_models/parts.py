"""What every model of the zoo gives to be exported: the four graphs, the same four in PyTorch, and its heads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from .spec import Spec

Inputs = Mapping[str, Tensor]


class Forward(Protocol):
    """The four graphs in PyTorch, f32, shapes as in docs/model-contract.md."""

    def encode(self, fields: Tensor, numbers: Tensor, length: Tensor) -> Tensor:
        """[B, T, F], [B, T, N], [B] to `session` [B, S]; what lies beyond a length changes nothing."""

    def encode_step(self, fields: Tensor, numbers: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """[B, F], [B, N], [B, Hs] to `hidden_out` [B, Hs] and `session` [B, S]."""

    def step(
        self, state: Tensor, session: Tensor, gap: Tensor, calendar: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """To `state_out` [B, H] and `gate` [B, 1]."""

    def read(self, state: Tensor, ahead: Tensor, calendar: Tensor, context: Tensor) -> Tensor:
        """To `embedding` [B, E]."""


@dataclass
class Head:
    """A downstream score. `task` is one of a data set's tasks, or empty; `classes` name the scores in their order, none
    for a single one (then it is the probability of 1)."""

    name: str
    inputs: tuple[str, ...]
    onnx: bytes
    run: Callable[[Inputs], Tensor]  # named inputs to `scores` [B, K]
    task: str = ""
    classes: tuple[str, ...] = ()


@dataclass
class Parts:
    spec: Spec  # fitted
    vocabulary: dict[str, list[str]]
    graphs: dict[str, bytes]  # by the graph's name
    forward: Forward
    heads: list[Head] = field(default_factory=list)
