"""The heads for the downstream tasks, trained alike on any model's frozen vectors.

owner         takeover   is the session a stranger's? From the embedding before it, the session and its context; while
                         the session is open too
label         call       a binary outcome after the session (`label`, unless the configuration names it)
next_session  intent     what the next session is about
"""

from typing import Any

import torch

from ..device import CPU
from ..material import Material, Say
from ..parts import Head, Parts
from ..spec import SpecError
from . import fit, tasks
from .network import HeadNet, Shape, graph
from .world import world_of

Saved = dict[str, Any]

INPUTS = {
    "owner": ("prior", "session", "context"),
    "label": ("embedding", "session", "context"),
    "next_session": ("embedding", "session", "context"),
}


def train(parts: Parts, material: Material, seed: int, say: Say, device: torch.device = CPU) -> list[Saved]:
    """A head for each task that has labels enough and no head yet; owner's needs none. Its inputs are made on the CPU
    by the model's forward, which may be ONNX Runtime's; its weights are fitted on the device."""
    done = {head.task for head in parts.heads}
    wanted = [task for task in INPUTS if task not in done and (task == "owner" or any_of(material, task))]
    if not wanted:
        return []
    spec, vocabulary = parts.spec, parts.vocabulary
    learn = world_of(spec, vocabulary, parts.forward, material.customers, seed)
    later = world_of(spec, vocabulary, parts.forward, material.later, seed) if material.valid else learn
    worlds = tasks.Worlds(learn, later, material.labels, material.valid)
    made = []
    for task in wanted:
        inputs = tuple(n for n in INPUTS[task] if n != "context" or spec.context)
        rows = tasks.takeover(worlds, inputs, seed) if task == "owner" else tasks.outcome(worlds, task, inputs, seed)
        name = name_of(task, material)
        if isinstance(rows, str):
            say(f"no head {name}: {rows}")
            continue
        made.append(trained(name, task, rows, parts, seed, say, device))
    return made


def any_of(material: Material, task: str) -> bool:
    return any(label.task == task for label in material.labels)


def name_of(task: str, material: Material) -> str:
    names = {"owner": "takeover", "next_session": "intent", "label": str(material.spec.training.get("label", "label"))}
    return names[task]


def trained(
    name: str, task: str, rows: tasks.TaskRows, parts: Parts, seed: int, say: Say, device: torch.device
) -> Saved:
    widths = {n: x.shape[1] for n, x in rows.learn.inputs.items()}
    shape = Shape(
        inputs=tuple(widths.items()),
        outputs=len(rows.classes) or 1,
        pair=("prior", "session") if task == "owner" else None,
    )
    net, loss = fit.fit(shape, rows.learn, rows.choose, seed, device)
    factor, shift = fit.calibrate(net, rows.choose)
    net.rescale(1.0, rows.prior_shift)
    say(
        f"head {name}: {len(rows.learn)} rows, loss {loss:.4f} on {len(rows.choose)} to choose by, "
        f"logits x {factor:.2f} {shift + rows.prior_shift:+.2f}"
    )
    return {
        "name": name,
        "task": task,
        "classes": list(rows.classes),
        "inputs": [list(pair) for pair in shape.inputs],
        "outputs": shape.outputs,
        "pair": list(shape.pair) if shape.pair else [],
        "weights": net.state_dict(),
    }


def built(saved: list[Saved], opset: int) -> list[Head]:
    made = []
    for head in saved:
        shape = Shape(
            inputs=tuple((name, width) for name, width in head["inputs"]),
            outputs=head["outputs"],
            pair=(head["pair"][0], head["pair"][1]) if head["pair"] else None,
        )
        net = HeadNet(shape)
        try:
            net.load_state_dict(head["weights"])
        except RuntimeError as wrong:
            raise SpecError(f"head {head['name']}: {str(wrong).splitlines()[-1].strip()}") from None
        net.eval()
        made.append(
            Head(
                name=head["name"],
                inputs=tuple(name for name, _ in shape.inputs),
                onnx=graph(head["name"], opset, net),
                run=torch.no_grad()(net.scores),
                task=head["task"],
                classes=tuple(head["classes"]),
            )
        )
    return made
