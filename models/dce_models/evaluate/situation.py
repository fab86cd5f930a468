"""All that the judging of a task works with."""

import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..folder import SPLITS, Folder
from ..spec import SpecError
from .history import History
from .join import Asked, Joined
from .records import Ints, Records
from .result import Result

HEADS = {"owner": ("takeover",), "label": ("call", "label"), "next_session": ("intent",), "next": ("next",)}


@dataclass(frozen=True)
class Head:
    """A score that the pipeline put into the records."""

    name: str
    classes: list[str]  # in the order of its scores; none: one probability, or two scores of which the second is 1's


@dataclass
class Situation:
    folder: Folder
    history: History
    records: Records
    session_ids: int  # how many there are
    heads: dict[str, Head]  # task -> head
    seed: int
    floors: bool = True  # whether to compute them: they are the same for every bundle


def heads(bundle: Path) -> dict[str, Head]:
    """By the manifest's `task`, or else by the usual name."""
    try:
        raw: dict[str, Any] = tomllib.loads((bundle / "manifest.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as wrong:
        raise SpecError(f"{bundle} is no model bundle: {wrong}") from None
    found = raw.get("heads", {})
    made = {}
    for task, names in HEADS.items():
        named = [n for n, h in found.items() if h.get("task") == task] or [n for n in names if n in found]
        if named:
            made[task] = Head(named[0], list(found[named[0]].get("classes", [])))
    return made


def begin(task: str, asked: Asked, joined: Joined) -> Result:
    """A result with its counts."""
    split = Counter(asked.split.tolist())
    test = asked.split == SPLITS.index("test")
    counts = {name: split[i] for i, name in enumerate(SPLITS)}
    return Result(task, counts, int((test & ~joined.hit).sum()), joined.ties)


def rows_of(split: str, asked: Asked, folder: Folder) -> Ints:
    """Labels of a split in order of time; of `train` those alone that lie before everything held out."""
    chosen = asked.split == SPLITS.index(split)
    if split == "train" and folder.cut_ms is not None:
        chosen &= asked.time < folder.cut_ms
    if split == "valid" and folder.test_ms is not None:
        chosen &= asked.time < folder.test_ms
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(asked.time[rows], kind="stable")].astype(np.int64)
