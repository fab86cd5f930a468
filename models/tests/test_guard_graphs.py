"""Guard's formulas: the graphs against a plain-Python version, the step graph against the whole one, the gate."""

import math
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

import onnxruntime as ort  # noqa: E402

from dce_models.graphs import FLOAT, Graph  # noqa: E402
from dce_models.guard import graphs, population  # noqa: E402
from dce_models.guard.cell import Calibration, Gate, Head, fold, step  # noqa: E402
from dce_models.guard.encoder import Encoder, encode  # noqa: E402
from dce_models.guard.features import BACK_OFF, BURST, features, names  # noqa: E402
from dce_models.guard.layout import Column, Layout  # noqa: E402
from dce_models.guard.ops import Onnx, Torch, log, log_rising  # noqa: E402
from dce_models.guard.words import FACTOR, Words  # noqa: E402

Floats = NDArray[Any]
NAMES, PAIRS, BINS = 9, 16, 3
COLUMNS = (
    Column("name", 0, NAMES, NAMES),
    Column("pair of names", NAMES, PAIRS, PAIRS),
    Column("time between", NAMES + PAIRS, BINS, BINS),
)
WORDS = Words(COLUMNS, 1, PAIRS, ((0, (0.5, 2.0)),))
LAYOUT = Layout(COLUMNS, 4, (0.97, 0.85))
SPEC: Any = SimpleNamespace(opset=17, fields=[0], number_columns=1, context_columns=2)


class Model:
    def __init__(self) -> None:
        random = np.random.default_rng(1)

        def normal(*shape: int) -> Floats:
            return random.normal(0, 0.5, shape).astype(np.float32)

        self.encoder = Encoder(normal(LAYOUT.words, LAYOUT.width), normal(LAYOUT.width, LAYOUT.width))
        self.sessions = torch.from_numpy(random.poisson(1.0, (40, LAYOUT.words)).astype(np.float32))
        self.owner = torch.arange(40) % 5
        self.vectors = encode(Torch(), self.encoder, self.sessions)
        self.people = population.population(LAYOUT, self.sessions, self.vectors, self.owner, 8, seed=1)
        many = len(names(LAYOUT))
        self.head = Head(normal(1, many), np.ones((1, many), np.float32), [(normal(many, 1), normal(1))])
        self.gate = Gate(0.05, 0.25, sessions_min=2.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


def run(model: bytes, **inputs: Floats) -> list[Any]:
    found: list[Any] = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, inputs)
    return found


def events(rows: int, length: int) -> tuple[Any, Any]:
    random = np.random.default_rng(2)
    numbers = np.abs(random.normal(0, 2, (rows, length, 1))).astype(np.float32)
    return random.integers(1, NAMES, (rows, length, 1)), numbers


def test_a_session_is_counted_as_plain_python_counts_it(model: Model) -> None:
    fields, numbers = events(6, 11)
    length = np.array([1, 2, 5, 8, 10, 11], np.int32)
    found = run(
        graphs.session_encoder(SPEC, LAYOUT, WORDS, model.encoder), fields=fields, numbers=numbers, length=length
    )[0]
    for row, n in enumerate(length):
        expected: Counter[int] = Counter()
        before = 0
        for name, (number,) in zip(fields[row, :n, 0].tolist(), numbers[row, :n].tolist(), strict=True):
            expected[name] += 1
            expected[NAMES + (before * FACTOR + name) % PAIRS] += 1
            expected[NAMES + PAIRS + (number > 0.5) + (number > 2.0)] += 1
            before = name
        assert found[row, : LAYOUT.words].tolist() == [expected[i] for i in range(LAYOUT.words)]
    assert np.allclose(np.linalg.norm(found[:, LAYOUT.words :], axis=1), 1, atol=1e-6)


def test_the_step_graph_ends_where_the_whole_one_does(model: Model) -> None:
    fields, numbers = events(7, 13)
    whole = run(
        graphs.session_encoder(SPEC, LAYOUT, WORDS, model.encoder),
        fields=fields,
        numbers=numbers,
        length=np.full(7, 13, np.int32),
    )[0]
    stepper = graphs.session_step(SPEC, LAYOUT, WORDS, model.encoder)
    hidden = np.zeros((7, LAYOUT.words + 1), np.float32)
    for t in range(13):
        hidden, stepped = run(stepper, fields=fields[:, t], numbers=numbers[:, t], hidden=hidden)
    assert np.abs(stepped - whole).max() < 1e-6
    assert (hidden[:, -1] == fields[:, -1, 0]).all()


def test_logarithms_without_the_operator() -> None:
    x = np.geomspace(1e-15, 1e15, 400).astype(np.float32)[None]
    g = Graph("log", 17)
    o = Onnx(g)
    o.named(log(o, o.value(g.input("x", FLOAT, ["B", 400]))), "y")
    g.output("y", FLOAT, ["B", 400])
    assert np.abs(run(g.bytes(), x=x)[0] - np.log(x.astype(np.float64))).max() < 5e-6
    for start, count in ((1e-6, 1.0), (0.3, 3.0), (5.0, 40.0), (1e-3, 1000.0), (20.0, 0.0)):
        found = float(log_rising(Torch(), torch.tensor([[start]]), torch.tensor([[count]])))
        expected = math.lgamma(start + count) - math.lgamma(start)
        assert abs(found - expected) < 5e-6 * max(1.0, abs(expected)) + 1e-6 * count, (start, count)


def states(model: Model, sessions: int, gate: Gate) -> Any:  # noqa: ANN401
    """Of five customers, after so many of their sessions each."""
    state = torch.zeros(5, LAYOUT.state)
    for k in range(sessions):
        rows = torch.cat([model.sessions, model.vectors], 1)[5 * k : 5 * k + 5]
        state, _ = step(Torch(), LAYOUT, model.people, model.head, gate, state, rows)
    return state


def test_features_are_those_of_plain_python(model: Model) -> None:
    state = states(model, 4, Gate(0.05, 0.25, sessions_min=100.0))
    session = torch.cat([model.sessions, model.vectors], 1)[20:25]
    found = features(Torch(), LAYOUT, model.people, state, session).numpy().astype(np.float64)
    place = {name: i for i, name in enumerate(names(LAYOUT))}
    for row in range(5):
        profile = [state[row, d * LAYOUT.words : (d + 1) * LAYOUT.words].numpy().astype(np.float64) for d in range(2)]
        everything = [x.astype(np.float64) for x in (model.people.shares, model.people.roots, model.people.everyone)]
        shares, roots, everyone = everything
        near = np.exp(50 * (np.sqrt(profile[0] / profile[0].sum()) @ roots))
        other = 1 - near / near.sum()
        q = (other @ shares + 0.01 * everyone[0]) / (other.sum() + 0.01)
        for c in COLUMNS:
            cut = slice(c.base, c.end)
            count, n = session[row, cut].numpy().astype(np.float64), float(session[row, cut].sum())
            for d, decay in enumerate(LAYOUT.decays):
                own, mass = profile[d][cut], profile[d][cut].sum()
                p = (own + BACK_OFF * q[cut]) / (mass + BACK_OFF)
                ratio = (count * np.log(q[cut] / p)).sum() / n
                burst = sum(
                    math.lgamma(BURST * a + k)
                    - math.lgamma(BURST * a)
                    - math.lgamma(BURST * b + k)
                    + math.lgamma(BURST * b)
                    for a, b, k in zip(q[cut], p, count, strict=True)
                )
                overlap = (np.sqrt(count / n) * np.sqrt(own / mass)).sum()
                for what, value in (("ratio", ratio), ("burst ratio", burst / n), ("root overlap", overlap)):
                    assert found[row, place[f"{c.name}: {what}, decay {decay:g}"]] == pytest.approx(value, abs=2e-4)
            new = np.clip(1 - profile[0][cut], 0, None)
            assert found[row, place[f"{c.name}: new"]] == pytest.approx((count * new).sum() / n, abs=1e-5)


def test_what_strangers_do_is_a_mean_of_likelihood_ratios(model: Model) -> None:
    theirs, others = model.sessions[:6], model.sessions[6:]
    people = replace(model.people, strangers=population.strangers(LAYOUT, theirs, others))
    state, session = states(model, 4, model.gate), torch.cat([model.sessions, model.vectors], 1)[20:25]
    found = features(Torch(), LAYOUT, people, state, session).numpy()
    place = {name: i for i, name in enumerate(names(LAYOUT, strangers=True))}
    assert found.shape == (5, len(place))
    for c in COLUMNS:
        cut = slice(c.base, c.end)
        everyone = others[:, cut].sum(0).numpy().astype(np.float64) + population.RARE
        everyone /= everyone.sum()
        strange = theirs[:, cut].sum(0).numpy() + population.BACK_OFF * everyone
        ratio = np.log(strange / strange.sum() / everyone)
        count = session[:, cut].numpy()
        np.testing.assert_allclose(
            found[:, place[f"{c.name}: like strangers"]], count @ ratio / count.sum(1), atol=1e-5
        )
    without = features(Torch(), LAYOUT, model.people, state, session).numpy()
    rest = [i for name, i in place.items() if not name.endswith("like strangers")]
    assert (found[:, rest] == without).all()


def test_the_graphs_are_what_was_trained_and_every_row_keeps_its_bits(model: Model) -> None:
    state = states(model, 5, model.gate)
    session = torch.cat([model.sessions, model.vectors], 1)[25:30]
    expected, weight = step(Torch(), LAYOUT, model.people, model.head, model.gate, state, session)
    graph = graphs.customer_step(SPEC, LAYOUT, model.people, model.head, model.gate)
    rest = {"gap": 1, "calendar": 4, "context": 2}
    given = {"state": state.numpy(), "session": session.numpy()}
    given |= {n: np.zeros((5, width), np.float32) for n, width in rest.items()}
    state_out, gate = run(graph, **given)
    assert np.abs(state_out - expected.numpy()).max() < 1e-5
    assert np.abs(gate - weight.numpy()).max() < 1e-5
    for row in range(5):
        alone = run(graph, **{n: x[row : row + 1] for n, x in given.items()})
        assert (alone[0] == state_out[row]).all() and (alone[1] == gate[row]).all()


def certain(model: Model, stranger: bool) -> Head:
    """A head that takes every session for a stranger's, or none."""
    weight = np.zeros((len(names(LAYOUT)), 1), np.float32)
    return Head(
        model.head.middle, model.head.inverse_range, [(weight, np.array([9.0 if stranger else -9.0], np.float32))]
    )


def test_a_stranger_leaves_the_state_as_it_is_and_an_empty_state_learns(model: Model) -> None:
    state, session = torch.zeros(5, LAYOUT.state), torch.cat([model.sessions, model.vectors], 1)[:5]
    suspicious = certain(model, stranger=True)
    weights = []
    for _ in range(5):
        before = state
        state, weight = step(Torch(), LAYOUT, model.people, suspicious, model.gate, state, session)
        weights.append(float(weight[0]))
    assert weights == [1, 1, 1, 0, 0]  # sessions_min is 2: judged from 1.5 times as many on
    assert torch.equal(before, state)
    moved, weight = step(Torch(), LAYOUT, model.people, certain(model, stranger=False), model.gate, state, session)
    assert (weight == 1).all() and not torch.equal(moved, state)


def test_a_score_is_calibrated_by_factor_and_shift(model: Model) -> None:
    session = torch.cat([model.sessions, model.vectors], 1)[:5].numpy()
    state = states(model, 3, model.gate).numpy()
    made = [
        run(graphs.takeover(SPEC, LAYOUT, model.people, model.head, c), state=state, session=session)[0]
        for c in (Calibration(1.0, 0.0), Calibration(2.0, -1.0))
    ]
    odds = np.log(made[0] / (1 - made[0]))
    assert np.allclose(made[1], 1 / (1 + np.exp(1 - 2 * odds)), atol=1e-5)


def test_what_was_shut_out_goes_in_when_a_later_session_is_like_it(model: Model) -> None:
    layout = replace(LAYOUT, quarantine=True)
    sessions = torch.cat([model.sessions, model.vectors], 1)[:5]
    start = torch.zeros(5, layout.state)
    shut_out = fold(Torch(), layout, start, sessions, torch.zeros(5, 1))
    assert torch.equal(shut_out[:, : layout.quarantine_at], start[:, : layout.quarantine_at])
    assert torch.equal(shut_out[:, layout.quarantine_at :], sessions)
    alike = fold(Torch(), layout, shut_out, sessions, torch.ones(5, 1))
    assert torch.allclose(alike[:, : layout.words], 2 * sessions[:, : layout.words])
    assert not alike[:, layout.quarantine_at :].any()
    unlike = torch.cat([sessions[:, : layout.words], -sessions[:, layout.words :]], 1)
    kept = fold(Torch(), layout, shut_out, unlike, torch.ones(5, 1))
    assert torch.equal(kept[:, : layout.words], sessions[:, : layout.words])
    assert torch.allclose(kept[:, layout.quarantine_at :], 0.9 * sessions)
