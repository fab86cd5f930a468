"""A whole run on a bank of forty made-up customers, in seconds. Needs PyTorch; skipped where it is not installed."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dce_models import autoencoder, bundle, check, clicks, export, material, network, spec, train  # noqa: E402
from dce_models.zoo import sessions  # noqa: E402

CONFIG = Path(__file__).resolve().parent.parent / "bank-small.toml"
QUICK = {"session_epochs": 1, "customer_epochs": 1, "vocabulary_customers_min": 2}


def bank(folder: Path) -> tuple[Path, Path]:
    """Clicks, and the rows that a sessionizer gives for them."""
    chance = random.Random(1)
    events: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for customer in (f"c{n}" for n in range(40)):
        uids = []
        time = 1_767_225_600_000
        for _ in range(chance.randrange(1, 8)):
            time += chance.randrange(3_600_000, 400_000_000)
            own = [{"kind": "LOGIN", "name": "login", "context": {"balance": chance.gauss(0, 1000)}}]
            own += [{"kind": "ACTION", "name": f"page-{chance.randrange(9)}"} for _ in range(chance.randrange(6))]
            ids = []
            for e in own:
                time += chance.randrange(30_000)
                ids.append(f"e{len(events)}")
                events.append(e | {"event_id": ids[-1], "customer_id": customer, "event_time": time, "channel": "web"})
            start = events[-len(own)]["event_time"]
            known = {"customer_id": customer, "key": "d:3:web/", "uid": ids[0], "opened_by": "LOGIN", "reason": "GAP"}
            rows.append({"what": "session", "revision": 0, "start": start, "end": time, "events": ids} | known)
            uids.append(ids[0])
        rows.append({"what": "customer", "customer_id": customer, "folds": uids})
    click_path, rows_path = folder / "clicks.ndjson", folder / "sessions.ndjson"
    click_path.write_text("".join(json.dumps(e) + "\n" for e in events))
    rows_path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return click_path, rows_path


def run(folder: Path, seed: int, **training: Any) -> train.Run:  # noqa: ANN401 # of a configuration
    config = spec.load(CONFIG)
    config = replace(config, training=config.training | QUICK | training)
    return train.train("dce", material.of_files(*bank(folder), config), seed, lambda line: None)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train.save(run(tmp_path, seed), tmp_path / f"{name}.pt")
        assert export.export(train.parts(train.load(tmp_path / f"{name}.pt")), tmp_path / name) == []
    a, b, c = (bundle.read(tmp_path / name) for name in "abc")
    assert a.files == b.files != c.files


@pytest.mark.parametrize("first", [0, 1])
def test_both_stages_can_learn_together(tmp_path: Path, first: int) -> None:
    staged = run(tmp_path, 1, session_epochs=first)
    for moves in (False, True):
        joint = run(tmp_path, 1, session_epochs=first, customer_epochs=0, joint_epochs=2, joint_moves=moves)
        for part in ("encoder", "customer"):
            assert any(not torch.equal(staged[part][n], joint[part][n]) for n in staged[part])
        assert export.export(train.parts(joint), tmp_path / f"joint-{moves}") == []


def test_the_vectors_can_be_turned_back(tmp_path: Path) -> None:
    encoder = network.SessionEncoder(spec.load(CONFIG), [9, 9, 9])
    vectors = torch.randn(500, 48) @ torch.randn(48, 48) + 3
    before = encoder.out.weight.clone(), encoder.out.bias.clone()
    back = autoencoder.spread(encoder, vectors)
    assert back
    torch.testing.assert_close(back[0].T @ encoder.out.weight, before[0], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(encoder.out.bias @ back[0] + back[1], before[1], atol=1e-3, rtol=1e-3)


def test_a_run_that_check_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = run(tmp_path, 1)
    broken["customer"]["out.bias"][0] = float("nan")
    wrong = export.export(train.parts(broken), tmp_path / "bundle")
    assert any("customer_read: embedding is not finite" in why for why in wrong)
    assert not (tmp_path / "bundle").exists()


def test_a_file_that_is_no_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "run.pt").write_text("nothing")
    with pytest.raises(spec.SpecError, match="is no run"):
        train.load(tmp_path / "run.pt")


def test_a_manifest_reads_back_as_the_run(tmp_path: Path) -> None:
    made = train.parts(run(tmp_path, 1))
    assert export.export(made, tmp_path / "bundle", version="7") == []
    read = bundle.read(tmp_path / "bundle").spec
    assert read.version == "7"
    assert (read.context, read.numbers, read.dimensions) == (made.spec.context, made.spec.numbers, made.spec.dimensions)
    found = check.session(tmp_path / "bundle" / "customer_read.onnx").get_outputs()[0]
    assert (found.name, found.shape[-1]) == ("embedding", made.spec.dimensions.embedding)


def test_what_comes_later_cannot_change_what_was_foretold(tmp_path: Path) -> None:
    from dce_models import dataset, features, pretext

    made = run(tmp_path, 1)
    fitted, _ = sessions.encoder_of(made)
    model = network.CustomerModel(fitted)
    model.load_state_dict(made["customer"])
    f = features.Features(fitted, made["vocabulary"])
    data = dataset.build(f, [c for c in clicks.load(*bank(tmp_path)) if len(c.sessions) > 4][:1], seed=1)
    vectors = torch.from_numpy(np.random.default_rng(1).normal(size=(len(data.fields), 48)).astype(np.float32))
    before = next(pretext.one_by_one(data, vectors))
    vectors[3:] += 1.0
    after = next(pretext.one_by_one(data, vectors))
    moved = (pretext.foretold(model, before) != pretext.foretold(model, after)).flatten(2).any(-1)[0]
    assert moved.tolist()[:3] == [False, False, False] and moved.tolist()[3]
