"""What a head is trained on is what the pipeline hands it: the scores of `dce replay`'s records, provisional ones
included, beside those of the same heads on the inputs that training would take at the same moments."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dce_models import bundle, folder, frozen, material  # noqa: E402
from dce_models import dce as pipeline  # noqa: E402
from dce_models.evaluate import records  # noqa: E402
from dce_models.evaluate.records import Codes  # noqa: E402
from dce_models.heads import world  # noqa: E402

NEAR = 1e-4
LATE = 0.01  # share of records that may differ: a session closes in the pipeline up to session.allowed_lateness later


@pytest.mark.parametrize("settings", [(), ("session.events_max=6",)], ids=["usual", "cut by a limit"])
def test_training_sees_what_the_pipeline_sees(
    binary: Path, bank_small: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    path = tmp_path / "bank"
    pipeline.run(binary, ["generate", "--customers", "60", "--days", "10", "--seed", "6", "--out", path])
    data = folder.open_folder(path)
    made, _ = pipeline.replay(binary, data, bank_small, tmp_path, settings)
    customers = Codes()
    found = records.read(made, customers, Codes())
    _, scores = found.gather(np.arange(len(found)))
    parts = frozen.parts_of(bundle.read(bank_small))
    cut = material.cut_sessions(data, None, binary, settings)
    w = world.world_of(parts.spec, parts.vocabulary, parts.forward, cut, seed=1)
    names = [w.customers[c].customer_id for c in w.owner.tolist()]
    row_of = {key: i for i, key in enumerate(zip(names, w.start.tolist(), strict=True))}
    codes = list(customers.of)
    keys = zip((codes[c] for c in found.customer.tolist()), found.start.tolist(), strict=True)
    row = np.array([row_of.get(key, -1) for key in keys], np.int64)
    moment = np.where(found.settled, found.as_of, found.end)
    there = np.flatnonzero((row >= 0) & (found.event_count <= world.whole(w, np.maximum(row, 0))))
    assert len(there) > 0.98 * len(found)
    asked = world.Asked(row[there], row[there], found.event_count[there].astype(np.int64), moment[there])
    beside = world.folded_before(w, asked) != asked.row - w.first[w.owner[asked.row]]
    assert beside.any()  # sessions that ran beside others and had not closed
    continued = w.outset[asked.row] != asked.row
    assert continued.any() == bool(settings)
    for head in parts.heads:
        ours = head.run(world.inputs(w, asked, head.inputs)).numpy()
        away = np.abs(ours - scores[head.name][there]).max(axis=1)
        for rows in (found.settled[there], ~found.settled[there], beside, *([continued] if settings else [])):
            assert (away[rows] > NEAR).mean() < LATE, head.name
