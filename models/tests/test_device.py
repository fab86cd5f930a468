"""Training elsewhere than on the CPU: on a device that only pretends to be one (elsewhere.py), on a GPU, where there is
one; and what is said where there is none."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from elsewhere import AWAY, Elsewhere, Pretending  # noqa: E402
from test_guard_train import QUICK, customer  # noqa: E402

from dce_models import __main__ as command  # noqa: E402
from dce_models import autoencoder, bundle, device, export, frozen, network, spec, train  # noqa: E402
from dce_models.folder import Label  # noqa: E402
from dce_models.heads import fit  # noqa: E402
from dce_models.heads.network import Shape  # noqa: E402
from dce_models.material import Material  # noqa: E402

MODELS = Path(__file__).resolve().parent.parent
SHORT = {"session_epochs": 1, "customer_epochs": 1, "vocabulary_customers_min": 2, "presence": 0.1, "label": "call"}
FEWER = {"rows_wanted": 100, "encoder_steps": 5, "epochs": 4}
MEMBERS = ("dce", "dce joint", "decay", "cosernn", "guard")


def quiet(line: str) -> None:
    pass


def material(member: str) -> Material:
    """Fourteen customers, whose calls are labelled."""
    config = spec.load(MODELS / ("guard.toml" if member == "guard" else "bank-small.toml"))
    config.training.update(QUICK | FEWER if member == "guard" else SHORT)
    if member == "dce joint":
        config.training.update({"joint_epochs": 1, "joint_moves": True})
    people = [customer(n, 10) for n in range(14)]
    labels = [
        Label("label", c.customer_id, "", s.end + 1, str((i + len(s.events)) % 2), "train")
        for i, c in enumerate(people)
        for s in c.sessions[3:]
        if member != "guard"
    ]
    return Material(config, people, labels)


def trained(member: str, where: Any) -> train.Run:  # noqa: ANN401
    return train.train(member.split()[0], material(member), 1, quiet, where)


def tensors(kept: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(kept, torch.Tensor):
        return [kept]
    values = list(kept.values()) if isinstance(kept, dict) else kept if isinstance(kept, list | tuple) else []
    return [found for value in values for found in tensors(value)]


@pytest.mark.parametrize("member", MEMBERS)
def test_a_run_is_the_same_on_another_device(member: str, tmp_path: Path) -> None:
    here = trained(member, device.CPU)
    with Pretending() as pretending:
        away = trained(member, AWAY)
    assert pretending.calls > 500
    assert (here.pop("device"), away.pop("device")) == ("cpu", "meta")
    assert not any(isinstance(x, Elsewhere) for x in tensors(away))
    for a, b in zip(tensors(here), tensors(away), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=2e-3)  # products are put together otherwise, by 1e-7
    train.save(away, tmp_path / "run.pt")
    wrong = export.export(train.parts(train.load(tmp_path / "run.pt")), tmp_path / "bundle")
    # A head that learnt for four epochs is steep, so rounding may show in its golden outputs.
    assert [line for line in wrong if "golden case" not in line] == []


def test_heads_are_fitted_on_another_device(tmp_path: Path) -> None:
    given = material("dce")
    b = bundle.read(MODELS / "bank-small")
    assert frozen.add_heads(b, given, tmp_path / "here", 1, quiet) == []
    with Pretending() as pretending:
        assert frozen.add_heads(b, given, tmp_path / "away", 1, quiet, AWAY) == []
    assert pretending.calls > 1000
    assert sorted(bundle.read(tmp_path / "here").files) == sorted(bundle.read(tmp_path / "away").files)


def test_what_is_left_on_the_cpu_is_refused() -> None:
    net = torch.nn.Linear(3, 2)
    with Pretending():
        net = net.to(AWAY)
        with pytest.raises(RuntimeError, match="was left on the CPU"):
            net(torch.ones(4, 3))
        assert net(torch.ones(4, 3).to(AWAY)).device == AWAY


def test_the_vectors_of_sessions_come_to_the_cpu() -> None:
    from dce_models.dataset import build
    from dce_models.features import Features

    given = material("dce")
    data = build(Features(given.spec, {f.source: [""] for f in given.spec.fields}), given.customers, 1)
    encoder = network.SessionEncoder(given.spec, [20] * len(given.spec.fields)).eval()
    here = autoencoder.encode(encoder, data)
    with Pretending():
        assert torch.equal(autoencoder.encode(encoder.to(AWAY), data), here)


# -- which device ------------------------------------------------------------------------------------------------------


def no_gpu(monkeypatch: pytest.MonkeyPatch, count: int = 0, built: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.version, "cuda", "13.2" if built else None)


@pytest.mark.parametrize(
    ("asked", "count", "built", "told"),
    [
        ("cuda", 0, False, "device cuda: this PyTorch .* is built without CUDA"),
        ("cuda:0", 0, True, "device cuda:0: PyTorch .* finds no GPU"),
        ("cuda:2", 2, True, "device cuda:2: there is no GPU 2: PyTorch counts 2"),
        ("gpu", 1, True, "device 'gpu': must be auto, cpu, cuda or cuda:N"),
        ("cuda:", 1, True, "device 'cuda:': must be"),
    ],
)
def test_a_gpu_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, asked: str, count: int, built: bool, told: str
) -> None:
    no_gpu(monkeypatch, count, built)
    with pytest.raises(spec.SpecError, match=told):
        device.chosen(asked, quiet)


def test_a_gpu_that_is_counted_and_of_no_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:  # noqa: ANN401
        raise RuntimeError("the driver is too old\nand more")

    no_gpu(monkeypatch, 1, True)
    monkeypatch.setattr(torch, "zeros", refused)
    with pytest.raises(spec.SpecError, match=r"device cuda: PyTorch cannot use it: the driver is too old$"):
        device.chosen("cuda", quiet)


def test_auto_says_what_it_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    no_gpu(monkeypatch)
    assert device.chosen("auto", said.append) == device.CPU
    assert said[0].startswith("device auto: cpu, for PyTorch") and "finds no GPU" in said[0]
    assert device.chosen("cpu", said.append) == device.CPU and len(said) == 1


def test_a_gpu_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch, 2)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)  # as if it could be used
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    said: list[str] = []
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.rnn.fp32_precision
    try:
        assert str(device.chosen("auto", said.append)) == "cuda:0" and said == ["device auto: cuda:0"]
        assert str(device.chosen("cuda", said.append)) == "cuda:0" and len(said) == 1
        assert str(device.chosen("cuda:1", said.append)) == "cuda:1"
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.backends.cudnn.rnn.fp32_precision == "ieee"
    finally:
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.rnn.fp32_precision = before


@pytest.mark.parametrize("what", ["train", "heads"])
def test_the_commands_refuse_before_they_read_anything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, what: str
) -> None:
    no_gpu(monkeypatch)
    nothing = str(tmp_path / "nothing")
    given = ["--data", nothing, "--device", "cuda", "--out", nothing]
    given += ["--bundle", nothing] if what == "heads" else []
    monkeypatch.setattr(sys, "argv", ["dce_models", what, *given])
    assert command.main() == 1
    assert capsys.readouterr().err.startswith("error: device cuda: PyTorch")


# -- on a GPU ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", MEMBERS)
def test_a_gpu_agrees_with_the_cpu(gpu: str, member: str) -> None:
    """A few steps: the longer the training, the further rounding takes the two apart."""
    where = device.chosen(gpu, quiet)
    here, there = trained(member, device.CPU), trained(member, where)
    again = trained(member, where)
    assert there.pop("device").startswith(gpu) and here.pop("device") == "cpu" and again.pop("device")
    for a, b, c in zip(tensors(here), tensors(there), tensors(again), strict=True):
        assert b.device == device.CPU and torch.equal(b, c)  # the same bits each time on the same GPU
        if a.is_floating_point():
            torch.testing.assert_close(b, a, atol=2e-2, rtol=2e-2)


def test_a_head_on_a_gpu_agrees_with_the_cpu(gpu: str) -> None:
    torch.manual_seed(1)
    x = torch.randn(600, 5)
    rows = fit.Rows({"session": x}, (x[:, 0] > 0).long(), torch.ones(600))
    shape = Shape((("session", 5),), 1)
    (one, here), (two, there) = (fit.fit(shape, rows, rows, 1, w) for w in (device.CPU, device.chosen(gpu, quiet)))
    assert abs(here - there) < 1e-2
    torch.testing.assert_close(two({"session": x}), one({"session": x}), atol=0.1, rtol=0.1)
