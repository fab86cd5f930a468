"""The models of the zoo against plain arithmetic, and all of them on a data set with nothing to hold on to."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from dce_models import align, bundle, check, export, material, spec, train  # noqa: E402
from dce_models.clicks import Customer, Session  # noqa: E402
from dce_models.dataset import Dataset, Sequence  # noqa: E402
from dce_models.discover import Counts, spec_of  # noqa: E402
from dce_models.folder import Label  # noqa: E402
from dce_models.spec import Dimensions, Field, Spec  # noqa: E402
from dce_models.zoo import cosernn, decay  # noqa: E402
from dce_models.zoo.sessions import Encoded  # noqa: E402

SHIPPED = Path(__file__).resolve().parent.parent / "bank-small"
MODELS = ("dce", "decay", "cosernn")
S = 6

Array = NDArray[np.float32]


def small(state: int) -> Spec:
    sizes = Dimensions(session=S, hidden=8, state=state, embedding=S)
    return Spec("m", "1", "UTC", 17, sizes, (Field("name", 2),), (), (spec.Context("balance", "identity"),))


def graph(content: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(content, providers=["CPUExecutionProvider"])


def inputs(seed: int, rows: int = 2) -> dict[str, Array]:
    chance = np.random.default_rng(seed)
    sizes = {"session": S, "gap": 1, "calendar": 4, "context": 2}
    return {n: chance.normal(size=(rows, width)).astype(np.float32) for n, width in sizes.items()}


def reading(one: dict[str, Array]) -> dict[str, Array]:
    return {"ahead": one["gap"], "calendar": one["calendar"], "context": one["context"]}


# -- decay -------------------------------------------------------------------------------------------------------------


def test_decay_is_the_decayed_sum() -> None:
    step, read = graph(decay.customer_step(small(S + 1), 0.8)), graph(decay.customer_read(small(S + 1)))
    given = [inputs(seed) for seed in range(5)]
    state = np.zeros((2, S + 1), np.float32)
    for one in given:
        state, gate = step.run(["state_out", "gate"], {"state": state, **one})
        assert gate.tolist() == [[1.0], [1.0]]
    (embedding,) = read.run(["embedding"], {"state": state, **reading(given[0])})
    for row in range(2):
        total = [0.0] * S
        for k, one in enumerate(given):
            for i in range(S):
                total[i] += 0.8 ** (len(given) - 1 - k) * float(one["session"][row, i])
        length = math.sqrt(sum(x * x for x in total))
        np.testing.assert_allclose(embedding[row], [x / length for x in total], atol=1e-6)


def test_an_empty_decayed_sum_has_a_direction() -> None:
    read = graph(decay.customer_read(small(S + 1)))
    (found,) = read.run(["embedding"], {"state": np.zeros((2, S + 1), np.float32), **reading(inputs(1))})
    np.testing.assert_allclose(found, np.full((2, S), S**-0.5), atol=1e-6)


def test_the_decay_that_made_the_data_is_found() -> None:
    chance = np.random.default_rng(1)
    sequences: list[Sequence] = []
    vectors: list[NDArray[np.float64]] = []
    for n in range(60):
        own = [chance.normal(size=S) * 2]
        for _ in range(20):
            total = np.sum([0.5 ** (len(own) - 1 - k) * v for k, v in enumerate(own)], axis=0)
            own.append(2 * total / np.linalg.norm(total) + 0.5 * chance.normal(size=S))
        widths = ((1,), (4,), (2,), (3, 1), (3, 4), (3, 2))
        sequences.append(Sequence(f"c{n}", len(vectors), *(np.zeros((len(own), *w), np.float32) for w in widths)))
        vectors += own
    encoded = Encoded(
        spec=replace(small(S + 1), training={"sessions_max": 100}),
        vocabulary={},
        encoder=None,  # type: ignore[arg-type]
        learn=Dataset([], [], sequences),
        vectors=torch.tensor(np.array(vectors), dtype=torch.float32),
        made=None,
        judge=Dataset([], [], []),
        judge_vectors=torch.zeros(0),
    )
    assert abs(decay.fitted(encoded, seed=1) - 0.5) < 0.05


# -- cosernn -----------------------------------------------------------------------------------------------------------


def sigmoid(x: Any) -> Any:  # noqa: ANN401
    return 1 / (1 + np.exp(-x))


class Naive:
    """CoSeRNN as its equations stand, a session at a time and everything remembered."""

    def __init__(self, model: cosernn.CoseRnn) -> None:
        self.w = {n: v.numpy().astype(np.float64) for n, v in model.state_dict().items()}
        self.h = self.c = np.zeros(cosernn.UNITS)
        self.past: list[Any] = []

    def dense(self, name: str, x: Any) -> Any:  # noqa: ANN401
        return self.w[f"{name}.weight"] @ x + self.w[f"{name}.bias"]

    def lstm(self, context: list[Any]) -> tuple[Any, Any]:
        calendar, snapshot, gap = context
        last = self.past[-1] if self.past else np.zeros(S)
        f = np.concatenate([calendar, snapshot, last, gap])
        x = np.maximum(self.dense("second", np.maximum(self.dense("first", f), 0)), 0)
        i, f, o, g = np.split(self.dense("gates", np.concatenate([x, self.h])), 4)
        c = sigmoid(f) * self.c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    def session(self, context: list[Any], vector: Any) -> None:  # noqa: ANN401
        self.h, self.c = self.lstm(context)
        self.past.append(vector / np.linalg.norm(vector))

    def read(self, context: list[Any]) -> Any:  # noqa: ANN401
        o, _ = self.lstm(context)
        short = self.dense("out", np.maximum(self.dense("third", o), 0))
        long = np.sum([(t + 1) * s for t, s in enumerate(self.past)], axis=0)
        beta = sigmoid(self.dense("mix", o))
        u = beta * short / np.linalg.norm(short) + (1 - beta) * long / np.linalg.norm(long)
        return u / np.linalg.norm(u)


def test_cosernn_is_its_equations() -> None:
    torch.manual_seed(1)
    s = small(cosernn.state_size(S))
    model = cosernn.CoseRnn(s).eval()
    step, read = graph(cosernn.customer_step(s, model)), graph(cosernn.customer_read(s, model))
    naive = [Naive(model) for _ in range(2)]
    state = np.zeros((2, s.dimensions.state), np.float32)
    for seed in range(6):
        one = inputs(seed)
        state, _ = step.run(["state_out", "gate"], {"state": state, **one})
        (found,) = read.run(["embedding"], {"state": state, **reading(one)})
        for row, customer in enumerate(naive):
            context = [one[n][row].astype(np.float64) for n in ("calendar", "context", "gap")]
            customer.session(context, one["session"][row].astype(np.float64))
            np.testing.assert_allclose(found[row], customer.read(context), atol=2e-6)


# -- align -------------------------------------------------------------------------------------------------------------


def test_a_rotation_is_found_again() -> None:
    chance = np.random.default_rng(1)
    old = chance.normal(size=(300, 16))
    old /= np.linalg.norm(old, axis=1, keepdims=True)
    turn, _ = np.linalg.qr(chance.normal(size=(16, 16)))
    np.testing.assert_allclose(align.procrustes(old, old @ turn.T), turn, atol=1e-12)


def test_a_turned_bundle_gives_turned_embeddings_and_the_same_scores(tmp_path: Path) -> None:
    from dce_models import frozen
    from dce_models.heads.network import HeadNet, Shape
    from dce_models.heads.network import graph as head_graph
    from dce_models.parts import Head

    torch.manual_seed(1)
    net = HeadNet(Shape((("prior", 64), ("session", 48)), 1, pair=("prior", "session"))).eval()
    whole = frozen.parts_of(bundle.read(SHIPPED))
    whole.heads = [Head("takeover", ("prior", "session"), head_graph("takeover", 17, net), torch.no_grad()(net.scores))]
    assert export.export(whole, tmp_path / "new") == []
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(64, 64)))
    assert align.write(bundle.read(tmp_path / "new"), turn, tmp_path / "turned", None) == []
    assert bundle.read(tmp_path / "turned").spec.version == f"{whole.spec.version}-aligned"
    plain, turned = (frozen.parts_of(bundle.read(tmp_path / n)) for n in ("new", "turned"))
    given = [torch.randn(4, n) for n in (64, 1, 4, 10)]
    before, after = (p.forward.read(*given).numpy() for p in (plain, turned))
    np.testing.assert_allclose(after, before @ turn, atol=1e-6)
    session = torch.randn(4, 48)
    first = plain.heads[0].run({"prior": torch.from_numpy(before), "session": session})
    second = turned.heads[0].run({"prior": torch.from_numpy(after), "session": session})
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


# -- data sets with nothing to hold on to ------------------------------------------------------------------------------


def hostile() -> material.Material:
    """Five customers, sessions of one event, no labels that teach anything, names that TOML and JSON must escape."""
    counts = Counts()
    customers = []
    for n in range(5):
        own = []
        for k in range(1 + n % 3):
            time, name = 1_700_000_000_000 + 10**8 * k, ('q"\\', "", "\U0001f600")[k]
            own.append(Session(time, time, time, [{"event_time": time, "kind": "ACTION", "name": name}], None))
            counts.plain["name"][name] += 1
            counts.events += 1
        counts.customers.add(f"c{n}")
        customers.append(Customer(f"c{n}", own))
    config = spec_of(counts)
    config.training.update(session_epochs=1, customer_epochs=1)
    labels = [Label(task, "c2", "", 1_700_000_000_001, "1", "train") for task in ("label", "next_session", "owner")]
    return material.Material(config, customers, labels)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_trains_on_next_to_nothing(model: str, tmp_path: Path) -> None:
    train.save(train.train(model, hostile(), 1, lambda line: None), tmp_path / "run.pt")
    assert export.export(train.parts(train.load(tmp_path / "run.pt")), tmp_path / "bundle") == []
    assert check.check(tmp_path / "bundle") == []
    assert json.loads((tmp_path / "bundle" / "vocabulary.json").read_text())["name"][0] == ""


def test_a_data_set_is_trained_on_by_command(tmp_path: Path) -> None:
    """Through the pipeline's own sessionizer, where its binary is."""
    from dce_models import dce, folder

    binary = Path(os.environ.get("DCE", Path(__file__).parents[2] / "target" / "release" / "dce"))
    if not binary.is_file():
        pytest.skip("no dce binary")
    times = [1_700_000_000_000 + 10**7 * k for k in range(9)]
    events = [
        {"event_id": f"e{i}", "customer_id": f"c{i % 3}", "event_time": t, "kind": "PAGE_VIEW", "name": f"p{i % 2}"}
        | {"attributes": {"colour": "red" if i % 2 else "blue"}}
        for i, t in enumerate(times)
    ]
    (tmp_path / "clicks.ndjson").write_text("".join(json.dumps(e) + "\n" for e in events))
    rows = [f"label,c0,,{times[k] + 1},{k % 2},{split}" for k, split in ((0, "train"), (6, "valid"), (8, "test"))]
    (tmp_path / "labels.csv").write_text(
        "\n".join(["task,customer_id,session_id,event_time,label,split", *rows]) + "\n"
    )
    made = material.of_folder(tmp_path, None, dce.find(binary), lambda line: None)
    assert [f.source for f in made.spec.fields] == ["name", "attributes.colour"]
    last = max(e["event_time"] for c in made.customers for s in c.sessions for e in s.events)
    assert last < (folder.open_folder(tmp_path).cut_ms or 0)
    assert [x.split for x in made.labels + made.valid] == ["train", "valid"]
    later = max(e["event_time"] for c in made.later for s in c.sessions for e in s.events)
    assert last < later < times[8] + 1
