"""What is held out teaches nothing: with other events and other labels behind it, training gives the same bits. And
sessions are cut by the rules that training was told."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from dce_models import dce as pipeline  # noqa: E402
from dce_models import folder as folders  # noqa: E402
from dce_models import material, train  # noqa: E402
from dce_models.folder import COLUMNS, Label  # noqa: E402
from dce_models.material import Material  # noqa: E402
from dce_models.spec import SpecError  # noqa: E402

Clicks = list[dict[str, Any]]
SHORT = {"session_epochs": 1, "customer_epochs": 1, "encoder_steps": 3, "rows_wanted": 200, "groups": 2, "epochs": 1}
SHORT |= {"nets": 1, "prototypes_max": 4, "width": 8, "pair_buckets": 16, "name_buckets": 16, "device_buckets": 4}


def write(path: Path, clicks: Clicks, labels: list[Label]) -> Path:
    path.mkdir()
    (path / "clicks.ndjson").write_text("".join(json.dumps(c) + "\n" for c in clicks))
    rows = (",".join(str(getattr(x, name)) for name in COLUMNS) for x in labels)
    (path / "labels.csv").write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def bank(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clicks, list[Label], int, int]:
    """Clicks, labels, and the moments of the first `valid` and the first `test` label."""
    path = tmp_path_factory.mktemp("bank") / "bank"
    arguments = ["--customers", "40", "--days", "10", "--takeovers", "0.5", "--seed", "4", "--shuffle", "5"]
    pipeline.run(binary, ["generate", *arguments, "--out", path])
    made = folders.open_folder(path)
    times = sorted(x.event_time for x in made.labels)
    cut, test = times[len(times) * 6 // 10], times[len(times) * 8 // 10]

    def split(label: Label) -> str:
        return "train" if label.event_time < cut else "valid" if label.event_time < test else "test"

    return list(folders.clicks(made)), [replace(x, split=split(x)) for x in made.labels], cut, test


def after(clicks: Clicks, labels: list[Label], moment: int) -> tuple[Clicks, list[Label]]:
    """The past, then another world: other names, amounts, contexts, devices and customers; other labels."""
    draw = random.Random(7)
    events = [c for c in clicks if c["event_time"] < moment]
    for i, click in enumerate(c for c in clicks if c["event_time"] >= moment):
        other = {**click, "event_id": f"other-{i}", "name": f"name-{draw.randint(0, 30)}", "device_id": f"d{i % 9}"}
        other["attributes"] = {"amount": str(draw.randint(1, 10**6)), "new": draw.choice("abc")}
        other["context"] = {"balance": 1e6 * draw.random(), "new": draw.random()}
        events.append({**other, "customer_id": draw.choice((click["customer_id"], f"stranger-{i % 50}"))})
    turned = {"0": "1", "1": "0"}
    names = sorted({x.label for x in labels if x.task == "next_session"})

    def told(label: Label) -> Label:
        return label if label.event_time < moment else replace(label, label=turned.get(label.label, draw.choice(names)))

    return events, [told(x) for x in labels]


def learnt(model: str, path: Path, binary: Path) -> tuple[dict[str, Any], Material]:
    found = material.of_folder(path, None, binary, lambda _: None)
    found.spec.training.update(SHORT)
    return train.train(model, found, 1, lambda _: None), found


def same(one: Any, other: Any) -> bool:  # noqa: ANN401 # anything that a run holds
    if isinstance(one, torch.Tensor):
        return bool(torch.equal(one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


@pytest.mark.parametrize("model", ["dce", "decay", "cosernn", "guard"])
def test_what_is_held_out_changes_no_bit_of_what_is_learnt(
    binary: Path, bank: tuple[Clicks, list[Label], int, int], tmp_path: Path, model: str
) -> None:
    clicks, labels, cut, test = bank
    run, _ = learnt(model, write(tmp_path / "whole", clicks, labels), binary)
    assert {head["task"] for head in run["heads"]} >= {"next_session"}
    # Nothing at or after the first test label: not a bit, heads and their calibration included.
    behind, found = learnt(model, write(tmp_path / "test", *after(clicks, labels, test)), binary)
    assert found.valid and {c.customer_id[:8] for c in found.later} != {"stranger"}
    assert same(run, behind)
    # `valid` stops and calibrates heads, and teaches nothing else.
    behind, found = learnt(model, write(tmp_path / "valid", *after(clicks, labels, cut)), binary)
    assert any(c.customer_id.startswith("stranger") for c in found.later)
    assert not any(c.customer_id.startswith("stranger") for c in found.customers)
    assert same({k: v for k, v in run.items() if k != "heads"}, {k: v for k, v in behind.items() if k != "heads"})
    # And the test can tell: with another past there are other weights.
    other, _ = learnt(model, write(tmp_path / "past", *after(clicks, labels, cut - 3 * 86_400_000)), binary)
    assert not same(run, other)


def test_sessions_are_cut_by_the_rules_that_training_is_told(
    binary: Path, bank: tuple[Clicks, list[Label], int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks, labels, _, _ = bank
    path = write(tmp_path / "data", clicks, labels)

    def sessions(*settings: str) -> list[tuple[int, int]]:
        found = material.of_folder(path, None, binary, lambda _: None, settings).customers
        return [(s.start, s.closed_at - s.end) for c in found for s in c.sessions]

    usual, short = sessions(), sessions("session.gap=90s")
    assert len(short) > len(usual)
    assert {closing for _, closing in usual} == {0, 1_800_000}
    assert min(closing for _, closing in short if closing) == 90_000
    monkeypatch.setenv("DCE_SESSION__GAP", "90s")
    assert sessions() == short
    monkeypatch.delenv("DCE_SESSION__GAP")
    with pytest.raises(SpecError, match=r"session\.gap = \"soon\""):
        sessions("session.gap=soon")
