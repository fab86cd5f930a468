"""Compatibility of embedding spaces: a new bundle's space is turned onto an old one's, so that what was learnt on old
embeddings, and the monitor of the cosine between a customer's old and new one, survive a retrain.

Orthogonal Procrustes (Schönemann 1966): the orthogonal R that minimises Σ |new R - old|² is U Vᵀ of the
singular value decomposition newᵀ old = U Σ Vᵀ. Lengths and angles among the new embeddings stay what they were."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from . import dce
from .bundle import Bundle
from .dataset import held_out
from .export import keep
from .folder import Folder, cut_clicks
from .spec import SpecError

Matrix = NDArray[np.float64]
Say = Callable[[str], None]

HELD_OUT = 0.2  # of the customers: the quality is that on these
ROWS_MAX = 200_000  # to fit the rotation to
ROWS_MIN = 50
PROBED_MAX = 50_000  # labels that a probe learns from


@dataclass
class Pair:
    """What both bundles say of the same records: customers, and unit vectors [n, E]."""

    customers: list[str]
    as_of: NDArray[np.int64]  # milliseconds
    old: Matrix
    new: Matrix

    @property
    def held(self) -> NDArray[np.bool_]:
        return np.array([held_out(name, HELD_OUT) for name in self.customers], bool)


def align(old: Bundle, new: Bundle, data: Folder, binary: Path, out: Path, version: str | None, say: Say) -> list[str]:
    """Writes the new bundle in the old one's space; what `check` says against it."""
    if old.spec.dimensions.embedding != new.spec.dimensions.embedding:
        sizes = old.spec.dimensions.embedding, new.spec.dimensions.embedding
        raise SpecError(f"the embedding has {sizes[0]} numbers in the old bundle and {sizes[1]} in the new one")
    pair = replayed(old, new, data, binary)
    fitting = np.flatnonzero(~pair.held)
    if len(fitting) < ROWS_MIN:
        raise SpecError(f"{data.path} has {len(fitting)} sessions to fit a rotation to, must be {ROWS_MIN} at least")
    fitting = np.random.default_rng(1).permutation(fitting)[:ROWS_MAX]
    rotation = procrustes(pair.old[fitting], pair.new[fitting])
    say(report(pair, rotation, data))
    return write(new, rotation, out, version)


def procrustes(old: Matrix, new: Matrix) -> Matrix:
    """[E, E] orthogonal R for which new R is nearest to old."""
    left, _, right = np.linalg.svd(new.T @ old)
    rotation: Matrix = left @ right
    return rotation


def replayed(old: Bundle, new: Bundle, data: Folder, binary: Path) -> Pair:
    """The last revision of each session that both bundles publish an embedding after."""
    with TemporaryDirectory() as scratch:
        clicks = data.clicks
        if clicks.suffix == ".csv":
            clicks = cut_clicks(data, Path(scratch) / "clicks.ndjson", None)
        told = []
        for i, b in enumerate((old, new)):
            path = Path(scratch) / f"{i}.ndjson"
            dce.run(binary, ["replay", "--from", clicks, "--to", path, "--model", b.folder, "--close-open", "--force",
                             "--set", "log.level=error"])  # fmt: skip
            told.append(records(path))
    both = [key for key in told[0] if key in told[1]]
    stacked = [np.array([t[key][1] for key in both], np.float64) for t in told]
    as_of = np.array([told[0][key][0] for key in both], np.int64)
    return Pair([customer for customer, _ in both], as_of, stacked[0], stacked[1])


def records(path: Path) -> dict[tuple[str, str], tuple[int, list[float]]]:
    """Customer and session to the moment and the embedding of its last settled record."""
    made = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            if row["kind"] != "PROVISIONAL":
                made[row["customer_id"], row["session_uid"]] = row["as_of"], row["embedding"]
    return made


# -- quality -----------------------------------------------------------------------------------------------------------


def report(pair: Pair, rotation: Matrix, data: Folder) -> str:
    held = pair.held
    if not held.any():
        return "no customers to judge by"
    turned = pair.new @ rotation
    lines = [f"{held.sum()} sessions of customers that the rotation was not fitted to    before   after"]
    before, after = ((pair.old[held] * x[held]).sum(1) for x in (pair.new, turned))
    lines.append(f"{'cosine of old and new: mean':<66}{before.mean():>7.3f} {after.mean():>7.3f}")
    lines.append(f"{'                        tenth percentile':<66}{quantile(before):>7.3f} {quantile(after):>7.3f}")
    for name, figures in probes(pair, turned, data).items():
        lines.append(f"{f'{name}: learnt on old, read from new':<66}{figures[1]:>7.3f} {figures[2]:>7.3f}")
        lines.append(f"{'    ... read from old':<66}{figures[0]:>7.3f} {figures[0]:>7.3f}")
    return "\n".join(lines)


def quantile(x: Matrix) -> float:
    return float(np.quantile(x, 0.1))


def probes(pair: Pair, turned: Matrix, data: Folder) -> dict[str, tuple[float, float, float]]:
    """What a linear model that learnt on old embeddings gets right of other customers: read from old ones, from new
    ones, from new ones turned."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    made = {}
    for task, name in (("label", "label, AUC"), ("next_session", "next_session, accuracy")):
        row, text = asked(pair, data, task)
        y = np.array(text)
        held = pair.held[row]
        if len(set(y[~held])) < 2 or len(set(y[held])) < 2:
            continue
        chosen = np.flatnonzero(~held)[:PROBED_MAX]
        probe = LogisticRegression(max_iter=300).fit(pair.old[row[chosen]], y[chosen])
        found = []
        for x in (pair.old, pair.new, turned):
            if task == "label":
                found.append(float(roc_auc_score(y[held] == "1", probe.decision_function(x[row[held]]))))
            else:
                found.append(float((probe.predict(x[row[held]]) == y[held]).mean()))
        made[name] = found[0], found[1], found[2]
    return made


def asked(pair: Pair, data: Folder, task: str) -> tuple[NDArray[np.int64], list[str]]:
    """Each label's last record before it."""
    of: dict[str, tuple[list[int], list[int]]] = {}
    for i in np.argsort(pair.as_of, kind="stable").tolist():
        moments, rows = of.setdefault(pair.customers[i], ([], []))
        moments.append(int(pair.as_of[i]))
        rows.append(i)
    row, text = [], []
    for label in data.of(task):
        moments, rows = of.get(label.customer_id, ([], []))
        at = int(np.searchsorted(moments, label.event_time)) - 1
        if at >= 0:
            row.append(rows[at])
            text.append(label.label)
    return np.array(row, np.int64), text


# -- the bundle --------------------------------------------------------------------------------------------------------


def write(new: Bundle, rotation: Matrix, out: Path, version: str | None) -> list[str]:
    """The rotation goes behind the embedding in customer_read; a head that takes an embedding gets it turned back."""
    from .frozen import parts_of

    r = rotation.astype(np.float32)
    parts = parts_of(new)
    parts.spec = replace(parts.spec, version=version or f"{new.spec.version}-aligned")
    parts.graphs["customer_read"] = turned_output(parts.graphs["customer_read"], r)
    for head in parts.heads:
        head.onnx = turned_inputs(head.onnx, r)
    files = {f"{name}.onnx": content for name, content in parts.graphs.items()}
    files |= {f"heads/{head.name}.onnx": head.onnx for head in parts.heads}
    files["vocabulary.json"] = (new.folder / new.raw["vocabulary"]["file"]).read_bytes()
    files["golden.json"] = turned_golden(new, rotation)
    return keep(parts, files, out)


def turned_output(content: bytes, rotation: NDArray[np.float32]) -> bytes:
    model = onnx.load_from_string(content)
    for node in model.graph.node:
        node.output[:] = ["own_embedding" if n == "embedding" else n for n in node.output]
        node.input[:] = ["own_embedding" if n == "embedding" else n for n in node.input]
    model.graph.node.append(helper.make_node("MatMul", ["own_embedding", "alignment"], ["embedding"]))
    model.graph.initializer.append(numpy_helper.from_array(rotation, "alignment"))
    return checked(model)


def turned_inputs(content: bytes, rotation: NDArray[np.float32]) -> bytes:
    model = onnx.load_from_string(content)
    taken = [i.name for i in model.graph.input if i.name in ("prior", "embedding")]
    if not taken:
        return content
    for node in model.graph.node:
        node.input[:] = [f"own_{n}" if n in taken else n for n in node.input]
    for i, name in enumerate(taken):
        model.graph.node.insert(i, helper.make_node("MatMul", [name, "back"], [f"own_{name}"]))
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(rotation.T), "back"))
    return checked(model)


def checked(model: onnx.ModelProto) -> bytes:
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def turned_golden(new: Bundle, rotation: Matrix) -> bytes:
    """The new bundle's golden outputs, turned: the training framework's still, but for the rounding of a product."""
    golden = new.json("golden")

    def turned(tensor: dict[str, Any]) -> None:
        found = np.array(tensor["data"], np.float32).astype(np.float64).reshape(tensor["shape"]) @ rotation
        tensor["data"] = [float(str(v)) for v in found.astype(np.float32).ravel()]

    for case in golden["graphs"]["customer_read"]:
        turned(case["outputs"]["embedding"])
    for name, cases in golden["graphs"].items():
        for case in cases if name.startswith("heads/") else []:
            for tensor in (x for n, x in case["inputs"].items() if n in ("prior", "embedding")):
                turned(tensor)
    for customer in golden["customers"]:
        found = np.array(customer["embeddings"], np.float64) @ rotation
        customer["embeddings"] = [[float(str(v)) for v in row] for row in found.astype(np.float32)]
    return (json.dumps(golden, separators=(",", ":"), ensure_ascii=False) + "\n").encode()
