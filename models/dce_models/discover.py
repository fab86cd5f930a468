"""A configuration for any data set: what its clicks hold decides which fields, numbers and context features are read;
how many they are, the sizes and how long to learn. Events before the cut alone are looked at."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from .features import decimal
from .folder import Folder, clicks
from .spec import Context, Dimensions, Field, Number, Spec, SpecError

CATEGORIES_MAX = 64  # values of an attribute that is read as a category
NUMERALS_MIN = 12  # distinct values of a number; fewer are a category
NUMERIC_SHARE = 0.95  # of an attribute's values that can be read as numbers
SHARE_MIN = 0.005  # of the events that have an attribute at all, or of the logins a context feature
FIELDS_MAX = 6  # attributes
NUMBERS_MAX = 8
CONTEXT_MAX = 32
KEYS_MAX = 1000  # attributes and context features that are looked at
WIDE = 20.0  # numbers beyond it are taken by their logarithm


@dataclass
class Seen:
    """Of one attribute or context feature. Distinct values are counted up to a little over the limits."""

    present: int = 0
    numeric: int = 0
    largest: float = 0.0
    values: set[str] = field(default_factory=set)

    def add(self, value: float | None, text: str) -> None:
        self.present += 1
        if value is not None:
            self.numeric += 1
            self.largest = max(self.largest, abs(value))
        if len(self.values) <= CATEGORIES_MAX:
            self.values.add(text)

    @property
    def transform(self) -> str:
        return "log1p" if self.largest > WIDE else "identity"


@dataclass
class Counts:
    events: int = 0
    logins: int = 0
    customers: set[str] = field(default_factory=set)
    plain: dict[str, Counter[str]] = field(default_factory=lambda: {n: Counter() for n in ("name", "kind", "channel")})
    attributes: defaultdict[str, Seen] = field(default_factory=lambda: defaultdict(Seen))
    context: defaultdict[str, Seen] = field(default_factory=lambda: defaultdict(Seen))


def spec(data: Folder) -> Spec:
    counts = count(data)
    if not counts.events:
        raise SpecError(f"{data.path} has no click before its first valid or test label to learn from")
    return spec_of(counts)


def spec_of(counts: Counts) -> Spec:
    names = len(counts.plain["name"])
    fields = [Field("name", 16 if names <= 1000 else 256, width(names))]
    fields += [Field(n, 4, width(len(counts.plain[n]))) for n in ("kind", "channel") if len(counts.plain[n]) > 1]
    common = [(k, s) for k, s in counts.attributes.items() if s.present >= SHARE_MIN * counts.events]
    common.sort(key=lambda pair: (-pair[1].present, pair[0]))
    numbers = [(k, s) for k, s in common if is_number(s)][:NUMBERS_MAX]
    categories = [(k, s) for k, s in common if not is_number(s) and 1 < len(s.values) <= CATEGORIES_MAX][:FIELDS_MAX]
    fields += [Field(f"attributes.{k}", 4, width(len(s.values))) for k, s in categories]
    known = [(k, s) for k, s in counts.context.items() if s.present >= SHARE_MIN * counts.logins and len(s.values) > 1]
    known.sort(key=lambda pair: (-pair[1].present, pair[0]))
    return Spec(
        name="model",
        version="1",
        timezone="UTC",
        opset=17,
        dimensions=Dimensions(session=64, hidden=96, state=64, embedding=64)
        if names > 300
        else Dimensions(session=48, hidden=64, state=64, embedding=64),
        fields=tuple(fields),
        numbers=tuple(Number(f"attributes.{k}", s.transform) for k, s in numbers),
        context=tuple(Context(k, s.transform) for k, s in known[:CONTEXT_MAX]),
        training=training(counts),
    )


def count(data: Folder) -> Counts:
    made = Counts()
    for click in clicks(data, data.cut_ms):
        made.events += 1
        made.customers.add(click["customer_id"])
        for name, texts in made.plain.items():
            texts[str(click.get(name) or "")] += 1
        for key, text in (click.get("attributes") or {}).items():
            if text and (key in made.attributes or len(made.attributes) < KEYS_MAX):
                made.attributes[key].add(decimal(str(text)), str(text))
        if click["kind"] == "LOGIN":
            made.logins += 1
            for key, value in (click.get("context") or {}).items():
                if is_value(value) and (key in made.context or len(made.context) < KEYS_MAX):
                    made.context[key].add(value, repr(value))
    return made


def is_number(seen: Seen) -> bool:
    return seen.numeric >= NUMERIC_SHARE * seen.present and len(seen.values) > NUMERALS_MIN


def is_value(value: Any) -> bool:  # noqa: ANN401 # out of JSON
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def width(values: int) -> int:
    """Of an embedding table: 4 for a few values, 24 for some thirty, 48 at most."""
    return min(48, max(4, 4 * round(math.sqrt(values))))


def training(counts: Counts) -> dict[str, Any]:
    """Those of bank-small, for as many steps as make up for the amount of data."""
    events, customers = counts.events, len(counts.customers)
    return {
        "vocabulary_customers_min": max(2, min(5, customers // 100)),
        "vocabulary_words_max": 5000,
        "validation_share": 0.15 if customers >= 200 else 0.0,
        "session_epochs": min(30, max(2, round(9e6 / events))),
        "session_batch": 128 if events > 200_000 else 32,
        "session_rate": 3e-3,
        "events_max": 100,
        "unknown_share": 0.02,
        "forget_share": 0.3,
        "customer_epochs": min(40, max(4, round(18e6 / events))),
        "customer_batch": 16,
        "customer_rate": 3e-3,
        "sessions_max": 120,
        "temperature": 0.3,
        "contrastive": 1.0,
        "cosine": 0.2,
    }


def summary(spec: Spec) -> str:
    context = ", ".join(c.name for c in spec.context) or "none"
    numbers = ", ".join(n.source for n in spec.numbers) or "none"
    return f"fields {', '.join(f.source for f in spec.fields)}; numbers {numbers}; context {context}"
