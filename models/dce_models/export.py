"""A run to a bundle. What `check` refuses is not left behind."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from . import bundle, check, graphs
from .golden import golden
from .train import Run


def export(run: Run, out: Path, version: str | None = None) -> list[str]:
    """Writes the bundle and gives the reasons to refuse it: none, or nothing was written."""
    spec = replace(run.spec, version=version) if version else run.spec
    encoder, customer = weights(run.encoder), weights(run.customer)
    cell = [part.detach().numpy() for part in run.customer.cell.weights()]
    files = {
        "vocabulary.json": (json.dumps(run.vocabulary, indent=1, ensure_ascii=False) + "\n").encode(),
        "session_encoder.onnx": graphs.session_encoder(spec, encoder),
        "session_step.onnx": graphs.session_step(spec, encoder),
        "customer_step.onnx": graphs.customer_step(spec, cell),
        "customer_read.onnx": graphs.customer_read(spec, customer),
        "golden.json": golden(spec, run.vocabulary, run.encoder, run.customer),
    }
    with TemporaryDirectory() as scratch:
        bundle.write(Path(scratch), spec, files)
        wrong = check.check(Path(scratch))
        if not wrong:
            out.mkdir(parents=True, exist_ok=True)
            for file in Path(scratch).iterdir():
                shutil.copyfile(file, out / file.name)
    return wrong


def weights(module: nn.Module) -> graphs.Weights:
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}
