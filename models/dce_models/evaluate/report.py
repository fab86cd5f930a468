"""Tables for people."""

from collections.abc import Iterator
from pathlib import Path

from .result import Method, Result

TITLES = {
    "auc": "AUC",
    "ap": "avg. precision",
    "hit_at_5": "hits at 5 %",
    "hit_at_1": "hits at 1 %",
    "log_loss": "log loss",
    "calibration": "calibration",
    "accuracy": "accuracy",
    "top_3": "top 3",
    "mrr": "MRR",
    "recall_at_10": "R@10",
    "mrr_at_20": "MRR@20",
}
MAIN = {
    "owner": ("auc", "ap", "hit_at_5", "hit_at_1"),
    "label": ("auc", "ap", "hit_at_1", "log_loss"),
    "next_session": ("accuracy", "top_3", "mrr", "log_loss"),
    "next": ("recall_at_10", "mrr_at_20"),
}
SMALLER_IS_BETTER = ("log_loss", "calibration")


def one(results: dict[str, Result], costs: dict[str, float], ignored: dict[str, int]) -> Iterator[str]:
    """A table a task: the model first, then the floors."""
    for task, result in results.items():
        yield heading(task, result)
        columns = list(dict.fromkeys(name for m in result.methods for name in m.figures))
        cells = [["", *(TITLES.get(c, c) for c in columns)]]
        for m in result.methods:
            cells.append([f"floor: {m.name}" if m.floor else m.name, *(figure(m, c) for c in columns)])
        if result.methods:
            yield from aligned(cells)
        if "early" in result.extra:
            seen = [f"{k}: {number(v['auc'])}" for k, v in result.extra["early"].items()]
            yield "AUC after so many events of a session: " + ", ".join(seen)
        yield from (f"note: {note}" for note in result.notes)
        yield ""
    yield from foot(costs, ignored)


def many(bundles: list[tuple[Path, dict[str, Result], dict[str, float]]]) -> Iterator[str]:
    """A table a task: a line a bundle, every figure beside the best floor's."""
    tasks = list(dict.fromkeys(task for _, results, _ in bundles for task in results))
    for task in tasks:
        floors = bundles[0][1].get(task)
        if not floors:
            continue
        yield heading(task, floors) + "; figure, 95 %, and the best floor's after the stroke"
        cells = [["", "scored by", *(TITLES[c] for c in MAIN[task])]]
        for path, results, _ in bundles:
            for m in results[task].methods:
                if not m.floor:
                    line = [f"{figure(m, c)} / {number(best(floors, c))}" for c in MAIN[task]]
                    cells.append([path.name, m.name, *line])
        for m in floors.methods:
            if m.floor:
                cells.append([f"floor: {m.name}", "", *(number(m.figures.get(c)) for c in MAIN[task])])
        yield from aligned(cells)
        if task == "owner":
            for path, results, _ in bundles:
                seen = [f"{k}: {number(v['auc'])}" for k, v in results[task].extra.get("early", {}).items()]
                yield f"{path.name}: AUC after so many events: " + ", ".join(seen)
        yield ""
    cells = [["µs in ONNX Runtime, one core", "an event", "a session alone", "a session of 32"]]
    for path, _, cost in bundles:
        cells.append([path.name, *(f"{cost[k]:g}" for k in ("us_event", "us_session_alone", "us_session"))])
    yield from aligned(cells)


def best(result: Result, name: str) -> float | None:
    return result.best_floor(name, name in SMALLER_IS_BETTER)


def heading(task: str, result: Result) -> str:
    counts = ", ".join(f"{n} {split}" for split, n in result.labels.items())
    return f"{task}: labels {counts}; {result.misses} test labels without a record, {result.ties} ties"


def figure(m: Method, name: str) -> str:
    if name not in m.intervals or m.figures.get(name) is None:
        return number(m.figures.get(name))
    low, high = m.intervals[name]
    return f"{number(m.figures[name])} [{number(low)}, {number(high)}]"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def aligned(cells: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row in cells:
        yield "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()


def foot(costs: dict[str, float], ignored: dict[str, int]) -> Iterator[str]:
    yield (
        f"cost in ONNX Runtime, one core: {costs['us_event']:g} µs an event of an open session; a session of 10 events "
        f"{costs['us_session_alone']:g} µs alone, {costs['us_session']:g} µs in a batch of 32"
    )
    if ignored:
        yield "labels of other tasks, left out: " + ", ".join(f"{n} {task}" for task, n in ignored.items())
