"""Heads: their graphs against PyTorch, which moments they are asked at, intrusions, calibration."""

import math
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from dce_models import bundle, check, export, parts  # noqa: E402
from dce_models.clicks import Customer, Session  # noqa: E402
from dce_models.folder import Label  # noqa: E402
from dce_models.frozen import parts_of  # noqa: E402
from dce_models.heads import fit, tasks  # noqa: E402
from dce_models.heads import world as worlds  # noqa: E402
from dce_models.heads.asked import of_labels, prefixes  # noqa: E402
from dce_models.heads.intrusions import simulated  # noqa: E402
from dce_models.heads.network import HeadNet, Shape, graph  # noqa: E402
from dce_models.heads.world import World, folded_before, inputs, joined, world_of  # noqa: E402

SHIPPED = Path(__file__).resolve().parent.parent / "bank-small"
SIZES = {"prior": 64, "session": 48, "embedding": 64, "context": 10}
DAY = 86_400_000


def made(*names: str, outputs: int, pair: tuple[str, str] | None = None) -> HeadNet:
    torch.manual_seed(1)
    return HeadNet(Shape(tuple((n, SIZES[n]) for n in names), outputs, pair=pair)).eval()


def head(name: str, net: HeadNet, task: str = "", classes: tuple[str, ...] = ()) -> parts.Head:
    given = tuple(n for n, _ in net.shape.inputs)
    return parts.Head(name, given, graph(name, 17, net), torch.no_grad()(net.scores), task, classes)


TAKEOVER = made("prior", "session", "context", outputs=1, pair=("prior", "session"))
INTENT = made("embedding", "session", "context", outputs=5)


@pytest.mark.parametrize("net", [TAKEOVER, INTENT])
def test_a_heads_graph_is_the_network(net: HeadNet) -> None:
    run = ort.InferenceSession(graph("x", 17, net), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    for rows in (1, 7):
        given = {n: random.normal(0, 3, (rows, width)).astype(np.float32) for n, width in net.shape.inputs}
        (found,) = run.run(["scores"], given)
        expected = net.scores({n: torch.from_numpy(x) for n, x in given.items()}).detach().numpy()
        np.testing.assert_allclose(found, expected, atol=2e-6)
        assert (found >= 0).all() and (found <= 1).all()
        if net.shape.outputs > 1:
            np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_standardising_and_rescaling_are_in_the_weights() -> None:
    net = made("prior", "session", outputs=1, pair=("prior", "session"))
    given = {n: torch.randn(4, SIZES[n]) for n in ("prior", "session")}
    mean = {n: torch.randn(SIZES[n]) for n in given}
    scale = {n: torch.rand(SIZES[n]) + 0.5 for n in given}
    expected = 2 * net({n: (x - mean[n]) / scale[n] for n, x in given.items()}) - 1
    net.standardise(mean, scale)
    net.rescale(2.0, -1.0)
    torch.testing.assert_close(net(given), expected, atol=1e-4, rtol=1e-4)


def exported(folder: Path, *heads: parts.Head) -> list[str]:
    whole = parts_of(bundle.read(SHIPPED))
    whole.heads = list(heads)
    return export.export(whole, folder)


def test_a_bundle_with_heads_is_checked_and_read_back(tmp_path: Path) -> None:
    named = head("takeover", TAKEOVER, "owner"), head("intent.v2", INTENT, "next_session", tuple("abcde"))
    assert exported(tmp_path, *named) == []
    assert check.check(tmp_path) == []
    again = parts_of(bundle.read(tmp_path))
    assert [h.inputs for h in again.heads] == [h.inputs for h in named]
    given = {n: torch.randn(3, SIZES[n]) for n in named[0].inputs}
    torch.testing.assert_close(again.heads[0].run(given), named[0].run(given), atol=1e-6, rtol=1e-5)


def test_an_export_takes_away_heads_that_are_no_more(tmp_path: Path) -> None:
    assert exported(tmp_path, head("takeover", TAKEOVER)) == []
    assert exported(tmp_path) == []
    assert not (tmp_path / "heads").exists() and check.check(tmp_path) == []


def test_a_head_with_a_forbidden_operator_is_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(graph("x", 17, TAKEOVER))
    model.graph.node[-1].output[0] = "p"
    model.graph.node.append(helper.make_node("Softplus", ["p"], ["scores"]))
    broken = head("takeover", TAKEOVER)
    broken.onnx = model.SerializeToString()
    assert "heads/takeover: operator Softplus is not allowed" in exported(tmp_path / "bundle", broken)
    assert not (tmp_path / "bundle").exists()


def test_a_head_whose_inputs_are_not_the_manifests_is_refused(tmp_path: Path) -> None:
    assert exported(tmp_path, head("takeover", TAKEOVER)) == []
    manifest = tmp_path / "manifest.toml"
    whole = manifest.read_text()
    manifest.write_text(whole.replace('"prior", "session", "context"', '"prior", "session"'))
    assert any("heads/takeover: inputs are" in why for why in check.check(tmp_path))
    manifest.write_text(whole.replace('"prior", "session", "context"', '"prior", "gap"'))
    assert any("heads.takeover.inputs is ['prior', 'gap'], must be" in why for why in check.check(tmp_path))


def test_a_head_that_sees_its_batch_is_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(graph("x", 17, INTENT))
    (softmax,) = [n for n in model.graph.node if n.op_type == "Softmax"]
    del softmax.attribute[:]
    softmax.attribute.append(helper.make_attribute("axis", 0))
    broken = head("intent", INTENT)
    broken.onnx = model.SerializeToString()
    assert any("heads/intent: scores changes in a batch of" in why for why in exported(tmp_path / "bundle", broken))


# -- moments -----------------------------------------------------------------------------------------------------------


class Sums:
    """A model whose vectors can be told by hand: the events' number, their sum as state and embedding."""

    def encode(self, fields: Tensor, numbers: Tensor, length: Tensor) -> Tensor:
        made: Tensor = torch.stack([length.float(), torch.ones(len(length))], dim=1).repeat(1, 24)
        return made

    def encode_step(self, fields: Tensor, numbers: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        raise AssertionError("heads take whole prefixes")

    def step(
        self, state: Tensor, session: Tensor, gap: Tensor, calendar: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        return state + torch.nn.functional.pad(session, (0, 16)), torch.ones_like(gap)

    def read(self, state: Tensor, ahead: Tensor, calendar: Tensor, context: Tensor) -> Tensor:
        made: Tensor = torch.cat([state[:, :62], ahead, torch.ones_like(ahead)], dim=1)
        return made


def customer(name: str, *starts: int, events: int = 4) -> Customer:
    sessions = []
    for start in starts:
        own = [{"event_time": start + 1000 * i, "kind": "ACTION", "name": "a"} for i in range(events)]
        end = start + 1000 * (events - 1)
        sessions.append(Session(start, end, end + 1_800_000, own, None))
    return Customer(name, sessions)


def world(*customers: Customer) -> World:
    b = bundle.read(SHIPPED)
    return world_of(b.spec, b.json("vocabulary"), Sums(), list(customers), seed=1)


def label(task: str, time: int, text: str = "1", who: str = "b") -> Label:
    return Label(task, who, "", time, text, "train")


def test_labels_are_asked_at_what_was_known_before_them() -> None:
    w = world(customer("a", DAY), customer("b", DAY, 2 * DAY, 2 * DAY + 1500))
    times = [DAY, DAY + 1, DAY + 2000, DAY + 3001, DAY + 2_000_000, 2 * DAY + 1500, 2 * DAY + 1501]
    at, _ = of_labels(w, [label("label", t) for t in times], "label")
    assert at.row.tolist() == [1, 1, 1, 1, 2, 3]  # nothing is known before the first event
    assert at.events.tolist() == [1, 2, 4, 4, 2, 1]
    assert at.moment.tolist() == [DAY, DAY + 1000, DAY + 3000, DAY + 1_803_000, 2 * DAY + 1000, 2 * DAY + 1500]


def test_an_owner_is_asked_of_the_whole_session_that_the_moment_lies_in() -> None:
    w = world(customer("b", DAY, 2 * DAY, 2 * DAY + 1500))
    at, text = of_labels(w, [label("owner", 2 * DAY + 2000), label("owner", DAY + 5000, "0")], "owner")
    assert (at.row.tolist(), at.events.tolist(), text) == ([2], [4], ["1"])


def test_inputs_are_of_the_state_before_and_the_session_so_far() -> None:
    w = world(customer("a", DAY), customer("b", DAY, 2 * DAY))
    at, _ = of_labels(w, [label("label", 2 * DAY + 1500)], "label")
    given = inputs(w, at, ("state", "session", "embedding"))
    assert given["session"][0, :2].tolist() == [2, 1]
    assert given["state"][0, :2].tolist() == [4, 1]
    direction = given["embedding"][0]
    torch.testing.assert_close(direction[0] / direction[1], torch.tensor(6 / 2.0))
    torch.testing.assert_close(direction[62], torch.tensor(0.0))  # the session is open: nothing lies between


def lasting(start: int, minutes: int, closed_after: int = 0) -> Session:
    """Two events, minutes apart."""
    end = start + 60_000 * minutes
    own = [{"event_time": ms, "kind": "ACTION", "name": "a"} for ms in (start, end)]
    return Session(start, end, end + 60_000 * closed_after, own, None)


def beside() -> World:
    """In fold order: one of a minute, logged out of, and one of three hours that began before it and closed later; both
    while a third was open, that the first state knows nothing of."""
    return world(Customer("b", [lasting(DAY + 600_000, 1), lasting(DAY, 180, 30), lasting(DAY + 300_000, 300, 30)]))


def test_an_open_session_knows_only_what_had_closed() -> None:
    w = beside()
    times = [DAY + 1, DAY + 300_001, DAY + 600_001, DAY + 660_001, DAY + 10_800_001, DAY + 12_600_001, DAY + 20_100_001]
    at, _ = of_labels(w, [label("label", t) for t in times], "label")
    assert at.row.tolist() == [1, 2, 0, 0, 1, 1, 2]
    assert at.events.tolist() == [1, 1, 1, 2, 2, 2, 2]
    assert folded_before(w, at).tolist() == [0, 0, 0, 0, 1, 1, 2]
    given = inputs(w, at, ("state", "prior"))
    assert given["state"][:, 1].tolist() == [0, 0, 0, 0, 1, 1, 2]  # as many sessions as are in it
    settled = tasks.whole_sessions(w)
    assert folded_before(w, settled).tolist() == [0, 1, 2]  # in fold order, as the settled record has it


def test_time_since_is_that_since_what_was_folded() -> None:
    w = beside()
    at, _ = of_labels(w, [label("label", t) for t in (DAY + 1, DAY + 20_100_001)], "label")
    ahead = inputs(w, at, ("prior",))["prior"][:, 62] / inputs(w, at, ("prior",))["prior"][:, 63]
    assert ahead.tolist() == [0.0, 0.0]  # nothing before; the third began before the others had ended
    w = world(customer("b", DAY, 2 * DAY))
    whole = tasks.whole_sessions(w)
    prior = inputs(w, whole, ("prior",))["prior"]
    torch.testing.assert_close(prior[1, 62] / prior[1, 63], torch.tensor(math.log1p(24 - 3 / 3600)).float())


def test_who_is_walked_beside_whom_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    people = [customer(f"c{i}", *(DAY * (1 + k) + i for k in range(1 + i % 5)), events=1 + i % 3) for i in range(23)]
    w = world(*people)
    names = ("state", "prior", "session", "embedding")
    whole = tasks.whole_sessions(w)
    asked = joined([whole, prefixes(w, whole, np.random.default_rng(1)), whole.at(np.array([5, 3, 3]))])
    together = inputs(w, asked, names)
    for cells in (1, 400):
        monkeypatch.setattr(worlds, "CELLS", cells)
        for name, alone in inputs(w, asked, names).items():
            assert torch.equal(alone, together[name])
    monkeypatch.setattr(worlds, "CHUNK", 2)
    for name, alone in inputs(w, asked, names).items():
        torch.testing.assert_close(alone, together[name])


def test_what_is_never_folded_is_in_no_state() -> None:
    w = world(customer("a", DAY), customer("b", DAY, 2 * DAY, 3 * DAY))
    given = inputs(w, tasks.whole_sessions(w), ("state",), never=np.array([False, False, True, False]))
    assert given["state"][:, 1].tolist() == [0, 0, 1, 1]


def test_open_sessions_are_shorter_than_whole_ones() -> None:
    w = world(customer("a", DAY, 2 * DAY), customer("b", DAY, events=1))
    whole = tasks.whole_sessions(w)
    part = prefixes(w, whole, np.random.default_rng(1))
    assert part.row.tolist() == [0, 1] and (part.events < 4).all() and (part.events >= 1).all()
    assert part.moment.tolist() == [DAY + 1000 * (part.events[0] - 1), 2 * DAY + 1000 * (part.events[1] - 1)]


def test_an_intruder_is_another_customer() -> None:
    w = world(customer("a", DAY, 2 * DAY), customer("b", DAY, 3 * DAY), customer("c", DAY))
    whole = tasks.whole_sessions(w)
    made = simulated(w, whole, whole, 500, np.random.default_rng(1))
    assert len(made) > 400 and (w.owner[made.row] != w.owner[made.source]).all()


# -- fitting -----------------------------------------------------------------------------------------------------------


def rows(count: int, seed: int) -> fit.Rows:
    """1 in ten is a one, told by the product of two inputs."""
    random = torch.Generator().manual_seed(seed)
    given = {n: torch.randn(count, SIZES[n], generator=random) for n in ("prior", "session")}
    score = 3 * given["prior"][:, 0] * given["session"][:, 0] - 4
    y = (torch.rand(count, generator=random) < torch.sigmoid(score)).long()
    return fit.Rows(given, y, torch.ones(count))


def test_a_head_learns_how_two_inputs_agree_and_is_calibrated() -> None:
    shape = Shape((("prior", 64), ("session", 48)), 1, pair=("prior", "session"))
    net, _ = fit.fit(shape, rows(8000, 1), rows(4000, 2), seed=1)
    net.rescale(3.0, 1.0)  # out of tune
    fit.calibrate(net, rows(4000, 2))
    judged = rows(4000, 3)
    p = net.scores(judged.inputs).detach()[:, 0]
    assert abs(float(p.mean()) - float(judged.y.float().mean())) < 0.02
    ones, zeros = p[judged.y == 1], p[judged.y == 0]
    assert float((ones[:, None] > zeros[None]).float().mean()) > 0.75


def test_rare_names_become_other() -> None:
    texts = [f"n{i}" for i in range(100) for _ in range(200 - i)]
    classes = tasks.classes_of(texts)
    assert len(classes) == tasks.CLASSES_MAX and classes[0] == "n0" and classes[-1] == "other"
    assert tasks.classes_of(["b", "a", "b"]) == ("b", "a")
