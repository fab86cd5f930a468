"""`make eval` in small: one model on a generated bank, and what several seeds are made into."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from dce_models.evaluate import report, suite
from dce_models.evaluate.result import Method, Result, mean
from dce_models.evaluate.suite import Suite
from dce_models.spec import SpecError

COST = {"us_event": 1.0, "us_session_alone": 2.0, "us_session": 0.5}


def test_one_model_on_a_small_bank(binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "BANK", ("--customers", "40", "--days", "12", "--takeovers", "0.6", "--seed", "2"))
    said: list[str] = []
    lines = list(Suite(binary, None, tmp_path, ["decay", "cosernn"], said.append, epochs_max=1).run())
    assert any("sea is left out" in line for line in said) and any("globo is left out" in line for line in said)
    assert "=== generated" in lines and "=== generated, the zoo (at most 1 epochs each)" in lines
    found = json.loads(lines[-1])["generated"]
    assert found["model"] == "decay-1-1-epochs" and set(found["cost"]) == set(COST)
    for task in ("owner", "label", "next_session"):
        assert found[task]["floor"] and found[task]["intervals"]
    assert any(line.startswith("cosernn-1-1-epochs") for line in lines)
    done = len(said)
    again = list(Suite(binary, None, tmp_path, ["decay", "cosernn"], said.append, epochs_max=1).run())
    assert [line for line in said[done:] if "left out" not in line] == []  # what was trained and judged is kept
    assert again == lines


def result(auc: float, extra: dict[str, Any] | None = None) -> Result:
    drawn = {"auc": np.array([auc - 0.1, auc, auc + 0.1])}
    figures = {"auc": auc, "ap": None, "hit_at_5": None, "hit_at_1": None}
    floor = Method("floor", True, {**figures, "auc": 0.5}, {"auc": np.array([0.4, 0.6])})
    return Result("owner", {"test": 3}, 0, 0, [Method("head x", False, figures, drawn), floor], [], extra or {})


def test_seeds_become_their_mean_with_its_own_intervals() -> None:
    seeds = [(Path(f"m-{i}"), {"owner": result(auc, {"early": {"1": {"auc": auc}}})}, COST) for i, auc in
             enumerate((0.6, 0.8))]  # fmt: skip
    ((path, results, costs),) = suite.mean_of(seeds, "m")
    assert (path.name, costs) == ("m, mean of 2", COST)
    own = results["owner"].judged
    assert own and own.figures["auc"] == pytest.approx(0.7)
    assert own.intervals["auc"] == pytest.approx((0.605, 0.795))
    assert results["owner"].extra["early"] == {"1": {"auc": 0.7}}
    flat = suite.summary("sea", [(path, results, costs), *seeds])
    assert flat["auc"] == pytest.approx(0.7) and flat["floor"]["auc"] == 0.5 and flat["early"] == {"1": 0.7}
    assert any(line.startswith("m, mean of 2") for line in report.many([(path, results, costs), *seeds]))
    assert suite.mean_of(seeds[:1], "m") == []


def test_the_mean_of_what_only_one_has_is_none() -> None:
    one, other = (result(auc).methods[0] for auc in (0.6, 0.8))
    other.figures["auc"] = None
    assert mean([one, other], "both").figures["auc"] is None


def test_settings_of_the_suite_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, binary: Path) -> None:
    monkeypatch.setenv("DCE", str(binary))
    for environment, why in (
        ({}, "WORK must name"),
        ({"WORK": str(tmp_path), "EPOCHS_MAX": "few"}, "EPOCHS_MAX is 'few'"),
        ({"WORK": str(tmp_path), "MODELS": "best"}, "model 'best': must be one of"),
        ({"WORK": str(tmp_path), "DEVICE": "cuda:999"}, "device cuda:999: "),
    ):
        with pytest.raises(SpecError, match=why):
            suite.main(environment, lambda _: None)
