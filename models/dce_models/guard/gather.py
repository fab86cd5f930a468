"""From what the zoo's members are given to what this one learns from: columns, and a sample of customers."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .. import fit
from ..clicks import Customer, Session
from ..features import Features, text_of
from ..folder import Label
from ..material import Material
from ..spec import Field, Spec, SpecError
from .layout import Layout
from .sample import Sample
from .settings import Settings
from .words import Words, words

ROBBED_MIN = 10  # customers at whom labels name strangers, with which labels can teach: fewer are told by each other


@dataclass
class Gathered:
    spec: Spec  # fitted, with this model's dimensions
    vocabulary: fit.Vocabulary
    words: Words
    sample: Sample
    strange: Tensor  # [sessions of the sample] 1: labelled a stranger's, 0: the customer's own or not labelled
    labelled: Tensor  # [sessions of the sample] whether there is a label
    rate: float  # share of strangers' sessions among the labels to learn from: of all customers, drawn or not


def gathered(material: Material, s: Settings, seed: int) -> Gathered:
    spec = replace(material.spec, fields=fields_of(material, s))
    vocabulary = fit.vocabulary(spec, material.customers)
    spec = fit.normalisation(spec, material.customers)
    owner = [x for x in material.labels if x.task == "owner"]
    chosen = draw(material.customers, s, seed, {x.customer_id for x in owner if x.label == "1"})
    features = Features(spec, vocabulary)
    sessions = [features.session(session.events) for c in chosen for session in c.sessions]
    numbers = np.concatenate([n for _, n in sessions]) if s.bins else np.zeros((0, 0), np.float32)
    found = words(features, numbers, s.pair_buckets, s.bins, s.kinds_max)
    layout = Layout(found.columns, s.width, s.profile_decays, quarantine=s.quarantine)
    tokens = torch.cat([found.session(torch.from_numpy(f), torch.from_numpy(n)) for f, n in sessions])
    starts = torch.tensor([0, *(len(f) for f, _ in sessions)]).cumsum(0)
    first = [0, *np.cumsum([len(c.sessions) for c in chosen]).tolist()]
    strange, labelled = answers(chosen, owner)
    return Gathered(
        spec=replace(spec, dimensions=layout.dimensions),
        vocabulary=vocabulary,
        words=found,
        sample=Sample(layout, tokens, starts, first),
        strange=torch.tensor(strange),
        labelled=torch.tensor(labelled),
        rate=sum(x.label == "1" for x in owner) / max(1, len(owner)),
    )


def fields_of(material: Material, s: Settings) -> tuple[Field, ...]:
    """The name first; devices too, which mostly share buckets."""
    given = material.spec.fields
    if not any(f.source == "name" for f in given):
        raise SpecError("[[fields]] has no name: this model counts names")
    made = [replace(f, buckets=max(f.buckets, s.name_buckets)) for f in given if f.source == "name"]
    made += [f for f in given if f.source != "name"]
    if s.device_buckets and not any(f.source == "device_id" for f in given):
        events = (e for c in material.customers for session in c.sessions for e in session.events)
        if any(text_of(e, "device_id") for e in events):
            made.append(Field("device_id", s.device_buckets))
    return tuple(made)


def draw(customers: list[Customer], s: Settings, seed: int, robbed: set[str]) -> list[Customer]:
    """Those with sessions enough, their last ones; fewer than the limit, drawn by the seed, in the given order. Whom
    labels call robbed comes first where they are enough to teach: nobody else can say what thieves do."""
    first = robbed if len(robbed) >= ROBBED_MIN else set()
    usable = [c for c in customers if len(c.sessions) >= s.sessions_least]
    if len(usable) < 2:
        raise SpecError(
            f"{len(usable)} customers have {s.sessions_least} sessions or more before the first valid or test label: "
            "two at least are needed to simulate intrusions"
        )
    drawn = np.random.default_rng([seed, 3]).permutation(len(usable)).tolist()
    picked = sorted(drawn, key=lambda i: usable[i].customer_id not in first)[: s.customers_max]
    return [Customer(usable[i].customer_id, usable[i].sessions[-s.sessions_most :]) for i in sorted(picked)]


def answers(customers: list[Customer], labels: list[Label]) -> tuple[list[float], list[bool]]:
    """By the owner labels to learn from: which sessions are a stranger's, and which have a label."""
    told: dict[str, list[Label]] = {}
    for label in labels:
        told.setdefault(label.customer_id, []).append(label)
    strange: list[float] = []
    labelled: list[bool] = []
    for customer in customers:
        found: dict[int, Label] = {}  # session -> its latest label
        for label in sorted(told.get(customer.customer_id, []), key=lambda x: x.event_time):
            holding = [i for i, session in enumerate(customer.sessions) if holds(session, label)]
            if holding:  # of several the one that began last, as in evaluate/join.py
                found[max(holding, key=lambda i: customer.sessions[i].start)] = label
        strange += [float(i in found and found[i].label == "1") for i in range(len(customer.sessions))]
        labelled += [i in found for i in range(len(customer.sessions))]
    return strange, labelled


def holds(session: Session, label: Label) -> bool:
    """Whether the label can be meant for the session."""
    is_named = not label.session_id or session.events[0].get("session_id") == label.session_id
    return is_named and session.start <= label.event_time <= session.end
