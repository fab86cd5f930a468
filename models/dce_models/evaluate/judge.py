"""All tasks that a folder has labels of, for one bundle."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from .. import dce as pipeline
from ..folder import TASKS, Folder
from ..spec import SpecError
from . import cost, history, join, outcome, owner, reading, records, situation, worth
from .records import Codes
from .result import Result
from .situation import Situation

Say = Callable[[str], None]


def judge(
    dce: Path, folder: Folder, bundle: Path, settings: Sequence[str], seed: int, say: Say, floors: bool = True
) -> dict[str, Result]:
    """Task -> result. Replays the folder's clicks with the bundle, in a temporary folder."""
    heads = situation.heads(bundle)
    with tempfile.TemporaryDirectory(prefix="dce-evaluate-") as temporary, threadpool_limits(1):
        say(f"replaying {folder.clicks.name} with {bundle}")
        made, sessions = pipeline.replay(dce, folder, bundle, Path(temporary), settings)
        customers, session_ids = Codes(), Codes()
        read = records.read(made, customers, session_ids)
        say(f"{len(read)} records; reading the clicks")
        clicks = history.load(folder, sessions, customers, session_ids)
        results: dict[str, Result] = {}
        for task in TASKS:
            labels = folder.of(task)
            if not labels:
                continue
            say(f"{task}: {len(labels)} labels")
            asked = join.ask(labels, customers, session_ids)
            s = Situation(folder, clicks, read, len(session_ids), heads, seed, floors)
            if task == "owner":
                results[task] = owner.judge(s, asked)
            elif task == "next":
                results[task] = reading.judge(s, asked)
            else:
                results[task] = outcome.judge(task, s, asked)
        if not results:
            raise SpecError(f"{folder.path}/labels.csv has no labels of {', '.join(TASKS)}: there is nothing to judge")
        return results


def add_bound(
    results: dict[str, Result], dce: Path, folder: Folder, bundle: Path, settings: Sequence[str], seed: int
) -> None:
    """One line more for `owner`, behind the model's own."""
    if "owner" in results and (found := worth.bound(dce, folder, bundle, settings, seed)):
        own = sum(not m.floor for m in results["owner"].methods)
        results["owner"].methods.insert(own, found)


def as_json(folder: Folder, bundle: Path, results: dict[str, Result], costs: dict[str, float]) -> dict[str, Any]:
    tasks = {task: result.json() for task, result in results.items()}
    return {"data": str(folder.path), "bundle": str(bundle), **tasks, "cost": costs, "ignored": folder.ignored}


def costs(bundle: Path) -> dict[str, float]:
    with threadpool_limits(1):
        return cost.measure(bundle)
