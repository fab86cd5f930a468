"""What no bundle may leave with. Needs the bundle, ONNX and ONNX Runtime alone; `dce check` asks the same."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from . import bundle
from .bundle import Bundle
from .features import Features, log_hours
from .folder import TASKS
from .spec import Spec, SpecError

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Run = Callable[[Arrays], dict[str, Array]]

# The first four change a row's last bit with its place in the batch (on CPU); control flow shuts out CUDA graphs.
# What else depends on the other rows is caught by the bits, not by name.
FORBIDDEN = frozenset({"Log", "Sin", "Cos", "Softplus", "If", "Loop", "Scan", "RandomNormal", "RandomUniform"})
BATCHES = (2, 3, 8, 31, 64, 257, 1024)
EVENTS = 48
HEAD_INPUTS = ("state", "prior", "session", "embedding", "calendar", "context")
HEAD_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADS_MAX = 16
DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}


def check(folder: Path) -> list[str]:
    """The reasons to refuse the bundle; none if it is good."""
    try:
        b = bundle.read(folder)
        wrong = [*wrong_heads(b), *wrong_files(b)]
        if wrong:
            return wrong
        sessions = {}
        for name, path in b.graphs.items():
            wrong += [f"{name}: {why}" for why in wrong_graph(name, onnx.load(path), b.spec)]
            sessions[name] = session(path)
            wrong += [f"{name}: {why}" for why in wrong_interface(name, sessions[name], b)]
        if wrong:
            return wrong
        runs = {name: runner(s) for name, s in sessions.items()}
        for name in b.graphs:
            wrong += [f"{name}: {why}" for why in wrong_bits(name, runs[name], b)]
        return [*wrong, *wrong_weights(runs, b), *wrong_golden(runs, b), *wrong_customers(runs, b)]
    except (SpecError, OSError, ValueError, KeyError) as error:
        return [f"{type(error).__name__}: {error}"]
    except Exception as error:  # ONNX Runtime's and protobuf's own have no common base
        if type(error).__module__.split(".")[0] in ("onnxruntime", "google", "onnx"):
            return [f"{type(error).__name__}: {error}"]
        raise


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def runner(s: ort.InferenceSession) -> Run:
    names = [o.name for o in s.get_outputs()]
    return lambda inputs: dict(zip(names, s.run(names, dict(inputs)), strict=True))


# -- files and graphs as written ---------------------------------------------------------------------------------------


def wrong_files(b: Bundle) -> Iterator[str]:
    for file, sha256 in b.files.items():
        path = b.folder / file
        if not path.is_file():
            yield f"{file} is missing"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            yield f"{file} is not the file of the manifest: its sha256 differs"


def wrong_heads(b: Bundle) -> Iterator[str]:
    """The manifest's words on its heads."""
    heads = b.raw.get("heads", {})
    if len(heads) > HEADS_MAX:
        yield f"[heads] has {len(heads)} entries, must be {HEADS_MAX} at most"
    for name, head in heads.items():
        inputs, classes = head.get("inputs"), head.get("classes")
        if not HEAD_NAME.fullmatch(name):
            yield f"heads.{name}: the name must be 1 to 64 letters, digits, dots, dashes or underscores"
        if not inputs or len(set(inputs)) != len(inputs) or not set(inputs) <= set(HEAD_INPUTS):
            yield f"heads.{name}.inputs is {inputs}, must be different ones of {', '.join(HEAD_INPUTS)}"
        if classes and len(set(classes)) != len(classes):
            yield f"heads.{name}.classes must be different names"
        if head.get("task", TASKS[0]) not in TASKS:
            yield f"heads.{name}.task is {head['task']!r}, must be one of {', '.join(TASKS)}"


def wrong_graph(name: str, model: onnx.ModelProto, spec: Spec) -> Iterator[str]:
    opsets = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    if opsets != {"ai.onnx": spec.opset}:
        yield f"opsets are {opsets}, the manifest says {spec.opset} and no other domain is allowed"
    for node in model.graph.node:
        if node.op_type in FORBIDDEN:
            yield f"operator {node.op_type} is not allowed"
        if node.op_type in ("GRU", "LSTM", "RNN"):
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if attributes.get("layout", 0) != 0:
                yield f"{node.op_type} has layout {attributes['layout']}, must be 0"
            if node.op_type == "GRU" and attributes.get("linear_before_reset", 0) != 1:
                yield "GRU must have linear_before_reset = 1"


def interface(name: str, b: Bundle) -> tuple[dict[str, tuple[type, list[int | None]]], dict[str, list[int | None]]]:
    """Inputs and outputs by the contract; None is a free axis."""
    d, fields, numbers, context = b.spec.dimensions, len(b.spec.fields), b.spec.number_columns, b.spec.context_columns
    f32: dict[str, tuple[type, list[int | None]]] = {
        "state": (np.float32, [None, d.state]),
        "session": (np.float32, [None, d.session]),
        "gap": (np.float32, [None, 1]),
        "ahead": (np.float32, [None, 1]),
        "calendar": (np.float32, [None, 4]),
        "context": (np.float32, [None, context]),
        "prior": (np.float32, [None, d.embedding]),
        "embedding": (np.float32, [None, d.embedding]),
        "hidden": (np.float32, [None, d.hidden]),
    }
    if name == "session_encoder":
        return {
            "fields": (np.int64, [None, None, fields]),
            "numbers": (np.float32, [None, None, numbers]),
            "length": (np.int32, [None]),
        }, {"session": [None, d.session]}
    if name == "session_step":
        return {
            "fields": (np.int64, [None, fields]),
            "numbers": (np.float32, [None, numbers]),
            "hidden": f32["hidden"],
        }, {"hidden_out": [None, d.hidden], "session": [None, d.session]}
    if name == "customer_step":
        inputs = ("state", "session", "gap", "calendar", "context")
        return {n: f32[n] for n in inputs}, {"state_out": [None, d.state], "gate": [None, 1]}
    if name == "customer_read":
        return {n: f32[n] for n in ("state", "ahead", "calendar", "context")}, {"embedding": [None, d.embedding]}
    listed = b.raw["heads"][name.removeprefix("heads/")]["inputs"]
    if unknown := [n for n in listed if n not in HEAD_INPUTS]:
        raise SpecError(f"{name} lists the inputs {', '.join(unknown)}; a head has {', '.join(HEAD_INPUTS)}")
    return {n: f32[n] for n in listed}, {"scores": [None, None]}


def wrong_interface(name: str, s: ort.InferenceSession, b: Bundle) -> Iterator[str]:
    inputs, outputs = interface(name, b)
    found = {i.name: (DTYPES.get(i.type), [x if isinstance(x, int) else None for x in i.shape]) for i in s.get_inputs()}
    if found != inputs:
        yield f"inputs are {found}, must be {inputs}"
    shapes = {o.name: [x if isinstance(x, int) else None for x in o.shape] for o in s.get_outputs()}
    if name.startswith("heads/"):
        shapes = {n: [None] * len(shape) for n, shape in shapes.items()}
    if shapes != outputs or any(o.type != "tensor(float)" for o in s.get_outputs()):
        yield f"outputs are {shapes}, must be float {outputs}"


# -- behaviour ---------------------------------------------------------------------------------------------------------


def random_inputs(name: str, b: Bundle, features: Features, random: np.random.Generator, rows: int, t: int) -> Arrays:
    """Rows such as they occur; beyond a session's length, garbage."""
    made: dict[str, Array] = {}
    for n, (dtype, shape) in interface(name, b)[0].items():
        free = iter((rows, t))
        size = [x if x is not None else next(free) for x in shape]
        if n == "fields":
            columns = [random.integers(0, features.table_rows(c), size[:-1]) for c in range(size[-1])]
            made[n] = np.stack(columns, axis=-1).astype(np.int64)
        elif n == "length":
            made[n] = random.integers(1, t + 1, rows).astype(np.int32)
        else:
            made[n] = random.normal(0, 2, size).astype(dtype)
    return made


def wrong_bits(name: str, run: Run, b: Bundle) -> Iterator[str]:
    """Every row must keep every bit between B = 1 and any batch, padded or not."""
    features = Features(b.spec, b.json("vocabulary"))
    random = np.random.default_rng(7)
    rows = random_inputs(name, b, features, random, max(BATCHES), EVENTS)
    alone = [run(only(rows, i)) for i in range(max(BATCHES))]
    for output in alone[0]:
        values = np.concatenate([a[output] for a in alone])
        if output == "scores":
            yield from wrong_scores(name, values, b)
        if not np.isfinite(values).all():
            yield f"{output} is not finite for ordinary inputs"
        if output == "gate" and not ((values >= 0) & (values <= 1)).all():
            yield "gate leaves [0, 1]"
    for size in BATCHES:
        picked = random.permutation(max(BATCHES))[:size]
        together = run({n: v[picked] for n, v in rows.items()})
        for output, value in together.items():
            expected = np.concatenate([alone[i][output] for i in picked])
            differs = (value.view(np.int32) != expected.view(np.int32)).any(axis=1)
            if differs.any():
                yield f"{output} changes in a batch of {size}: {differs.sum()} rows differ from B = 1"
                return


def wrong_scores(name: str, scores: Array, b: Bundle) -> Iterator[str]:
    """Of a head that names its task or classes: as many as they are, and probabilities."""
    head = b.raw["heads"][name.removeprefix("heads/")]
    if "task" not in head and "classes" not in head:
        return
    classes = len(head.get("classes", [])) or 1
    if scores.shape[1] != classes:
        yield f"gives {scores.shape[1]} scores, the manifest names {classes}"
    if not ((scores >= 0) & (scores <= 1)).all():
        yield "scores leave [0, 1], must be probabilities"


def only(rows: Arrays, i: int) -> Arrays:
    """Row i alone, without its padding."""
    cut = {n: v[i : i + 1] for n, v in rows.items()}
    if "length" in cut:
        length = int(cut["length"][0])
        return {n: v[:, :length] if v.ndim == 3 else v for n, v in cut.items()}
    return cut


def wrong_weights(runs: Mapping[str, Run], b: Bundle) -> Iterator[str]:
    """The step graph must be the encoder, event by event."""
    features = Features(b.spec, b.json("vocabulary"))
    rows = dict(random_inputs("session_encoder", b, features, np.random.default_rng(8), 64, EVENTS))
    rows["length"] = np.full(64, EVENTS, np.int32)
    hidden = np.zeros((64, b.spec.dimensions.hidden), np.float32)
    stepped: dict[str, Array] = {}
    for t in range(EVENTS):
        stepped = runs["session_step"](
            {"fields": rows["fields"][:, t], "numbers": rows["numbers"][:, t], "hidden": hidden}
        )
        hidden = stepped["hidden_out"]
    away = distance(runs["session_encoder"](rows)["session"], stepped["session"])
    if not away <= tolerance(b):
        yield f"session_step ends {away:.1e} away from session_encoder: not the same weights"


def wrong_golden(runs: Mapping[str, Run], b: Bundle) -> Iterator[str]:
    cases = b.json("golden")["graphs"]
    for name in b.graphs:
        if not cases.get(name):
            yield f"{name}: golden.json has nothing to compare with"
        inputs, _ = interface(name, b)
        for i, case in enumerate(cases.get(name) or []):
            given = {n: array(v, inputs[n][0]) for n, v in case["inputs"].items()}
            found = runs[name](given)
            for output, expected in case["outputs"].items():
                away = distance(found[output], array(expected, np.float32))
                if not away <= tolerance(b):
                    yield f"{name}: golden case {i}: {output} is {away:.1e} away, tolerance {tolerance(b):g}"


def wrong_customers(runs: Mapping[str, Run], b: Bundle) -> Iterator[str]:
    features = Features(b.spec, b.json("vocabulary"))
    for i, customer in enumerate(b.json("golden")["customers"]):
        found = embeddings(runs, b, features, customer["sessions"])
        away = distance(found, np.array(customer["embeddings"], np.float64))
        if not away <= tolerance(b):
            yield f"golden customer {i}: embeddings are {away:.1e} away, tolerance {tolerance(b):g}"


def embeddings(runs: Mapping[str, Run], b: Bundle, features: Features, sessions: list[dict[str, Any]]) -> Array:
    """Folds a customer's sessions through the graphs, as `dce` does: the embedding after each, of unit length."""
    state = np.zeros((1, b.spec.dimensions.state), np.float32)
    made: list[Array] = []
    latest_end = moment = previous_end = None
    for s in sessions:
        fields, numbers = features.session(s["events"])
        whole: dict[str, Array] = {"fields": fields[None], "numbers": numbers[None]}
        whole["length"] = np.array([len(fields)], np.int32)
        vector = runs["session_encoder"](whole)["session"]
        gap = 0.0 if previous_end is None else log_hours(s["start"] - previous_end)
        context = features.context(s.get("context"))[None]
        step: dict[str, Array] = {"state": state, "session": vector, "gap": np.array([[gap]], np.float32)}
        step |= {"calendar": features.calendar(s["start"])[None], "context": context}
        state = runs["customer_step"](step)["state_out"]
        previous_end = s["end"]
        latest_end = s["end"] if latest_end is None else max(latest_end, s["end"])
        moment = s["closed_at"] if moment is None else max(moment, s["closed_at"])
        ahead = np.array([[log_hours(moment - latest_end)]], np.float32)
        read = {"state": state, "ahead": ahead, "calendar": features.calendar(moment)[None], "context": context}
        raw = runs["customer_read"](read)["embedding"][0].astype(np.float64)
        made.append(raw / np.sqrt((raw * raw).sum()))
    return np.array(made)


def array(value: dict[str, Any], dtype: type) -> Array:
    return np.array(value["data"], dtype).reshape(value["shape"])


def distance(a: Array, b: Array) -> float:
    return float(np.abs(a.astype(np.float64) - b).max()) if a.shape == b.shape else float("inf")


def tolerance(b: Bundle) -> float:
    return float(b.raw["golden"]["tolerance"])
