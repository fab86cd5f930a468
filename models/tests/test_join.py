"""Which record a label is judged on, by the rules' own words, on records made by hand."""

from pathlib import Path

import numpy as np

from dce_models.evaluate import join
from dce_models.evaluate.records import Codes, Records
from dce_models.folder import Label

# customer, sequence, settled, session_id, session, start, end, as_of, events
ROWS = [
    (0, 1, False, 0, 0, 10, 10, 10, 1),
    (0, 2, False, 0, 0, 10, 20, 20, 2),
    (0, 3, True, 0, 0, 10, 30, 30, 3),
    (0, 4, False, 1, 1, 25, 25, 30, 1),  # a second session, open beside the first; as_of ties with the record before
    (0, 5, True, 1, 1, 25, 60, 60, 4),
    (0, 6, True, 0, 0, 10, 40, 61, 4),  # the first one, revised
    (1, 1, True, -1, 2, 15, 50, 50, 2),
    (1, 2, True, -1, 3, 50, 70, 70, 2),
]


def made() -> Records:
    c = [np.array(column) for column in zip(*ROWS, strict=True)]
    nothing = np.full(len(ROWS), np.nan)
    return Records(
        Path(), c[0], c[1], c[2].astype(bool), c[3], c[4], [], c[5], c[6], c[7], c[8], nothing, np.ones(len(ROWS))
    )


def asked(task: str, *labels: tuple[str, str, int]) -> join.Asked:
    customers, sessions = Codes(), Codes()
    for text in ("ana", "bo"):
        customers.add(text)
    for text in ("s0", "s1"):
        sessions.add(text)
    return join.ask([Label(task, c, s, t, "1", "test") for c, s, t in labels], customers, sessions)


def test_owner_is_the_last_revision_of_the_session_that_holds_the_moment() -> None:
    found = join.containing(
        asked(
            "owner",
            ("ana", "s0", 10),
            ("ana", "s0", 40),  # inside after the revision alone
            ("ana", "s0", 41),  # after it
            ("ana", "s1", 30),
            ("ana", "", 30),  # in both: the one that began last
            ("bo", "", 50),  # ends here, and the next begins here
            ("bo", "s0", 20),  # has no such session
            ("who", "", 20),
        ),
        made(),
    )
    assert found.row.tolist() == [5, 5, -1, 4, 4, 7, -1, -1]
    assert found.ties == 2


def test_an_outcome_sees_records_strictly_before_it() -> None:
    found = join.of_customer(
        asked("label", ("ana", "", 10), ("ana", "", 11), ("ana", "", 30), ("ana", "", 31), ("who", "", 99)), made()
    )
    assert found.row.tolist() == [-1, 0, 1, 3, -1]
    assert found.ties == 1  # two records of ana are as of 30


def test_the_next_name_sees_its_own_session_alone() -> None:
    found = join.of_session(
        asked("next", ("ana", "s1", 30), ("ana", "s1", 31), ("ana", "s0", 61), ("ana", "s0", 62), ("bo", "", 70)),
        made(),
        2,
    )
    assert found.row.tolist() == [-1, 3, 2, 5, -1]


def test_no_records_at_all() -> None:
    none = made()
    for name in ("customer", "sequence", "settled", "session_id", "uid", "start", "end", "as_of", "event_count"):
        setattr(none, name, getattr(none, name)[:0])
    questions = asked("next", ("ana", "s1", 30), ("bo", "", 3))
    assert join.of_customer(questions, none).row.tolist() == [-1, -1]
    assert join.of_session(questions, none, 2).row.tolist() == [-1, -1]
    assert join.containing(questions, none).row.tolist() == [-1, -1]
