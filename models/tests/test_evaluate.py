"""`evaluate` and `compare` as they are run, on small generated banks and on data sets that nobody meant kindly."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from dce_models import __main__ as commands
from dce_models import dce as pipeline
from dce_models.evaluate import beside, outcome, reading, worth

HEADER = "task,customer_id,session_id,event_time,label,split\n"


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["dce_models", *map(str, arguments)])
    code = commands.main()
    out, err = capsys.readouterr()
    return code, out, err


def last(out: str) -> Any:  # noqa: ANN401 # JSON
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def bank(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated bank, with the next names as labels too."""
    path = tmp_path_factory.mktemp("bank") / "bank"
    arguments = ["--customers", "40", "--days", "12", "--takeovers", "0.6", "--seed", "2"]
    pipeline.run(binary, ["generate", *arguments, "--out", path])
    clicks = [json.loads(line) for line in (path / "clicks.ndjson").read_text().splitlines()]
    with (path / "labels.csv").open("a") as file:
        for i, c in enumerate(clicks):
            if c["kind"] != "LOGIN":
                split = "train" if i < 0.7 * len(clicks) else "valid" if i < 0.85 * len(clicks) else "test"
                file.write(f"next,{c['customer_id']},{c.get('session_id', '')},{c['event_time']},{c['name']},{split}\n")
    return path


def test_floors_are_the_same_however_many_rows_are_described_together(
    bank: Path,
    binary: Path,
    bank_small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def figures() -> Any:  # noqa: ANN401 # JSON
        common = ("evaluate", "--data", bank, "--bundle", bank_small, "--json", "--dce", binary)
        code, out, err = run(monkeypatch, capsys, *common)
        assert code == 0, err
        return {task: last(out)[task]["methods"] for task in ("owner", "label", "next_session", "next")}

    whole = figures()
    monkeypatch.setattr(beside, "CHUNK", 50)
    monkeypatch.setattr(outcome, "CHUNK", 50)
    monkeypatch.setattr(reading, "ASKED", 7)
    for task, methods in figures().items():
        for one, other in zip(methods, whole[task], strict=True):
            same = {key: value for key, value in other.items() if isinstance(value, float)}
            assert {key: one[key] for key in same} == pytest.approx(same, abs=1e-4), (task, one["name"])


def test_every_task_of_a_bank_is_judged_beside_its_floors(
    bank: Path,
    binary: Path,
    bank_small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run(
        monkeypatch, capsys, "evaluate", "--data", bank, "--bundle", bank_small, "--json", "--dce", binary, "--bound"
    )
    assert code == 0, err
    found = last(out)
    assert worth.NAME in [m["name"] for m in found["owner"]["methods"] if not m["floor"]][1:]
    assert list(found["ignored"]) == ["takeover"]
    for task in ("owner", "label", "next_session", "next"):
        methods = found[task]["methods"]
        assert not methods[0]["floor"]
        assert any(m["floor"] for m in methods)
        assert all(m["intervals"] for m in methods)
        assert found[task]["labels"]["test"] > 0
    assert set(found["owner"]["early"]) == {"1", "2", "5", "10", "20", "50"}
    assert 0 < found["next"]["methods"][0]["recall_at_10"] <= 1
    assert found["cost"]["us_event"] > 0


def test_compare_prints_a_line_a_bundle(
    bank: Path,
    binary: Path,
    bank_small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "clicks.ndjson").write_bytes((bank / "clicks.ndjson").read_bytes())
    labels = [x for x in (bank / "labels.csv").read_text().splitlines() if x.startswith(("task", "label"))]
    (tmp_path / "set" / "labels.csv").write_text("\n".join(labels) + "\n")
    bundles = ("--bundle", bank_small, "--bundle", bank_small)
    code, out, err = run(
        monkeypatch, capsys, "compare", "--data", tmp_path / "set", *bundles, "--json", "--dce", binary
    )
    assert code == 0, err
    assert sum(line.startswith("bank-small") and "embedding" in line for line in out.splitlines()) == 2
    first, second = last(out)
    assert first["bundle"] == second["bundle"] == str(bank_small)
    model = [m for m in first["label"]["methods"] if not m["floor"]]
    assert model == second["label"]["methods"]  # the same seed, the same figures; floors are computed once


def hostile(path: Path, labels: str, customers: int = 3, sessions: int = 6, events: int = 1) -> Path:
    """Names that no vocabulary knows, sessions of one click, no session ids, a line that is torn."""
    draw = random.Random(4)
    lines = []
    for c in range(customers):
        for s in range(sessions):
            for e in range(events):
                click: dict[str, Any] = {"event_id": f"{c}-{s}-{e}", "customer_id": f"c{c}", "kind": "PAGE_VIEW"}
                click |= {"event_time": 1_000_000 + s * 7_200_000 + e * 1000 + c, "name": f"нет-{draw.randint(0, 9)}"}
                lines.append((click["event_time"], json.dumps(click)))
    path.mkdir()
    (path / "clicks.ndjson").write_text('{"event_id": "to\n' + "\n".join(x for _, x in sorted(lines)) + "\n")
    (path / "labels.csv").write_text(HEADER + labels)
    return path


HOSTILE = {
    "constant": ["owner,c0,,1000000,0,test", "owner,c1,,1000001,0,test", "label,c0,,9000000,1,test"],
    "constant train": ["label,c0,,1000500,1,train", "label,c0,,9000000,1,test", "label,c1,,9000000,0,test"],
    "nobody": ["owner,who,,5,1,test", "label,who,x,5,0,test", "next_session,who,,5,a,test", "next,who,,5,a,test"],
    "no train": ["label,c0,,9000000,1,test", "label,c1,,9000000,0,test", "next_session,c0,,9000000,a,test"],
    "no test": ["label,c0,,9000000,1,train", "owner,c0,,1000000,0,valid", "next,c0,,9,b,train"],
    "late train": [
        "label,c0,,9000000,1,train",
        "label,c1,,9000000,0,train",
        "label,c0,,8,1,test",
        "label,c1,,8,0,test",
    ],
    "unknown name": [f"next_session,c0,,8200500,{name},train" for name in "abab"]
    + ["next_session,c0,,22600000,z,test"],
    "unnamed session": ["next,c0,,8200000,b,test", "next,c0,never,8200000,b,test", "next,c1,,8200001,x,train"],
    "far away": [f"label,c0,,{10**18 - 1},1,test", f"owner,c0,,{10**18 - 1},1,test", "owner,c0,,1000000,0,test"],
}


@pytest.mark.parametrize("labels", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_sets_are_judged_as_far_as_they_go(
    labels: list[str],
    binary: Path,
    bank_small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = hostile(tmp_path / "set", "\n".join(labels) + "\n")
    code, out, err = run(
        monkeypatch, capsys, "evaluate", "--data", data, "--bundle", bank_small, "--json", "--dce", binary
    )
    assert code == 0, err
    assert "NaN" not in out
    last(out)


def test_what_cannot_be_judged_is_said(
    binary: Path,
    bank_small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = hostile(tmp_path / "set", "survey,c0,,5,1,test\n")
    common = ("--dce", binary, "--bundle", bank_small)
    code, _, err = run(monkeypatch, capsys, "evaluate", "--data", data, *common)
    assert code == 1
    assert "there is nothing to judge" in err
    code, _, err = run(monkeypatch, capsys, "evaluate", "--data", tmp_path / "none", *common)
    assert code == 1
    assert "is no folder" in err
    (data / "labels.csv").write_text(HEADER + "label,c0,,5,1,test\n")
    code, _, err = run(monkeypatch, capsys, "evaluate", "--data", data, "--dce", binary, "--bundle", tmp_path)
    assert code == 1
    assert "is no model bundle" in err
    code, _, err = run(monkeypatch, capsys, "evaluate", "--data", data, *common, "--set", "session.gap=soon")
    assert code == 1
    assert "session.gap" in err
