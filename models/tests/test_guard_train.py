"""A whole guard on a small made-up bank, in seconds: trained, exported, checked, and what it does with a stranger."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from dce_models import bundle, check, export, spec, train  # noqa: E402
from dce_models.clicks import Customer, Session  # noqa: E402
from dce_models.features import Features  # noqa: E402
from dce_models.folder import Label  # noqa: E402
from dce_models.guard import gather, member, settings, trainer, words  # noqa: E402
from dce_models.material import Material  # noqa: E402

CONFIG = Path(__file__).resolve().parent.parent / "guard.toml"
QUICK = {"encoder_steps": 30, "nets": 1, "epochs": 14, "rows_wanted": 400, "pair_buckets": 32, "groups": 3, "width": 16}
DAY_MS = 86_400_000


def customer(number: int, sessions: int) -> Customer:
    """Has favourites among the names, and a device."""
    chance = random.Random(number)
    favourites = [f"page-{chance.randrange(30)}" for _ in range(4)]
    made = []
    for k in range(sessions):
        start = 1_767_225_600_000 + k * DAY_MS
        events: list[dict[str, Any]] = []
        for i in range(chance.randrange(3, 12)):
            name = chance.choice(favourites) if chance.random() < 0.9 else f"page-{chance.randrange(30)}"
            known = {"kind": "LOGIN" if i == 0 else "ACTION", "name": name, "device_id": f"d{number}"}
            events.append(known | {"event_time": start + i * 4000, "session_id": f"s{k}"})
        end = events[-1]["event_time"]
        made.append(Session(start, end, end, events, None))
    return Customer(f"c{number}", made)


def material(**changed: Any) -> Material:  # noqa: ANN401
    config = spec.load(CONFIG)
    config.training.update(QUICK | changed)
    return Material(config, [customer(n, 20) for n in range(12)])


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def made() -> train.Run:
    return train.train("guard", material(), 1, quiet)


def test_the_bundle_passes_check(made: train.Run, tmp_path: Path) -> None:
    assert export.export(train.parts(made), tmp_path / "bundle") == []
    read = bundle.read(tmp_path / "bundle")
    assert read.raw["heads"]["takeover"]["inputs"] == ["state", "session"]
    assert check.check(tmp_path / "bundle") == []


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(made: train.Run, tmp_path: Path) -> None:
    for name, run in (("a", made), ("b", train.train("guard", material(), 1, quiet)), ("c", None)):
        run = run or train.train("guard", material(), 2, quiet)
        train.save(run, tmp_path / f"{name}.pt")
        assert export.export(train.parts(train.load(tmp_path / f"{name}.pt")), tmp_path / name) == []
    a, b, c = (bundle.read(tmp_path / name) for name in "abc")
    assert a.files == b.files != c.files


def judged(run: train.Run, past: list[Session], session: Session) -> tuple[float, float]:
    """The score of a session after others, and its gate."""
    spec_, layout, words, guard, bias = member.restored(run)
    forward = member.GuardForward(layout, words, guard, bias)
    features = Features(spec_, run["vocabulary"])

    def vector(session: Session) -> Any:  # noqa: ANN401
        fields, numbers = (torch.from_numpy(x)[None] for x in features.session(session.events))
        return forward.encode(fields, numbers, torch.tensor([fields.shape[1]], dtype=torch.int32))

    rest = torch.zeros(1, 1), torch.zeros(1, 4), torch.zeros(1, spec_.context_columns)
    state = torch.zeros(1, layout.state)
    for known in past:
        state, _ = forward.step(state, vector(known), *rest)
    given = vector(session)
    return float(forward.takeover({"state": state, "session": given})), float(forward.step(state, given, *rest)[1])


def test_a_stranger_scores_higher_and_moves_the_state_less(made: train.Run) -> None:
    scores: dict[bool, list[float]] = {False: [], True: []}
    weights: dict[bool, list[float]] = {False: [], True: []}
    for number in range(12):
        own = customer(number, 21).sessions
        for strange, session in ((False, own[20]), (True, customer(100 + number, 1).sessions[0])):
            score, weight = judged(made, own[:20], session)
            scores[strange].append(score)
            weights[strange].append(weight)
    assert np.median(scores[True]) > 2 * np.median(scores[False])
    assert np.mean(weights[True]) < 0.4 < 0.8 < np.mean(weights[False])


def test_an_empty_state_is_read_as_a_vector(made: train.Run) -> None:
    _, layout, words, guard, bias = member.restored(made)
    read = member.GuardForward(layout, words, guard, bias).read(
        torch.zeros(1, layout.state), torch.zeros(1, 1), torch.zeros(1, 4), torch.zeros(1, 2)
    )
    assert float(read.norm()) == pytest.approx(1, abs=1e-5)


def test_a_labelled_intrusion_is_no_session_of_the_customers_own() -> None:
    given = material()
    second = given.customers[0].sessions[1]
    given.labels.append(Label("owner", "c0", "s1", second.start, "1", "train"))
    found = gather.gathered(given, settings.settings(given.spec.training), 1)
    assert found.strange.tolist() == [0, 1] + [0] * (12 * 20 - 2)
    assert found.labelled.sum() == 1
    # The known strangers alone say nothing of how many there are.
    assert trainer.base_rate(found, settings.settings({})) == trainer.RATE


def robbed() -> Material:
    """Everybody's sessions 13, 16 and 18 are a thief's: on the customer's own device he does what only thieves do."""
    given = material()
    for c in given.customers:
        for k, session in enumerate(c.sessions):
            strange = k in (13, 16, 18)
            if strange:
                for event in session.events[1:]:
                    event["name"] = ("page-3", "new-payee", "empty-account")[event["event_time"] // 4000 % 3]
            given.labels.append(Label("owner", c.customer_id, f"s{k}", session.start, str(int(strange)), "train"))
    return given


def test_strangers_that_labels_name_teach_what_strangers_do(tmp_path: Path) -> None:
    said: list[str] = []
    run = train.train("guard", robbed(), 1, said.append)
    assert any(line.startswith("36 strangers' sessions have labels") for line in said)
    assert sum("(labelled, customers cross-fitted)" in line for line in said) == 2
    assert run["population"]["strangers"].shape[1] == len(run["layout"]["columns"])
    assert export.export(train.parts(run), tmp_path / "bundle") == []
    own = robbed().customers[0].sessions
    (low, let_in), (high, kept_out) = (judged(run, own[:13], session) for session in (own[14], own[13]))
    assert 1000 * low < high and kept_out < 0.1 < 0.9 < let_in


def test_few_named_strangers_change_nothing_but_the_sample(made: train.Run) -> None:
    assert "strangers" not in made["population"]
    given = robbed()
    given.labels = given.labels[:40]  # of two customers
    found = gather.gathered(given, settings.settings(given.spec.training), 1)
    assert not trainer.is_named(found) and found.rate == 6 / 40


def test_a_number_that_few_events_have_is_cut_where_they_have_it() -> None:
    values = np.zeros(1000, np.float32)
    values[::10] = np.linspace(-1, 3, 100)
    found = words.edges_of(values, 4, is_always_there=False)
    assert found == pytest.approx([0, 0, 1, 2], abs=0.03) and found[0] < 0 == found[1]
    assert words.edges_of(values, 4, is_always_there=True).tolist() == [0.0]
    assert words.edges_of(values[1:10], 4, is_always_there=False).tolist() == []
    full = values[::10]
    assert words.edges_of(full, 4, is_always_there=False) == pytest.approx([0, 1, 2], abs=1e-6)


def test_whom_labels_call_robbed_comes_first_where_they_are_enough() -> None:
    people = [customer(n, 3) for n in range(40)]
    s = settings.settings({"customers_max": 12})

    def drawn(robbed: set[str]) -> set[str]:
        return {c.customer_id for c in gather.draw(people, s, 1, robbed)}

    robbed = {f"c{n}" for n in range(7, 37, 3)}
    assert len(robbed) == gather.ROBBED_MIN and not robbed <= drawn(set())
    assert robbed < drawn(robbed)
    assert drawn(robbed - {"c7"}) == drawn(set())


def test_strangers_at_few_customers_or_in_first_sessions_teach_nothing() -> None:
    found = gather.gathered(robbed(), settings.settings(robbed().spec.training), 1)
    assert trainer.is_named(found) and int(found.strange.sum()) == 36
    host = torch.repeat_interleave(torch.arange(found.sample.customers), torch.tensor(found.sample.first).diff())
    at_few = replace(found, strange=(host < gather.ROBBED_MIN - 1) * torch.ones(len(host)))
    assert int(at_few.strange[at_few.labelled].sum()) >= trainer.NAMED_MIN and not trainer.is_named(at_few)
    moved = found.strange.clone()
    for at in found.sample.first[:-1]:  # one of the three of each customer to where nothing is judged
        moved[at + int(moved[at:].nonzero()[0])], moved[at] = 0.0, 1.0
    assert moved.sum() == 36 and not trainer.is_named(
        replace(found, strange=moved, labelled=found.labelled | (moved > 0))
    )


def test_a_label_without_a_session_is_that_of_the_one_that_began_last() -> None:
    def session(start: int, end: int) -> Session:
        return Session(start, end, end, [{"event_id": "e", "event_time": start, "kind": "LOGIN"}], None)

    customer = Customer("ana", [session(0, 100), session(40, 60)])
    label = Label("owner", "ana", "", 50, "1", "train")
    assert gather.answers([customer], [label]) == ([0.0, 1.0], [False, True])


def test_the_score_is_calibrated_for_the_rate_that_is_asked_for() -> None:
    random_ = np.random.default_rng(1)
    y = torch.from_numpy((random_.random(40_000) < 0.15).astype(np.float32))
    z = torch.from_numpy(random_.normal(0, 1, 40_000).astype(np.float32)) + 2 * y
    c = trainer.calibrated(z, y, 0.01)
    p = torch.sigmoid(c.factor * z + c.shift)
    rare = p[(y == 0)].mean() * 0.99 + p[y == 1].mean() * 0.01
    assert float(rare) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("nets", 0, "must be 1 or more"),
        ("nets", 1.5, "must be a number like"),
        ("goes_on", 1.0, "between 0 and 1"),
        ("profile_decays", [], "one or more decays"),
        ("closed_above", 0.01, "in this order"),
    ],
)
def test_a_wrong_setting_is_refused(key: str, value: Any, why: str) -> None:  # noqa: ANN401
    with pytest.raises(spec.SpecError, match=f"training.{key}.*|training.*{key}.*") as wrong:
        settings.settings({key: value})
    assert why in str(wrong.value)


def test_one_customer_is_too_few() -> None:
    given = material()
    given.customers = given.customers[:1]
    with pytest.raises(spec.SpecError, match="two at least"):
        train.train("guard", given, 1, quiet)
