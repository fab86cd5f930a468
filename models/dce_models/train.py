"""Trains a model of the zoo, then its heads; keeps the run."""

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import heads, zoo
from .material import Material
from .parts import Parts
from .spec import SpecError

Say = Callable[[str], None]
Run = dict[str, Any]


def train(model: str, material: Material, seed: int, say: Say) -> Run:
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # sums in another order are other weights; and these matrices are small
    began = time.monotonic()
    run: Run = {"model": model, "seed": seed, **zoo.member(model).train(material, seed, say)}
    run["heads"] = heads.train(zoo.member(model).export(run), material, seed, say)
    say(f"trained in {time.monotonic() - began:.0f} s")
    return run


def parts(run: Run) -> Parts:
    """The model's own heads first."""
    made: Parts = zoo.member(run["model"]).export(run)
    made.heads += heads.built(run["heads"], made.spec.opset)
    return made


def opened(run: Run) -> Run:
    """With a gate that lets every session in, for the models that have one."""
    member = zoo.member(run["model"])
    if not hasattr(member, "opened"):
        raise SpecError(f"a run of {run['model']} has no gate to open")
    made: Run = member.opened(run)
    return made


def save(run: Run, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(run, path)


def load(path: Path) -> Run:
    try:
        run: Run = torch.load(path, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as wrong:
        raise SpecError(f"{path} is no run: {str(wrong).splitlines()[0]}") from None
    if "model" not in run:
        raise SpecError(f"{path} is no run: it does not tell its model")
    return run
