"""What comes after a moment cannot change what a label of that moment is judged on: everything after it is deleted, or
replaced, the clicks run through `dce replay` again, and the joined records must have the same bits. The same for the
features that floors and readers take from the clicks."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dce_models import dce as pipeline
from dce_models import folder as folders
from dce_models.evaluate import handmade, history, join, reading, records, situation
from dce_models.evaluate.candidates import Matrix
from dce_models.evaluate.records import NONE, Codes
from dce_models.folder import COLUMNS, Folder, Label
from dce_models.spec import SpecError

Clicks = list[dict[str, Any]]
Seen = dict[Label, tuple[int, bytes, dict[str, bytes]]]


@pytest.fixture(scope="module")
def bank(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clicks, list[Label]]:
    """Clicks of a small generated bank that arrive up to 5 s late, and its labels with the next names among them."""
    path = tmp_path_factory.mktemp("bank") / "bank"
    arguments = ["--customers", "30", "--days", "8", "--takeovers", "0.3", "--seed", "3", "--shuffle", "5"]
    pipeline.run(binary, ["generate", *arguments, "--out", path])
    made = folders.open_folder(path)
    clicks = list(folders.clicks(made))
    cut = sorted(c["event_time"] for c in clicks)[len(clicks) // 4]
    following = [
        Label("next", c["customer_id"], c.get("session_id") or "", c["event_time"], c["name"], split)
        for c in clicks
        if c["kind"] != "LOGIN" and (split := "train" if c["event_time"] < cut else "test")
    ]
    return clicks, [*made.labels, *following]


def write(path: Path, clicks: Clicks, labels: list[Label]) -> Folder:
    path.mkdir()
    (path / "clicks.ndjson").write_text("".join(json.dumps(c) + "\n" for c in clicks))
    rows = (",".join(str(getattr(x, name)) for name in COLUMNS) for x in labels)
    (path / "labels.csv").write_text("\n".join([",".join(COLUMNS), *rows]) + "\n")
    return folders.open_folder(path)


def deleted(clicks: Clicks, moment: int) -> Clicks:
    return [c for c in clicks if c["event_time"] < moment]


def replaced(clicks: Clicks, moment: int) -> Clicks:
    """The past, then another world: other names, amounts and times, other customers' clicks, more of them."""
    draw = random.Random(5)
    made = deleted(clicks, moment)
    after = [c for c in clicks if c["event_time"] >= moment]
    for i, click in enumerate(sorted(after * 2, key=lambda c: c["event_time"])):
        other = {**draw.choice(after), "event_id": f"other-{i}", "event_time": click["event_time"]}
        other["attributes"] = {"amount": str(draw.randint(1, 10**6))}
        made.append({**other, "customer_id": click["customer_id"], "session_id": click.get("session_id")})
    return made


def loaded(binary: Path, bundle: Path, folder: Folder, work: Path) -> tuple[situation.Situation, dict[str, join.Asked]]:
    work.mkdir()
    made, sessions = pipeline.replay(binary, folder, bundle, work)
    customers, session_ids = Codes(), Codes()
    read = records.read(made, customers, session_ids)
    clicks = history.load(folder, sessions, customers, session_ids)
    asked = {task: join.ask(folder.of(task), customers, session_ids) for task in folders.TASKS}
    return situation.Situation(folder, clicks, read, len(session_ids), {}, 1), asked


def seen(s: situation.Situation, asked: dict[str, join.Asked], moment: int) -> Seen:
    """Each label before the moment with what it is judged on: as_of, embedding, scores."""
    made: Seen = {}
    for task, questions in asked.items():
        if task == "owner":
            joined = join.containing(questions, s.records)
        elif task == "next":
            joined = join.of_session(questions, s.records, s.session_ids)
        else:
            joined = join.of_customer(questions, s.records)
        hit = np.flatnonzero(joined.hit)
        vectors, scores = s.records.gather(joined.row[hit])
        for i, label in enumerate(hit.tolist()):
            row, text = int(joined.row[label]), s.folder.of(task)[label]
            if task == "owner" and s.records.as_of[row] >= moment:
                continue  # its session had not ended
            if task == "next" and not text.session_id and text.event_time == moment:
                continue  # only its own click, which is gone, says which session it is about
            if text.event_time <= moment:
                bits = {name: values[i].tobytes() for name, values in scores.items()}
                made[text] = (int(s.records.as_of[row]), vectors[i].tobytes(), bits)
    return made


@pytest.mark.parametrize("future", [deleted, replaced])
def test_the_future_changes_no_bit_of_what_a_label_is_judged_on(
    binary: Path,
    bank_small: Path,
    bank: tuple[Clicks, list[Label]],
    tmp_path: Path,
    future: Callable[[Clicks, int], Clicks],
) -> None:
    clicks, labels = bank
    whole, asked = loaded(binary, bank_small, write(tmp_path / "whole", clicks, labels), tmp_path / "w")
    times = sorted(c["event_time"] for c in clicks)
    for share in (0.4, 0.8):
        moment = times[int(len(times) * share)]
        past = [x for x in labels if x.event_time <= moment]
        other = write(tmp_path / f"other-{share}", future(clicks, moment), past)
        changed, asked_again = loaded(binary, bank_small, other, tmp_path / f"w-{share}")
        before, after = seen(whole, asked, moment), seen(changed, asked_again, moment)
        assert {x.task for x in before} == set(folders.TASKS)
        assert before.keys() == after.keys()
        assert [x for x in before if before[x] != after[x]] == []
        same_features(whole, asked, changed, asked_again, moment)


def same_features(
    whole: situation.Situation,
    asked: dict[str, join.Asked],
    changed: situation.Situation,
    again: dict[str, join.Asked],
    moment: int,
) -> None:
    """Of the floors, and of the reader of the task `next`."""
    columns, columns_again = (handmade.columns_of(x.history, x.folder.cut_ms) for x in (whole, changed))
    assert whole.folder.cut_ms == changed.folder.cut_ms
    for task in ("label", "next_session"):
        rows = asked[task].time <= moment
        assert rows.sum() == len(again[task])
        a = handmade.as_of(whole.history, asked[task].customer[rows], asked[task].time[rows], columns)
        b = handmade.as_of(changed.history, again[task].customer, again[task].time, columns_again)
        for x, y in ((a.last, b.last), (a.counts, b.counts), (a.decayed[0.5], b.decayed[0.5]), (a.more, b.more)):
            assert np.array_equal(x, y, equal_nan=True)
    questions = zip(walked(whole, asked["next"], moment), walked(changed, again["next"], moment), strict=True)
    assert all(one == other for one, other in questions)


def walked(
    s: situation.Situation, asked: join.Asked, moment: int
) -> Iterator[tuple[int, str, frozenset[tuple[str, bytes]]]]:
    """Some questions up to the moment: when, what came, and the candidates with their features."""
    rows = np.flatnonzero((asked.time <= moment) & ((asked.session_id != NONE) | (asked.time < moment)))
    rows = rows[np.argsort(asked.time[rows], kind="stable")][-300:].astype(np.int64)
    joined = join.of_session(asked, s.records, s.session_ids)
    parts = {"train": rows[:0], "valid": rows[:0], "test": rows}
    seen: dict[int, tuple[records.Ints, Matrix]] = {}

    class Kept(reading.Told):
        def ask(self, split: str, at: int, pool: records.Ints, features: Matrix, truth: int) -> None:
            seen[at] = pool, features

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "Told", Kept)
        reading.walk_through(s, asked, joined, reading.sessions_of(s, asked), parts, leave_out=False)
    texts = list(s.history.names.of)
    assert sorted(seen) == list(range(len(rows)))
    for at, row in enumerate(rows.tolist()):
        pool = frozenset((texts[n], f.tobytes()) for n, f in zip(*seen[at], strict=True))
        yield int(asked.time[row]), asked.text[row], pool


def test_a_missing_binary_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DCE", str(tmp_path / "none"))
    with pytest.raises(SpecError, match="is no file: --dce and DCE name the dce binary"):
        pipeline.find()
