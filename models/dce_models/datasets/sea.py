"""SEA: 15,000 UNIX commands each of 50 people, with other people's commands spliced in (Schonlau et al., Statistical
Science 2001). A block of 100 commands is a session: the first command is its LOGIN, the last its LOGOUT.

**The times are made up**: the set has none. Block b of every user lies in day b, from 9:00 UTC on, a command every
five seconds, the same for all users, so that time tells nobody from anybody. The blocks 0-49 (`train`, clean by the
set's word) so end before the first of the blocks 50-149 (`test`) begins.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..folder import Label
from . import write

COLUMNS = ("user", "seq", "block", "is_masquerade", "command")
FIRST_DAY_MS = 1_767_571_200_000  # Monday, 2026-01-05
DAY_MS = 86_400_000
OPENS_MS = 9 * 3_600_000
STEP_MS = 5_000
BLOCK = 100
TRAINED = 50  # blocks of a user that are known to be his own

Block = tuple[list[str], str]  # commands; "1" for a masquerade's


def convert(source: Path, out: Path) -> str:
    """Writes the folder and says what is in it."""
    blocks = read(source)
    with write.whole(out) as draft:
        write.clicks(draft, events(blocks))
        write.labels(draft, labels(blocks))
    users = len({user for user, _ in blocks})
    masquerades = sum(masquerade == "1" for _, masquerade in blocks.values())
    return f"{len(blocks)} sessions of {users} users, {masquerades} of them masquerades; the times are made up"


def read(source: Path) -> dict[tuple[int, int], Block]:
    """(user, block) to its commands in their order."""
    made: dict[tuple[int, int], Block] = {}
    for row in write.table(source, COLUMNS):
        commands, _ = made.setdefault((int(row["user"]), int(row["block"])), ([], row["is_masquerade"]))
        commands.append(row["command"])
    return made


def start_ms(block: int) -> int:
    return FIRST_DAY_MS + block * DAY_MS + OPENS_MS


def events(blocks: dict[tuple[int, int], Block]) -> Iterator[dict[str, Any]]:
    """In order of time, so that the sessions of a day run side by side."""
    for number in sorted({block for _, block in blocks}):
        day = sorted((user, commands) for (user, block), (commands, _) in blocks.items() if block == number)
        for i in range(max(len(commands) for _, commands in day)):
            for user, commands in day:
                if i < len(commands):
                    last = i == len(commands) - 1
                    yield {
                        "event_id": f"u{user}-{number}-{i:03}",
                        "customer_id": f"u{user}",
                        "event_time": start_ms(number) + i * STEP_MS,
                        "kind": "LOGIN" if i == 0 else "LOGOUT" if last else "ACTION",
                        "name": commands[i],
                        "session_id": f"b{number}",
                    }


def labels(blocks: dict[tuple[int, int], Block]) -> Iterator[Label]:
    for (user, block), (_, masquerade) in sorted(blocks.items(), key=lambda item: (item[0][1], item[0][0])):
        split = "train" if block < TRAINED else "test"
        yield Label("owner", f"u{user}", f"b{block}", start_ms(block), masquerade, split)
