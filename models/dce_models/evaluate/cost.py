"""What a bundle's graphs cost in ONNX Runtime, one thread on the CPU: microseconds, medians."""

import time
from pathlib import Path

import numpy as np

from .. import bundle, check
from ..features import Features

EVENTS = 10  # a session's length here
BATCH = 32
RUNS = 30


def measure(folder: Path) -> dict[str, float]:
    """us_event: an event of an open session, alone (session_step). us_session: a whole session of EVENTS events in a
    batch of BATCH: encoded, folded, read and scored. us_session_alone: the same with B = 1."""
    b = bundle.read(folder)
    features = Features(b.spec, b.json("vocabulary"))
    random = np.random.default_rng(1)
    took: dict[tuple[str, int], float] = {}
    for name, path in b.graphs.items():
        run = check.runner(check.session(path))
        for rows in (1, BATCH):
            inputs = check.random_inputs(name, b, features, random, rows, EVENTS)
            if "length" in inputs:
                inputs = {**inputs, "length": np.full(rows, EVENTS, np.int32)}
            took[name, rows] = median(run, inputs) / rows
    whole = [name for name in b.graphs if name != "session_step"]
    return {
        "us_event": round(took["session_step", 1], 1),
        "us_session_alone": round(sum(took[name, 1] for name in whole), 1),
        "us_session": round(sum(took[name, BATCH] for name in whole), 2),
    }


def median(run: check.Run, inputs: check.Arrays) -> float:
    seconds = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        run(inputs)
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds)) * 1e6
