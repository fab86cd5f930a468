"""What a task's judging gives: one row a method, floors among them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .metrics import Figures, Floats, middle

Interval = tuple[float, float]


@dataclass
class Method:
    name: str
    floor: bool
    figures: Figures
    drawn: dict[str, Floats] = field(default_factory=dict, repr=False)  # on the bootstrap's samples

    @property
    def intervals(self) -> dict[str, Interval]:
        return middle(self.drawn)


def mean(methods: list[Method], name: str) -> Method:
    """Of several models' figures, sample by sample of the bootstrap: their labels are the same."""
    figures: Figures = {}
    drawn: dict[str, Floats] = {}
    for key in methods[0].figures:
        values = [v for m in methods if (v := m.figures.get(key)) is not None]
        figures[key] = sum(values) / len(values) if len(values) == len(methods) else None
        samples = [m.drawn[key] for m in methods if key in m.drawn]
        if len(samples) == len(methods):
            drawn[key] = np.mean(samples, axis=0)
    return Method(name, methods[0].floor, figures, drawn)


@dataclass
class Result:
    task: str
    labels: dict[str, int]  # split -> how many
    misses: int  # test labels without a record
    ties: int
    methods: list[Method] = field(default_factory=list)  # the model's own first
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def judged(self) -> Method | None:
        """The model's own."""
        return next((m for m in self.methods if not m.floor), None)

    def best_floor(self, figure: str, smallest: bool = False) -> float | None:
        found = [v for m in self.methods if m.floor and (v := m.figures.get(figure)) is not None]
        return (min if smallest else max)(found, default=None)

    def json(self) -> dict[str, Any]:
        return {
            "labels": self.labels,
            "misses": self.misses,
            "ties": self.ties,
            "methods": [
                {
                    "name": m.name,
                    "floor": m.floor,
                    **{n: rounded(v) for n, v in m.figures.items()},
                    "intervals": {n: [rounded(x) for x in pair] for n, pair in m.intervals.items()},
                }
                for m in self.methods
            ],
            "notes": self.notes,
            **self.extra,
        }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
