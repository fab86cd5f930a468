"""What a bundle must reproduce, by PyTorch. The customers are made up here: a bundle never carries anybody's clicks."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .features import DAY_MS, HOUR_MS, Features, log_hours
from .parts import Forward, Head, Parts
from .spec import Spec

Json = dict[str, Any]
START = 1_767_571_199_000  # Sunday 2026-01-04 23:59:59 UTC: the first sessions cross a midnight and a week


@torch.no_grad()
def golden(parts: Parts) -> bytes:
    random = np.random.default_rng(1)
    features = Features(parts.spec, parts.vocabulary)
    cases: dict[str, list[Json]] = {"session_encoder": [], "session_step": [], "customer_step": [], "customer_read": []}
    for rows, events in ((1, 1), (1, 9), (4, 7), (3, 40)):
        for name, case in graph_cases(features, parts.forward, random, rows, events).items():
            cases[name].append(case)
    cases |= head_cases(features, parts.heads)
    made = [embedded(features, parts.forward, sessions) for sessions in customers(parts.spec, parts.vocabulary)]
    return (json.dumps({"graphs": cases, "customers": made}, separators=(",", ":"), ensure_ascii=False) + "\n").encode()


# -- each graph alone --------------------------------------------------------------------------------------------------


def graph_cases(
    features: Features, forward: Forward, random: np.random.Generator, rows: int, events: int
) -> dict[str, Json]:
    spec, d = features.spec, features.spec.dimensions

    def normal(*shape: int) -> Tensor:
        return torch.from_numpy(random.normal(size=shape).astype(np.float32))

    ids = [random.integers(1, features.table_rows(c), (rows, events)) for c in range(len(spec.fields))]
    fields = torch.from_numpy(np.stack(ids, axis=-1))
    numbers = normal(rows, events, spec.number_columns).abs()
    length = torch.from_numpy(random.integers(1, events + 1, rows).astype(np.int32))
    length[0] = events
    beyond = torch.arange(events)[None] >= length[:, None]
    fields[beyond], numbers[beyond] = 0, 0.0
    hidden, state, session = normal(rows, d.hidden).tanh(), normal(rows, d.state).tanh(), normal(rows, d.session)
    hours, calendar, context = normal(rows, 1).abs(), normal(rows, 4).tanh(), normal(rows, spec.context_columns)
    one = {"fields": fields[:, 0], "numbers": numbers[:, 0], "hidden": hidden}
    step = {"state": state, "session": session, "gap": hours, "calendar": calendar, "context": context}
    read = {"state": state, "ahead": hours, "calendar": calendar, "context": context}
    hidden_out, at_event = forward.encode_step(*one.values())
    state_out, gate = forward.step(*step.values())
    whole = {"fields": fields, "numbers": numbers, "length": length}
    return {
        "session_encoder": case(whole, {"session": forward.encode(*whole.values())}),
        "session_step": case(one, {"hidden_out": hidden_out, "session": at_event}),
        "customer_step": case(step, {"state_out": state_out, "gate": gate}),
        "customer_read": case(read, {"embedding": forward.read(*read.values())}),
    }


def head_cases(features: Features, heads: Sequence[Head]) -> dict[str, list[Json]]:
    random = np.random.default_rng(3)
    return {f"heads/{head.name}": [head_case(features, head, random, rows) for rows in (1, 5)] for head in heads}


def head_case(features: Features, head: Head, random: np.random.Generator, rows: int) -> Json:
    """Unit vectors where embeddings are asked for."""
    d, columns = features.spec.dimensions, features.spec.context_columns
    sizes = {"state": d.state, "prior": d.embedding, "session": d.session, "embedding": d.embedding}
    sizes |= {"calendar": 4, "context": columns}
    given = {n: torch.from_numpy(random.normal(size=(rows, sizes[n])).astype(np.float32)) for n in head.inputs}
    for name in given.keys() & {"prior", "embedding"}:
        given[name] = functional.normalize(given[name], dim=-1)
    return case(given, {"scores": head.run(given)})


def case(inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> Json:
    return {"inputs": {n: tensor(v) for n, v in inputs.items()}, "outputs": {n: tensor(v) for n, v in outputs.items()}}


def tensor(value: Tensor) -> Json:
    return {"shape": list(value.shape), "data": plain(value.numpy().ravel())}


def plain(values: NDArray[Any]) -> list[int] | list[float]:
    """The shortest decimals that give the same f32 again."""
    return [int(v) for v in values] if values.dtype.kind == "i" else [float(str(v)) for v in values]


# -- whole customers ---------------------------------------------------------------------------------------------------


def embedded(features: Features, forward: Forward, sessions: list[Json]) -> Json:
    """Folds the sessions and reads the embedding after each, at the latest `closed_at` so far."""

    def row(values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values)[None]

    state = torch.zeros(1, features.spec.dimensions.state)
    embeddings = []
    for k, session in enumerate(sessions):
        fields, numbers = features.session(session["events"])
        vector = forward.encode(row(fields), row(numbers), torch.tensor([len(fields)], dtype=torch.int32))
        gap = log_hours(session["start"] - sessions[k - 1]["end"]) if k else 0.0
        context = row(features.context(session["context"]))
        calendar = row(features.calendar(session["start"]))
        state, _ = forward.step(state, vector, torch.tensor([[gap]]), calendar, context)
        moment = max(s["closed_at"] for s in sessions[: k + 1])
        ahead = log_hours(moment - max(s["end"] for s in sessions[: k + 1]))
        read = forward.read(state, torch.tensor([[ahead]]), row(features.calendar(moment)), context)[0].double()
        embeddings.append(plain((read / read.norm()).float().numpy()))
    return {"sessions": sessions, "embeddings": embeddings}


def customers(spec: Spec, vocabulary: Mapping[str, list[str]]) -> list[list[Json]]:
    """Made-up customers, each for one thing that can go wrong."""
    random = np.random.default_rng(2)
    whole = {c.name: 1234.5 * (i + 1) for i, c in enumerate(spec.context)}

    def session(start: int, events: int, context: Json | None, odd: bool = False, closed_after: int = 0) -> Json:
        made = [event(spec, vocabulary, random, odd) for _ in range(events)]
        at = start
        for i, e in enumerate(made):
            at += int(random.integers(0, 90_000)) if i else 0
            e["event_time"] = at
        if context is not None:
            made[0]["kind"] = "LOGIN"
        return {"start": start, "end": at, "closed_at": at + closed_after, "context": context, "events": made}

    def moved(value: Json, by: int, closed_at: int) -> Json:
        """The same session at another time."""
        events = [{**e, "event_time": e["event_time"] + by} for e in value["events"]]
        start, end = value["start"] + by, value["end"] + by
        return {**value, "start": start, "end": end, "closed_at": closed_at, "events": events}

    plain_days = [session(START + day * DAY_MS, 6, whole) for day in range(4)]
    without_login = [session(START + n * 5 * HOUR_MS, 3, None, closed_after=30 * 60_000) for n in range(3)]
    unknown = [session(START + n * DAY_MS, 5, whole, odd=True) for n in range(3)]
    long_gaps = [session(START + days * DAY_MS, 4, whole) for days in (0, 400, 401, 2000)]
    first, second = session(START, 8, whole), session(START + 60_000, 8, None)
    overlapping = [
        second | {"closed_at": second["end"]},
        moved(first, 0, max(first["end"], second["end"]) + 30 * 60_000),
        moved(session(START, 2, whole), 61_000, first["end"] + 2 * HOUR_MS),
    ]
    some: list[Json] = [{c.name: value} for c in spec.context[:1] for value in (0.0, -2500.75, 1e12)]
    partial = [session(START + n * HOUR_MS, 2, context) for n, context in enumerate([*some, {}, {"unheard of": 1.0}])]
    at_once = [session(START, 1, whole), session(START, 1, None), session(START, 120, whole)]
    return [plain_days, without_login, unknown, long_gaps, overlapping, partial, at_once]


def event(spec: Spec, vocabulary: Mapping[str, list[str]], random: np.random.Generator, odd: bool) -> Json:
    """One event that has a value for each field and number; an odd one, unknown, missing and unreadable ones."""

    def pick(source: str) -> str:
        if odd and random.random() < 0.5:
            return str(random.choice(["", "no such value", "größe", "名前", f"x{random.integers(1_000_000)}"]))
        return str(random.choice(vocabulary.get(source) or [""]))

    made: Json = {"kind": str(random.choice(["PAGE_VIEW", "ACTION"])), "name": pick("name"), "attributes": {}}
    for source in [f.source for f in spec.fields] + [n.source for n in spec.numbers]:
        if not source.startswith("attributes."):
            if source not in made:
                made[source] = pick(source)
            continue
        number = f"{random.lognormal(4, 2):.2f}"
        text = pick(source) if source in vocabulary else number
        made["attributes"][source.removeprefix("attributes.")] = text
    amounts = ["-12.5", "1e3", ".5", "7.", "+3", "", "n/a", "1,000", " 1", "inf", "nan", "1_0", "0x10", "1e999", "٣"]
    for n in spec.numbers:
        if random.random() < 0.3:
            del made["attributes"][n.source.removeprefix("attributes.")]
        elif odd:
            made["attributes"][n.source.removeprefix("attributes.")] = str(random.choice(amounts))
    return made
