"""Evidently's and River's detectors on the windows that the evaluation of the monitor wrote.

Takes the file of windows (lines of JSON: stream, scenario, part, window, counts by bucket). Each peer runs with its own
defaults, and once more with its threshold moved so far that it is silent on all quiet windows. The last line is one JSON object.
"""

import json
import random
import statistics
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from evidently.legacy.calculations.stattests import (
    anderson_darling_test,
    ks_stat_test,
    wasserstein_stat_test,
)
from evidently.legacy.calculations.stattests.registry import StatTest
from river import base, drift

Parts = dict[tuple[int, str, str], list[list[float]]]
Test = Callable[[pd.Series, pd.Series], float]

EVENTS = ("jumpers_3pct", "frozen_3pct", "all_up_30pct", "segment_doubled")
# Distances of a window that a detector by the value gets to know the stream with, before an event.
REFERENCE_VALUES = 10_000
# Tests of a window take tens of milliseconds: so many streams, and one quiet window in so many.
BATCH_STREAMS = 5
BATCH_QUIET_ONE_IN = 4
# KSWIN takes milliseconds a value.
SLOW_WINDOWS = 12


def values(counts: Sequence[tuple[int, int]], seed: int) -> list[float]:
    """The distances of a window, each somewhere in its bucket, in no order."""
    rng = random.Random(seed)
    out = []
    for bucket, count in counts:
        if bucket < 0:
            out += [0.0] * count
            continue
        low = 2.0 ** ((bucket - 1) / 16 - 14) if bucket else 0.0
        high = 2.0 ** (bucket / 16 - 14)
        out += [low + (high - low) * rng.random() for _ in range(count)]
    rng.shuffle(out)
    return out


def read(path: str) -> Parts:
    parts = defaultdict(list)
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            row = json.loads(line)
            parts[row["stream"], row["scenario"], row["part"]].append(values(row["counts"], number))
    return parts


def evidently_default(reference: pd.Series, current: pd.Series) -> float:
    """As its registry chooses for a column of numbers: by the size of the reference, Wasserstein's above 1000 rows."""
    test, limit = (ks_stat_test, 0.05) if len(reference) <= 1000 else (wasserstein_stat_test, 0.1)
    return score(test, limit)(reference, current)


def score(test: StatTest, limit: float) -> Test:
    """How far beyond its threshold a test is: above 1 is drift."""
    is_p = test.name in ("ks", "anderson")

    def run(reference: pd.Series, current: pd.Series) -> float:
        found = test.func(reference, current, "num", limit)
        value = getattr(found, "drift_score", None)
        value = float(value if value is not None else found[0])
        return limit / max(value, 1e-300) if is_p else value / limit

    return run


BATCH = {
    "evidently": evidently_default,
    "evidently_ks": score(ks_stat_test, 0.05),
    "evidently_anderson": score(anderson_darling_test, 0.05),
}

# By the value: the detector, its defaults first, and then ever stricter.
STREAMING = {
    "river_adwin": [lambda d=d: drift.ADWIN(delta=d) for d in (0.002, 1e-4, 1e-6, 1e-9, 1e-13, 1e-18, 1e-25)],
    "river_page_hinkley": [lambda t=t: drift.PageHinkley(threshold=t) for t in (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0)],
    "river_kswin": [lambda a=a: drift.KSWIN(alpha=a, seed=1) for a in (0.005, 1e-4, 1e-6, 1e-8, 1e-11)],
}


def streams_of(parts: Parts) -> list[int]:
    return sorted({stream for stream, _, _ in parts})


def first(alarms: Sequence[bool]) -> int | None:
    """The window, counted from 1, of the first alarm."""
    return next((number for number, alarm in enumerate(alarms, 1) if alarm), None)


def summary(delays: Sequence[int | None]) -> dict[str, float | None]:
    known = sorted(delay if delay is not None else 10**9 for delay in delays)
    median = statistics.median_low(known)
    return {
        "within_2": sum(delay <= 2 for delay in known) / len(known),
        "within_24": sum(delay <= 24 for delay in known) / len(known),
        "median": median if median < 10**9 else None,
    }


def batch(parts: Parts, test: Test) -> dict[str, Any]:
    """A week's sample as the fixed reference, every window against it."""
    quiet, events = [], defaultdict(list)
    for stream in streams_of(parts)[:BATCH_STREAMS]:
        for segment in ("all", "small"):
            pooled = [value for window in parts[stream, "reference", segment] for value in window]
            reference = pd.Series(random.Random(stream).sample(pooled, min(len(pooled), REFERENCE_VALUES)))

            def one(window: list[float], reference: pd.Series = reference) -> float:
                return test(reference, pd.Series(window))

            if segment == "all":
                quiet += [one(window) for window in parts[stream, "quiet", segment][::BATCH_QUIET_ONE_IN]]
            for event in EVENTS:
                if (event == "segment_doubled") == (segment == "small"):
                    events[event].append([one(window) for window in parts[stream, event, segment]])
    false = sum(value > 1 for value in quiet) / len(quiet) * 288
    silent = max(max(quiet), 1e-12)
    return {
        "false_alarms_a_day": round(false, 2),
        "default": {event: summary([first(v > 1 for v in run) for run in runs]) for event, runs in events.items()},
        "silent": {event: summary([first(v > silent for v in run) for run in runs]) for event, runs in events.items()},
    }


def alarms(detector: base.DriftDetector, windows: list[list[float]]) -> list[bool]:
    told = []
    for window in windows:
        is_told = False
        for value in window:
            detector.update(value)
            is_told |= detector.drift_detected
        told.append(is_told)
    return told


def streaming(parts: Parts, name: str, detectors: list[Callable[[], Any]]) -> dict[str, Any]:
    streams = streams_of(parts)
    is_slow = name == "river_kswin"
    if is_slow:
        streams = streams[:3]

    def quiet(make: Callable[[], Any]) -> list[list[bool]]:
        runs = [parts[stream, "quiet", "all"] for stream in streams]
        runs = [run[:SLOW_WINDOWS] if is_slow else run for run in runs]
        return [alarms(make(), run) for run in runs]

    def delays(make: Callable[[], Any]) -> dict[str, Any]:
        found = {}
        for event in EVENTS:
            segment = "small" if event == "segment_doubled" else "all"
            found[event] = []
            for stream in streams:
                detector = make()
                lead = parts[stream, "lead", segment]
                alarms(detector, lead[-2:] if is_slow else lead)
                found[event].append(first(alarms(detector, parts[stream, event, segment][: 4 if is_slow else 24])))
        return {event: summary(told) for event, told in found.items()}

    default = quiet(detectors[0])
    windows = sum(len(run) for run in default)
    result = {
        "false_alarms_a_day": round(sum(map(sum, default)) / windows * 288, 2),
        "default": delays(detectors[0]),
    }
    silent = next((make for make in detectors if not any(map(any, quiet(make)))), None)
    result["silent"] = delays(silent) if silent else None
    return result


def main() -> None:
    # Of tables of critical values that end.
    warnings.simplefilter("ignore")
    parts = read(sys.argv[1])
    result = {}
    for name, test in BATCH.items():
        result[name] = batch(parts, test)
        print(name, json.dumps(result[name]), flush=True)
    for name, detectors in STREAMING.items():
        result[name] = streaming(parts, name, detectors)
        print(name, json.dumps(result[name]), flush=True)
    print(json.dumps({"versions": {"numpy": np.__version__, "pandas": pd.__version__}, **result}))


main()
