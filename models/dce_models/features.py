"""Events to numbers, exactly as docs/model-contract.md says: the twin of what `dce` computes when it serves.

Everything is computed in float64 and rounded to float32 once, at the end.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from .spec import Context, Number, Spec

Event = Mapping[str, Any]  # a ClickEvent as JSON
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

CLIP = 8.0
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def fnv1a64(data: bytes) -> int:
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = ((digest ^ byte) * 0x100000001B3) % 2**64
    return digest


def text_of(event: Event, source: str) -> str:
    """The value of a field; a missing one is the empty string."""
    if source.startswith("attributes."):
        return (event.get("attributes") or {}).get(source.removeprefix("attributes.")) or ""
    return event.get(source) or ""


def decimal(text: str) -> float | None:
    """A finite decimal number such as -12.5 or 3e4: no blanks, no words, no digits of other scripts."""
    if not DECIMAL.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def transformed(value: float, transform: str) -> float:
    return math.copysign(math.log1p(abs(value)), value) if transform == "log1p" else value


def normalised(value: float | None, column: Number | Context) -> float:
    if value is None or not math.isfinite(value):
        return 0.0
    scaled = (transformed(value, column.transform) - column.mean) / column.scale
    return min(CLIP, max(-CLIP, scaled))


def log_hours(ms: int) -> float:
    return math.log1p(max(0, ms) / HOUR_MS)


class Features:
    def __init__(self, spec: Spec, vocabulary: Mapping[str, Sequence[str]]) -> None:
        self.spec = spec
        self.known = [{text: 1 + i for i, text in enumerate(vocabulary[f.source])} for f in spec.fields]
        self.zone = UTC if spec.timezone == "UTC" else ZoneInfo(spec.timezone)
        self.cache: list[dict[str, int]] = [dict(known) for known in self.known]

    def table_rows(self, column: int) -> int:
        """How many ids a field can take, padding included."""
        return 1 + len(self.known[column]) + self.spec.fields[column].buckets

    def field_id(self, column: int, text: str) -> int:
        found = self.cache[column].get(text)
        if found is None:
            bucket = fnv1a64(text.encode()) % self.spec.fields[column].buckets
            found = self.cache[column][text] = len(self.known[column]) + 1 + bucket
        return found

    def session(self, events: Sequence[Event]) -> tuple[Ids, Floats]:
        """`fields` [T, F] and `numbers` [T, N] of a session's events, which come sorted."""
        fields = [
            [self.field_id(column, text_of(event, f.source)) for column, f in enumerate(self.spec.fields)]
            for event in events
        ]
        numbers = []
        before = events[0]["event_time"]
        for event in events:
            row = [math.log1p((event["event_time"] - before) / 1000)]
            row += [normalised(decimal(text_of(event, n.source)), n) for n in self.spec.numbers]
            numbers.append(row)
            before = event["event_time"]
        return np.array(fields, np.int64), np.array(numbers, np.float32)

    def context(self, values: Mapping[str, float] | None) -> Floats:
        """The values, then their masks; no LOGIN, no values."""
        given = [(values or {}).get(c.name) for c in self.spec.context]
        given = [v if v is not None and math.isfinite(v) else None for v in given]
        row = [normalised(v, c) for v, c in zip(given, self.spec.context, strict=True)]
        return np.array(row + [float(v is not None) for v in given], np.float32)

    def calendar(self, time_ms: int) -> Floats:
        """Sine and cosine of the wall clock's time of day, then of its day of week."""
        seconds, ms = divmod(time_ms, 1000)
        local = datetime.fromtimestamp(seconds, self.zone)
        since_midnight = ((local.hour * 60 + local.minute) * 60 + local.second) * 1000 + ms
        day, week = 2 * math.pi * since_midnight / DAY_MS, 2 * math.pi * local.weekday() / 7
        return np.array([math.sin(day), math.cos(day), math.sin(week), math.cos(week)], np.float32)
