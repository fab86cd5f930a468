"""Vocabulary and normalisation, from the sessions to train on."""

import math
from collections import Counter, defaultdict

from .clicks import Customer
from .features import decimal, text_of, transformed
from .spec import Context, Number, Spec

Vocabulary = dict[str, list[str]]


def vocabulary(spec: Spec, customers: list[Customer]) -> Vocabulary:
    """The values that at least `vocabulary_customers_min` customers share, so that a bundle names nobody; most frequent
    first. The rest shares the buckets. The empty string is always known."""
    customers_min = spec.training.get("vocabulary_customers_min", 5)
    words_max = spec.training.get("vocabulary_words_max", 2000)
    known = {}
    for f in spec.fields:
        events: Counter[str] = Counter()
        shared: Counter[str] = Counter()
        for customer in customers:
            own = Counter(text_of(event, f.source) for session in customer.sessions for event in session.events)
            events.update(own)
            shared.update(own.keys())
        words = [w for w in events if w and shared[w] >= customers_min]
        words.sort(key=lambda w: (-events[w], w))
        known[f.source] = ["", *words[:words_max]]
    return known


def normalisation(spec: Spec, customers: list[Customer]) -> Spec:
    """Mean and standard deviation of each transformed number; what never occurs keeps 0 and 1."""
    numbers: defaultdict[str, list[float]] = defaultdict(list)
    context: defaultdict[str, list[float]] = defaultdict(list)
    for session in (s for c in customers for s in c.sessions):
        for event in session.events:
            for n in spec.numbers:
                value = decimal(text_of(event, n.source))
                if value is not None:
                    numbers[n.source].append(transformed(value, n.transform))
        for c in spec.context:
            value = (session.context or {}).get(c.name)
            if value is not None and math.isfinite(value):
                context[c.name].append(transformed(value, c.transform))
    return spec.fitted(
        tuple(Number(n.source, n.transform, *moments(numbers[n.source])) for n in spec.numbers),
        tuple(Context(c.name, c.transform, *moments(context[c.name])) for c in spec.context),
    )


def moments(values: list[float]) -> tuple[float, float]:
    """Four digits are plenty, and keep a manifest readable."""
    if not values:
        return 0.0, 1.0
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
    return float(f"{mean:.4g}"), float(f"{deviation:.4g}") if deviation > 1e-6 else 1.0
