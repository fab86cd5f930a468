"""Trains a model of the zoo, then its heads; keeps the run."""

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import device as devices
from . import heads, zoo
from .device import CPU
from .material import Material
from .parts import Parts
from .spec import SpecError

Say = Callable[[str], None]
Run = dict[str, Any]


def train(model: str, material: Material, seed: int, say: Say, device: torch.device = CPU) -> Run:
    devices.reproducible(seed)
    began, where = time.monotonic(), devices.name(device)
    made = devices.on_cpu(zoo.member(model).train(material, seed, say, device))
    run: Run = {"model": model, "seed": seed, "device": where, **made}
    run["heads"] = devices.on_cpu(heads.train(zoo.member(model).export(run), material, seed, say, device))
    say(f"trained in {time.monotonic() - began:.0f} s on {where}")
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
        run: Run = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as wrong:
        raise SpecError(f"{path} is no run: {str(wrong).splitlines()[0]}") from None
    if "model" not in run:
        raise SpecError(f"{path} is no run: it does not tell its model")
    return run
