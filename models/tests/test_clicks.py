"""From clicks and the sessionizer's rows to what is trained on."""

import json
from pathlib import Path
from typing import Any

from dce_models import clicks

LOGIN = {"balance": 10.0}


def event(event_id: str, time: int, kind: str = "PAGE_VIEW", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"event_id": event_id, "customer_id": "ana", "event_time": time, "kind": kind, "name": "home"} | more


def row(uid: str, opened_by: str, reason: str, *events: dict[str, Any], revision: int = 0) -> dict[str, Any]:
    return {
        "what": "session",
        "customer_id": "ana",
        "key": "s:1",
        "uid": uid,
        "revision": revision,
        "start": events[0]["event_time"],
        "end": events[-1]["event_time"],
        "opened_by": opened_by,
        "reason": reason,
        "events": [e["event_id"] for e in events],
    }


def load(tmp_path: Path, events: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[clicks.Session]:
    (tmp_path / "clicks").write_text("".join(json.dumps(e) + "\n" for e in events))
    folds = list(dict.fromkeys(r["uid"] for r in rows))
    end = {"what": "customer", "customer_id": "ana", "folds": folds}
    (tmp_path / "rows").write_text("".join(json.dumps(r) + "\n" for r in [*rows, end]))
    (customer,) = clicks.load(tmp_path / "clicks", tmp_path / "rows")
    return customer.sessions


def test_the_last_revision_counts(tmp_path: Path) -> None:
    a, b = event("a", 1), event("b", 2)
    (session,) = load(tmp_path, [b, a], [row("b", "IMPLICIT", "GAP", b), row("b", "IMPLICIT", "GAP", a, b, revision=1)])
    assert [e["event_id"] for e in session.events] == ["a", "b"]
    assert (session.start, session.closed_at) == (1, 2 + clicks.GAP_MS)


def test_what_continues_a_capped_session_inherits_its_context_and_outset(tmp_path: Path) -> None:
    a, b, c, d = event("a", 1, "LOGIN", context=LOGIN), event("b", 2), event("c", 3), event("d", 9_000_000)
    rows = [
        row("a", "LOGIN", "EVENTS_MAX", a),
        row("b", "CONTINUED", "EVENTS_MAX", b),
        row("c", "CONTINUED", "GAP", c),
        row("d", "IMPLICIT", "GAP", d),
    ]
    made = load(tmp_path, [a, b, c, d], rows)
    assert [s.context for s in made] == [LOGIN, LOGIN, LOGIN, None]
    assert [s.outset for s in made] == [None, made[0], made[0], None]


def test_a_login_without_context_is_not_a_missing_login(tmp_path: Path) -> None:
    a = event("a", 1, "LOGIN")
    (session,) = load(tmp_path, [a], [row("a", "LOGIN", "LOGOUT", a)])
    assert session.context == {}


def test_lines_that_are_no_events_are_skipped(tmp_path: Path) -> None:
    good = event("a", 1)
    (tmp_path / "clicks").write_text("\n".join(["{", "[1]", "", json.dumps(event("t", 1, "TICK")), json.dumps(good)]))
    assert list(clicks.read_clicks(tmp_path / "clicks")) == [good]
