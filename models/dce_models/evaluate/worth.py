"""What a gate could be worth: the figures of a bundle's head for `owner` if no stranger's session were ever folded.
The pipeline sees no labels, so the bundle's graphs are run here, by ONNX Runtime, over the sessions that `dce sessions`
cuts; every session that a label calls a stranger's, whatever its split, stays out of the state."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import bundle
from ..folder import Folder
from .owner import method
from .result import Method

ROWS = 4096  # sessions whose states are held together
NAME = "strangers never folded (bound, in Python)"


def bound(dce: Path, folder: Folder, path: Path, settings: Sequence[str], seed: int) -> Method | None:
    """None where the bundle has no head for the task, or the test labels are of one class. A label without a session
    gets the lowest score, as `evaluate` has it."""
    import torch

    from .. import frozen, material
    from ..heads import asked, world

    parts = frozen.parts_of(bundle.read(path))
    head = next((h for h in parts.heads if h.task == "owner"), None)
    labels = sorted((x for x in folder.of("owner") if x.split == "test"), key=lambda x: x.customer_id)
    y = np.array([int(x.label) for x in labels], np.int64)
    if head is None or len(np.unique(y)) < 2:
        return None
    customers = material.cut_sessions(folder, None, dce, settings)
    w = world.world_of(parts.spec, parts.vocabulary, parts.forward, customers, seed)
    strangers, _ = asked.of_labels(w, [x for x in folder.of("owner") if x.label == "1"], "owner")
    never = np.zeros(len(w), bool)
    never[strangers.row] = True
    at, _ = asked.of_labels(w, labels, "owner")
    told = asked.told(w, labels, "owner")
    if not len(at):
        return None
    score = np.empty(len(at))
    for rows in np.array_split(np.arange(len(at)), 1 + len(at) // ROWS):
        with torch.no_grad():
            scores = head.run(world.inputs(w, at.at(rows), head.inputs, never))
        score[rows] = scores[:, -1].numpy()
    whole = np.full(len(labels), score.min())
    whole[told] = score
    codes = {name: i for i, name in enumerate(dict.fromkeys(x.customer_id for x in labels))}
    return method(NAME, False, y, whole, True, np.array([codes[x.customer_id] for x in labels], np.int64), seed)
