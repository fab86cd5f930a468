"""Customers to arrays: one row a session, and the moments at which the customer is read between two sessions."""

import zlib
from dataclasses import dataclass

import numpy as np

from .clicks import Customer
from .features import Features, Floats, Ids, log_hours

READS = ("closed", "between", "start")  # moments after a session at which the next one is to be foretold


@dataclass
class Sequence:
    """A customer's K sessions. Row k of the reads foretells session k + 1, so the last row has no target."""

    customer_id: str
    first: int  # its first session's row in Sessions
    gap: Floats  # [K, 1]
    calendar: Floats  # [K, 4]
    context: Floats  # [K, C]
    ahead: Floats  # [K, reads, 1]
    read_calendar: Floats  # [K, reads, 4]
    read_context: Floats  # [K, reads, C]

    def __len__(self) -> int:
        return len(self.gap)


@dataclass
class Dataset:
    fields: list[Ids]  # a session's [T, F]
    numbers: list[Floats]  # a session's [T, N]
    customers: list[Sequence]


def build(features: Features, customers: list[Customer], seed: int) -> Dataset:
    made = Dataset([], [], [])
    for customer in customers:
        if not customer.sessions:
            continue
        made.customers.append(sequence(features, customer, len(made.fields), seed))
        for session in customer.sessions:
            f, n = features.session(session.events)
            made.fields.append(f)
            made.numbers.append(n)
    return made


def sequence(features: Features, customer: Customer, first: int, seed: int) -> Sequence:
    random = np.random.default_rng([seed, zlib.crc32(customer.customer_id.encode())])
    gap, calendar, context = [], [], []
    ahead, read_calendar, read_context = [], [], []
    latest_end = previous_end = None
    for session, following in zip(customer.sessions, [*customer.sessions[1:], None], strict=True):
        own = features.context(session.context)
        gap.append([0.0 if previous_end is None else log_hours(session.start - previous_end)])
        calendar.append(features.calendar(session.start))
        context.append(own)
        previous_end = session.end
        latest_end = session.end if latest_end is None else max(latest_end, session.end)
        until = max(session.closed_at, following.start) if following else session.closed_at
        between = int(random.integers(session.closed_at, until, endpoint=True))
        moments = [session.closed_at, between, following.start if following else session.closed_at]
        contexts = [own, own, features.context(following.context) if following else own]
        ahead.append([[log_hours(moment - latest_end)] for moment in moments])
        read_calendar.append([features.calendar(moment) for moment in moments])
        read_context.append(contexts)
    arrays = [np.array(x, np.float32) for x in (gap, calendar, context, ahead, read_calendar, read_context)]
    return Sequence(customer.customer_id, first, *arrays)


def held_out(customer_id: str, share: float) -> bool:
    """Whether a customer belongs to validation: by the id, so that every run and model agree."""
    return zlib.crc32(customer_id.encode()) % 10_000 < share * 10_000
