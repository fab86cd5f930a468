"""What a model learns from: sessions as the pipeline cuts them, and labels, nothing of which lies in the future of a
label that the model will be judged by."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from . import clicks, discover, folder
from .clicks import Customer
from .dce import gap_ms, sets
from .dce import run as run_dce
from .folder import Folder, Label
from .spec import Spec, SpecError

Say = Callable[[str], None]


@dataclass
class Material:
    spec: Spec  # its means and scales are still to be fitted
    customers: list[Customer]  # sessions of the events before the cut
    labels: list[Label] = field(default_factory=list)  # of the split `train`, before the cut
    later: list[Customer] = field(default_factory=list)  # all sessions before the first test label: to choose by
    valid: list[Label] = field(default_factory=list)  # of the split `valid`, before the first test label
    encoder: dict[str, Any] | None = None  # another run on the same data, whose session encoder is taken as it is


def of_folder(path: Path, config: Spec | None, dce: Path, say: Say, settings: Sequence[str] = ()) -> Material:
    """A data set: without a configuration, what it holds decides what is read of it. `settings` (key=value) are those
    of the pipeline that the model is for: sessions cut by other rules would be other sessions."""
    data = folder.open_folder(path)
    spec = config or discover.spec(data)
    if config is None:
        say(f"found: {discover.summary(spec)}")
    cut, test = data.cut_ms, data.test_ms
    customers = cut_sessions(data, cut, dce, settings)
    if not any(c.sessions for c in customers):
        raise SpecError(f"{path} has no session before its first valid or test label: there is nothing to learn from")
    valid = [x for x in data.labels if x.split == "valid" and (test is None or x.event_time < test)]
    return Material(
        spec=spec,
        customers=customers,
        labels=[x for x in data.labels if x.split == "train" and (cut is None or x.event_time < cut)],
        later=cut_sessions(data, test, dce, settings) if valid else [],
        valid=valid,
    )


def of_files(clicks_path: Path, rows_path: Path, spec: Spec) -> Material:
    """Clicks without labels, and what `dce sessions --json` printed of them, by the default rules."""
    return Material(spec, clicks.load(clicks_path, rows_path))


def cut_sessions(data: Folder, before: int | None, dce: Path, settings: Sequence[str] = ()) -> list[Customer]:
    """The sessions that the pipeline cuts out of the events before a moment; of all if there is none."""
    with TemporaryDirectory() as scratch:
        events, rows = Path(scratch) / "clicks.ndjson", Path(scratch) / "sessions.ndjson"
        folder.cut_clicks(data, events, before)
        with rows.open("wb") as out:
            run_dce(dce, ["sessions", "--json", events, *sets(settings)], out)
        return clicks.load(events, rows, gap_ms(dce, settings))
