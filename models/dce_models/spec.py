"""What a model reads, and how wide it is. A training configuration and a manifest hold the same tables; the manifest
adds what was fitted (mean, scale) and the files."""

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

CONTRACT = 1
KINDS = ("LOGIN", "LOGOUT", "PAGE_VIEW", "ACTION")
TRANSFORMS = ("identity", "log1p")


class SpecError(ValueError):
    """A configuration or manifest that the contract does not allow."""


@dataclass(frozen=True)
class Field:
    """A categorical value of an event: an embedding table."""

    source: str
    buckets: int
    embedding: int = 16  # training only: the table's width


@dataclass(frozen=True)
class Number:
    """A number of an event, out of its attributes."""

    source: str
    transform: str
    mean: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Context:
    """A number of the customer, out of the LOGIN event's context."""

    name: str
    transform: str
    mean: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Dimensions:
    session: int
    hidden: int
    state: int
    embedding: int


@dataclass(frozen=True)
class Spec:
    name: str
    version: str
    timezone: str
    opset: int
    dimensions: Dimensions
    fields: tuple[Field, ...]
    numbers: tuple[Number, ...] = ()
    context: tuple[Context, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def number_columns(self) -> int:
        return 1 + len(self.numbers)

    @property
    def context_columns(self) -> int:
        return 2 * len(self.context)

    def fitted(self, numbers: tuple[Number, ...], context: tuple[Context, ...]) -> "Spec":
        return replace(self, numbers=numbers, context=context)


def load(path: Path) -> Spec:
    return parse(tomllib.loads(path.read_text(encoding="utf-8")))


def parse(raw: dict[str, Any]) -> Spec:
    """Takes a configuration or a manifest; the tables that only one of them has are left alone."""
    try:
        spec = Spec(
            name=raw["name"],
            version=raw["version"],
            timezone=raw["timezone"],
            opset=raw["opset"],
            dimensions=Dimensions(**raw["dimensions"]),
            fields=tuple(Field(**f) for f in raw.get("fields", [])),
            numbers=tuple(Number(**n) for n in raw.get("numbers", [])),
            context=tuple(Context(**c) for c in raw.get("context", [])),
            training=dict(raw.get("training", {})),
        )
    except KeyError as missing:
        raise SpecError(f"{missing} is missing") from None
    except TypeError as wrong:
        raise SpecError(str(wrong)) from None
    require_valid(spec)
    return spec


def require_valid(spec: Spec) -> None:
    if not 17 <= spec.opset <= 20:
        raise SpecError(f"opset is {spec.opset}, must be 17 to 20")
    if not spec.fields:
        raise SpecError("[[fields]] is empty: a session needs at least one")
    for f in spec.fields:
        if f.source not in ("name", "kind", "channel", "device_id") and not f.source.startswith("attributes."):
            raise SpecError(f"field source {f.source!r}: must be name, kind, channel, device_id or attributes.KEY")
        if f.buckets < 1:
            raise SpecError(f"field {f.source}: buckets is {f.buckets}, must be 1 or more")
    for n in spec.numbers:
        if not n.source.startswith("attributes."):
            raise SpecError(f"number source {n.source!r}: must be attributes.KEY")
    columns: list[Number | Context] = [*spec.numbers, *spec.context]
    for x in columns:
        if x.transform not in TRANSFORMS:
            raise SpecError(f"transform {x.transform!r}: must be one of {', '.join(TRANSFORMS)}")
        if not x.scale > 0:
            raise SpecError(f"scale is {x.scale}, must be above 0")
