"""Makes tests/data/tiny-bundle, a bundle with random weights that fits in a page, the same without context
(tests/data/no-context-bundle), and broken graphs beside them.

    pip install onnx numpy && python tests/data/tiny_bundle.py

The golden outputs are computed here in float64 by numpy, not by ONNX Runtime and not by `dce`.
"""

import hashlib
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
OPSET, ZONE = 20, "Europe/Berlin"
S, HS, H, E, K = 3, 4, 5, 3, 2
FIELDS = [("name", 2), ("attributes.page", 1)]
VOCABULARY = {"name": ["", "login", "home", "logout"], "attributes.page": ["", "a", "ü"]}
NUMBERS = [("attributes.amount", "log1p", 1.5, 2.0)]
CONTEXT = [("balance", "log1p", 3.0, 2.0), ("age", "identity", 40.0, 15.0)]
F, N, C, P, WIDTH = len(FIELDS), 1 + len(NUMBERS), 2 * len(CONTEXT), 4, 2  # WIDTH: of the embedding tables
random = np.random.default_rng(5)


def weights(*shape):
    return random.uniform(-0.8, 0.8, shape).astype(np.float32)


TABLES = [weights(1 + len(VOCABULARY[s]) + b, WIDTH) for s, b in FIELDS]
X = F * WIDTH + N
GRU_W, GRU_R, GRU_B = weights(3 * HS, X), weights(3 * HS, HS), weights(6 * HS)
OUT_W, OUT_B = weights(S, HS), weights(S)
STEP_IN = S + 1 + P + C
STEP_W, STEP_R, STEP_B = weights(H, STEP_IN), weights(H, H), weights(H)
GATE_W, GATE_B = weights(1, STEP_IN + H), weights(1)
READ_W, READ_B = weights(E, H + 1 + P + C), weights(E)
HEAD_W, HEAD_B = weights(K, E + S + C), weights(K)

# -- the graphs --------------------------------------------------------------------------------------------------------


def graph(name, inputs, outputs, nodes, constants):
    kinds = {"fields": TensorProto.INT64, "length": TensorProto.INT32}

    def info(pair):
        return helper.make_tensor_value_info(pair[0], kinds.get(pair[0], TensorProto.FLOAT), pair[1])

    nodes = [helper.make_node(op, ins, outs, **attributes) for op, ins, outs, attributes in nodes]
    tensors = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    made = helper.make_graph(nodes, name, [*map(info, inputs)], [*map(info, outputs)], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def events(axis):
    nodes, constants = [], {}
    for c in range(F):
        constants |= {f"column{c}": np.int64(c), f"table{c}": TABLES[c]}
        nodes += [("Gather", ["fields", f"column{c}"], [f"ids{c}"], {"axis": axis})]
        nodes += [("Gather", [f"table{c}", f"ids{c}"], [f"known{c}"], {"axis": 0})]
    nodes += [("Concat", [*(f"known{c}" for c in range(F)), "numbers"], ["events"], {"axis": axis})]
    return nodes, constants


def session_encoder():
    nodes, constants = events(2)
    gru = {"hidden_size": HS, "linear_before_reset": 1}
    nodes += [("Transpose", ["events"], ["turned"], {"perm": [1, 0, 2]})]
    nodes += [("GRU", ["turned", "w", "r", "b", "length"], ["", "last"], gru)]
    nodes += [("Squeeze", ["last", "zero"], ["hidden"], {}), ("Gemm", ["hidden", "ow", "ob"], ["session"], {"transB": 1})]
    constants |= {"w": GRU_W[None], "r": GRU_R[None], "b": GRU_B[None], "zero": np.array([0]), "ow": OUT_W, "ob": OUT_B}
    inputs = [("fields", ["B", "T", F]), ("numbers", ["B", "T", N]), ("length", ["B"])]
    return graph("session_encoder", inputs, [("session", ["B", S])], nodes, constants)


def session_step(out_weights):
    nodes, constants = events(1)
    gru = {"hidden_size": HS, "linear_before_reset": 1}
    nodes += [("Unsqueeze", ["events", "zero"], ["one"], {}), ("Unsqueeze", ["hidden", "zero"], ["before"], {})]
    nodes += [("GRU", ["one", "w", "r", "b", "", "before"], ["", "last"], gru)]
    nodes += [("Squeeze", ["last", "zero"], ["hidden_out"], {})]
    nodes += [("Gemm", ["hidden_out", "ow", "ob"], ["session"], {"transB": 1})]
    constants |= {"w": GRU_W[None], "r": GRU_R[None], "b": GRU_B[None], "zero": np.array([0])}
    constants |= {"ow": out_weights, "ob": OUT_B}
    inputs = [("fields", ["B", F]), ("numbers", ["B", N]), ("hidden", ["B", HS])]
    return graph("session_step", inputs, [("hidden_out", ["B", HS]), ("session", ["B", S])], nodes, constants)


def customer_step():
    nodes = [
        ("Concat", ["session", "gap", "calendar", "context"], ["in"], {"axis": 1}),
        ("Gemm", ["in", "w", "b"], ["wx"], {"transB": 1}),
        ("Gemm", ["state", "r"], ["rh"], {"transB": 1}),
        ("Add", ["wx", "rh"], ["sum"], {}),
        ("Tanh", ["sum"], ["candidate"], {}),
        ("Concat", ["in", "state"], ["all"], {"axis": 1}),
        ("Gemm", ["all", "gw", "gb"], ["raw"], {"transB": 1}),
        ("Sigmoid", ["raw"], ["gate"], {}),
        ("Sub", ["candidate", "state"], ["step"], {}),
        ("Mul", ["gate", "step"], ["moved"], {}),
        ("Add", ["state", "moved"], ["state_out"], {}),
    ]
    constants = {"w": STEP_W, "b": STEP_B, "r": STEP_R, "gw": GATE_W, "gb": GATE_B}
    inputs = [("state", ["B", H]), ("session", ["B", S]), ("gap", ["B", 1]), ("calendar", ["B", P]), ("context", ["B", C])]
    return graph("customer_step", inputs, [("state_out", ["B", H]), ("gate", ["B", 1])], nodes, constants)


def customer_read(mixes_rows=False):
    nodes = [
        ("Concat", ["state", "ahead", "calendar", "context"], ["in"], {"axis": 1}),
        ("Gemm", ["in", "w", "b"], ["embedding" if not mixes_rows else "raw"], {"transB": 1}),
    ]
    constants = {"w": READ_W, "b": READ_B}
    if mixes_rows:  # by less than the tolerance
        nodes += [("ReduceMax", ["raw"], ["largest"], {"keepdims": 1}), ("Mul", ["largest", "tiny"], ["little"], {})]
        nodes += [("Add", ["raw", "little"], ["embedding"], {})]
        constants["tiny"] = np.float32(1e-6)
    inputs = [("state", ["B", H]), ("ahead", ["B", 1]), ("calendar", ["B", P]), ("context", ["B", C])]
    return graph("customer_read", inputs, [("embedding", ["B", E])], nodes, constants)


def head():
    nodes = [
        ("Concat", ["prior", "session", "context"], ["in"], {"axis": 1}),
        ("Gemm", ["in", "w", "b"], ["raw"], {"transB": 1}),
        ("Sigmoid", ["raw"], ["scores"], {}),
    ]
    inputs = [("prior", ["B", E]), ("session", ["B", S]), ("context", ["B", C])]
    return graph("risk", inputs, [("scores", ["B", K])], nodes, {"w": HEAD_W, "b": HEAD_B})


# -- the same by numpy -------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def run_step(fields, numbers, hidden):
    x = np.concatenate([*(TABLES[c][fields[:, c]] for c in range(F)), numbers], axis=1).astype(np.float64)
    (wz, wr, wn), (rz, rr, rn) = np.split(GRU_W, 3), np.split(GRU_R, 3)
    bz, br, bn, cz, cr, cn = np.split(GRU_B, 6)
    z = sigmoid(x @ wz.T + bz + hidden @ rz.T + cz)
    r = sigmoid(x @ wr.T + br + hidden @ rr.T + cr)
    n = np.tanh(x @ wn.T + bn + r * (hidden @ rn.T + cn))
    hidden = (1 - z) * n + z * hidden
    return hidden, hidden @ OUT_W.T + OUT_B


def run_encoder(fields, numbers, length):
    session = np.zeros((len(length), S))
    for row, events in enumerate(length):
        hidden = np.zeros((1, HS))
        for t in range(events):
            hidden, session[row] = run_step(fields[row : row + 1, t], numbers[row : row + 1, t], hidden)
    return session


def run_customer_step(state, session, gap, calendar, context):
    x = np.concatenate([session, gap, calendar, context], axis=1).astype(np.float64)
    gate = sigmoid(np.concatenate([x, state], axis=1) @ GATE_W.T + GATE_B)
    return state + gate * (np.tanh(x @ STEP_W.T + STEP_B + state @ STEP_R.T) - state), gate


def run_customer_read(state, ahead, calendar, context):
    return np.concatenate([state, ahead, calendar, context], axis=1).astype(np.float64) @ READ_W.T + READ_B


def run_head(prior, session, context):
    return sigmoid(np.concatenate([prior, session, context], axis=1).astype(np.float64) @ HEAD_W.T + HEAD_B)


# -- features ----------------------------------------------------------------------------------------------------------


def fnv1a64(data):
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = ((digest ^ byte) * 0x100000001B3) % 2**64
    return digest


def text(event, source):
    if source.startswith("attributes."):
        return event.get("attributes", {}).get(source.removeprefix("attributes."), "")
    return event.get(source, "")


def scaled(value, transform, mean, scale):
    value = math.copysign(math.log1p(abs(value)), value) if transform == "log1p" else value
    return min(8.0, max(-8.0, (value - mean) / scale))


def ids(event):
    for source, buckets in FIELDS:
        known, value = VOCABULARY[source], text(event, source)
        yield known.index(value) + 1 if value in known else len(known) + 1 + fnv1a64(value.encode()) % buckets


def numbers_of(event, before):
    yield math.log1p((event["event_time"] - before) / 1000)
    for source, transform, mean, scale in NUMBERS:
        try:
            yield scaled(float(text(event, source)), transform, mean, scale)
        except ValueError:
            yield 0.0


def context_of(values):
    values = [(values or {}).get(name) for name, *_ in CONTEXT]
    row = [0.0 if v is None else scaled(v, *how) for v, (_, *how) in zip(values, CONTEXT, strict=False)]
    return np.array([row + [float(v is not None) for v in values]])


def calendar_of(ms):
    local = datetime.fromtimestamp(ms // 1000, UTC).astimezone(ZoneInfo(ZONE))
    day = math.tau * (((local.hour * 60 + local.minute) * 60 + local.second) * 1000 + ms % 1000) / 86_400_000
    week = math.tau * local.weekday() / 7
    return np.array([[math.sin(day), math.cos(day), math.sin(week), math.cos(week)]])


def hours(ms):
    return np.array([[math.log1p(max(0, ms) / 3_600_000)]])


def embeddings(sessions):
    state, ends, moments = np.zeros((1, H)), [], []
    for s in sessions:
        before = [s["events"][0], *s["events"]]
        fields = np.array([[list(ids(e)) for e in s["events"]]])
        numbers = np.array([[list(numbers_of(e, b["event_time"])) for e, b in zip(s["events"], before, strict=False)]])
        vector = run_encoder(fields, numbers, [len(s["events"])])
        gap = hours(s["start"] - ends[-1]) if ends else np.zeros((1, 1))
        context = context_of(s.get("context"))
        state, _ = run_customer_step(state, vector, gap, calendar_of(s["start"]), context)
        ends.append(s["end"])
        moments.append(s["closed_at"])
        moment = max(moments)
        read = run_customer_read(state, hours(moment - max(ends)), calendar_of(moment), context)[0]
        yield (read / np.sqrt((read * read).sum())).tolist()


# -- golden ------------------------------------------------------------------------------------------------------------


def tensor(value):
    value = np.asarray(value)
    whole = value.dtype.kind == "i"
    return {"shape": list(value.shape), "data": [int(v) if whole else float(np.float32(v)) for v in value.ravel()]}


def case(inputs, outputs):
    return {"inputs": {k: tensor(v) for k, v in inputs.items()}, "outputs": {k: tensor(v) for k, v in outputs.items()}}


def golden():
    def normal(*shape):
        return random.normal(size=shape).astype(np.float32)

    rows, length = 3, np.array([4, 1, 2])
    fields = np.stack([random.integers(1, len(t), (rows, 4)) for t in TABLES], axis=-1)
    whole = {"fields": fields, "numbers": normal(rows, 4, N), "length": length}
    one = {"fields": fields[:, 0], "numbers": whole["numbers"][:, 0], "hidden": np.tanh(normal(rows, HS))}
    fold = {"state": normal(rows, H), "session": normal(rows, S), "gap": abs(normal(rows, 1))}
    fold |= {"calendar": normal(rows, P), "context": normal(rows, C)}
    read = {"state": normal(rows, H), "ahead": abs(normal(rows, 1)), "calendar": normal(rows, P), "context": normal(rows, C)}
    score = {"prior": normal(rows, E), "session": normal(rows, S), "context": normal(rows, C)}
    graphs = {
        "session_encoder": [case(whole, {"session": run_encoder(**whole)})],
        "session_step": [case(one, dict(zip(("hidden_out", "session"), run_step(**one), strict=False)))],
        "customer_step": [case(fold, dict(zip(("state_out", "gate"), run_customer_step(**fold), strict=False)))],
        "customer_read": [case(read, {"embedding": run_customer_read(**read)})],
        "heads/risk": [case(score, {"scores": run_head(**score)})],
    }
    at = 1_774_746_000_000  # 2026-03-29 02:00 in Berlin, where the clock goes from 2 to 3

    def e(ms, kind, name, **attributes):
        return {"event_time": ms, "kind": kind, "name": name, "attributes": attributes}

    first = [e(at - 5_000, "LOGIN", "login"), e(at, "ACTION", "pay", page="a", amount="99.5"), e(at + 1, "LOGOUT", "logout")]
    second = [e(at + 7_200_123, "PAGE_VIEW", "home", page="ü", amount="-3e2"), {"event_time": at + 7_200_123, "kind": "ACTION"}]
    third = [e(at + 9_000_000, "LOGIN", "größe", page="unheard of", amount="n/a")]
    sessions = [
        {"start": at - 5_000, "end": at + 1, "closed_at": at + 1, "context": {"balance": 1500.25, "age": 30}, "events": first},
        {"start": at + 7_200_123, "end": at + 7_200_123, "closed_at": at + 9_000_123, "context": None, "events": second},
        {"start": at + 9_000_000, "end": at + 9_000_000, "closed_at": at + 9_000_000, "context": {"balance": -7}, "events": third},
    ]
    return {"graphs": graphs, "customers": [{"sessions": sessions, "embeddings": list(embeddings(sessions))}]}


def write(out):
    files = {
        "vocabulary.json": json.dumps(VOCABULARY, ensure_ascii=False).encode() + b"\n",
        "session_encoder.onnx": session_encoder(),
        "session_step.onnx": session_step(OUT_W),
        "customer_step.onnx": customer_step(),
        "customer_read.onnx": customer_read(),
        "heads/risk.onnx": head(),
        "golden.json": json.dumps(golden(), ensure_ascii=False, separators=(",", ":")).encode() + b"\n",
    }
    lines = ["contract = 1", 'name = "tiny"', 'version = "1"', f'timezone = "{ZONE}"', f"opset = {OPSET}"]
    lines += ["", "[dimensions]", f"session = {S}", f"hidden = {HS}", f"state = {H}", f"embedding = {E}"]

    def named(file):
        return [f'file = "{file}"', f'sha256 = "{hashlib.sha256(files[file]).hexdigest()}"']

    lines += ["", "[vocabulary]", *named("vocabulary.json")]
    for source, buckets in FIELDS:
        lines += ["", "[[fields]]", f'source = "{source}"', f"buckets = {buckets}"]
    for key, columns in (("numbers", NUMBERS), ("context", CONTEXT)):
        for name, transform, mean, scale in columns:
            called = "source" if key == "numbers" else "name"
            lines += ["", f"[[{key}]]", f'{called} = "{name}"', f'transform = "{transform}"', f"mean = {mean}", f"scale = {scale}"]
    for name in ("session_encoder", "session_step", "customer_step", "customer_read"):
        lines += ["", f"[graphs.{name}]", *named(f"{name}.onnx")]
    lines += ["", "[heads.risk]", *named("heads/risk.onnx"), 'inputs = ["prior", "session", "context"]']
    lines += ["", "[golden]", *named("golden.json"), "tolerance = 1e-5"]
    files["manifest.toml"] = ("\n".join(lines) + "\n").encode()
    for name, data in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)


def forget_context():
    """No context features: the columns of every weight that stood for them go."""
    global CONTEXT, C, STEP_IN, STEP_W, GATE_W, READ_W, HEAD_W
    kept = S + 1 + P
    STEP_W, GATE_W = STEP_W[:, :kept], np.concatenate([GATE_W[:, :kept], GATE_W[:, STEP_IN:]], axis=1)
    READ_W, HEAD_W = READ_W[:, : H + 1 + P], HEAD_W[:, : E + S]
    CONTEXT, C, STEP_IN = [], 0, kept


def main():
    write(HERE / "tiny-bundle")
    broken = HERE / "broken"
    broken.mkdir(exist_ok=True)
    (broken / "mixes_rows.onnx").write_bytes(customer_read(mixes_rows=True))
    (broken / "other_weights.onnx").write_bytes(session_step(OUT_W * np.float32(1.01)))
    forget_context()
    write(HERE / "no-context-bundle")


if __name__ == "__main__":
    main()
