"""Draws the distributions of the generated bank as SVG files beside this script, from what `dce` itself prints.

    cargo build --release && python3 docs/pictures/draw.py --dce target/release/dce

The same program draws the same bytes. No packages are needed; two minutes at the most.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

DAY_MS = 86_400_000
HERE = Path(__file__).parent
BANK = ["--customers", "2000", "--days", "56", "--start", "2026-01-05", "--takeovers", "0.1"]
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
STYLE = """
text{font:12px system-ui,sans-serif;fill:#424a53}.h{font-weight:600;fill:#1f2328}.n{font-size:11px}.e{text-anchor:end}.m{text-anchor:middle}
.a{fill:#2f6fbf}.b{fill:#d9822b}.la{stroke:#2f6fbf}.lb{stroke:#d9822b}.la,.lb{fill:none;stroke-width:2}.g{stroke:#8c959f;stroke-opacity:.35}
.x{stroke:#8c959f;stroke-dasharray:4 3}
@media(prefers-color-scheme:dark){text{fill:#b1bac4}.h{fill:#f0f6fc}.a{fill:#6cb0ff}.b{fill:#f0a95b}.la{stroke:#6cb0ff}.lb{stroke:#f0a95b}}
"""


class Picture:
    def __init__(self, width: int, height: int, title: str) -> None:
        self.size, self.parts = (width, height), []
        self.title = title
        self.text(12, 20, title, "h")

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{f" class={kind!r}" if kind else ""}>{text}</text>')

    def bar(self, x: float, y: float, width: float, height: float, kind: str = "a", opacity: float | None = None) -> None:
        faint = "" if opacity is None else f' fill-opacity="{opacity:.2f}"'
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="{kind}"{faint}/>')

    def line(self, x: float, y: float, to_x: float, to_y: float, kind: str = "g") -> None:
        self.parts.append(f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" class="{kind}"/>')

    def curve(self, points: Iterable[tuple[float, float]], kind: str) -> None:
        self.parts.append(f'<path d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in points)}" class="{kind}"/>')

    def legend(self, x: float, y: float, names: Sequence[str]) -> None:
        for kind, name in zip("ab", names, strict=False):
            self.bar(x, y - 9, 10, 10, kind)
            self.text(x + 15, y, name, "n")
            x += 30 + 6.3 * len(name)

    def save(self, name: str) -> None:
        width, height = self.size
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        text = f"{head}<title>{self.title}</title><style>{STYLE}</style>" + "\n".join(self.parts) + "</svg>\n"
        (HERE / name).write_text(text.replace("class='", 'class="').replace("'>", '">'))
        print(f"{name}: {len(text)} bytes")


class Bank:
    """One run of the generator: its clicks, its labels, and what the rules make of them."""

    def __init__(self, dce: str, folder: Path, arguments: Sequence[str]) -> None:
        self.dce, self.folder = dce, folder
        subprocess.run([dce, "generate", *arguments, "--out", str(folder)], check=True, stdout=subprocess.DEVNULL)

    def clicks(self) -> Iterator[dict[str, Any]]:
        with (self.folder / "clicks.ndjson").open() as lines:
            yield from map(json.loads, lines)

    def labels(self) -> Iterator[dict[str, str]]:
        with (self.folder / "labels.csv").open(newline="") as file:
            yield from csv.DictReader(file)

    def sessions(self) -> Iterator[dict[str, Any]]:
        command = [self.dce, "sessions", "--json", str(self.folder / "clicks.ndjson")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            for line in running.stdout or ():
                row = json.loads(line)
                if row["what"] == "session" and row["revision"] == 0:
                    yield row
        if running.returncode:
            raise SystemExit(f"{' '.join(command)} failed")


def day_of(ms: int) -> date:
    return datetime.fromtimestamp(ms / 1000, UTC).date()


def week(clicks: Sequence[dict[str, Any]]) -> None:
    cells: Counter[tuple[int, int]] = Counter()
    for click in clicks:
        time = datetime.fromtimestamp(click["event_time"] / 1000, UTC)
        cells[time.weekday(), time.hour] += 1
    mean, most = len(clicks) / 168, max(cells.values())
    picture = Picture(720, 250, "Events by weekday and hour (UTC); at the right, the weekday against the mean")
    for weekday, name in enumerate(WEEKDAYS):
        y = 40 + 26 * weekday
        picture.text(44, y + 17, name, "e")
        for hour in range(24):
            count = cells[weekday, hour]
            picture.bar(52 + 26 * hour, y, 24, 24, "a", 0.06 + 0.94 * count / most)
        total = sum(cells[weekday, hour] for hour in range(24)) / 24 / mean
        picture.text(684, y + 17, f"{total:.2f}")
    for hour in range(0, 24, 3):
        picture.text(64 + 26 * hour, 238, str(hour), "m")
    picture.save("week.svg")


def histogram(picture: Picture, x: float, values: Sequence[float], ticks: Sequence[tuple[float, str]], what: str) -> None:
    """A histogram on a logarithmic axis, with its median and its 90th percentile."""
    width, top, bottom, bins = 310.0, 50.0, 210.0, 31
    low, high = math.log(ticks[0][0]), math.log(ticks[-1][0])

    def place(value: float) -> float:
        return (math.log(max(value, ticks[0][0])) - low) / (high - low)

    counts = Counter(min(bins - 1, int(bins * place(value))) for value in values)
    for index in range(bins):
        height = (bottom - top) * counts[index] / max(counts.values())
        picture.bar(x + width * index / bins, bottom - height, width / bins - 1, height)
    picture.line(x, bottom, x + width, bottom)
    for value, name in ticks:
        picture.text(x + width * place(value), bottom + 16, name, "n m")
    ranked = sorted(values)
    for share, name in ((0.5, "median"), (0.9, "90 %")):
        value = ranked[int(share * len(ranked))]
        at = x + width * place(value)
        picture.line(at, top - 8, at, bottom, "x")
        picture.text(at + (-4 if share == 0.5 else 4), top, f"{name} {value:.0f}", "n e" if share == 0.5 else "n")
    picture.text(x + width / 2, bottom + 34, what, "m")


def lengths(sessions: Sequence[dict[str, Any]]) -> None:
    picture = Picture(720, 256, f"Length of {len(sessions):,} sessions (logarithmic axes)")
    ticks = [(1, "1"), (3, "3"), (10, "10"), (30, "30"), (100, "100"), (1000, "1000")]
    histogram(picture, 24, [len(row["events"]) for row in sessions], ticks, "events")
    seconds = [max(1, (row["end"] - row["start"]) / 1000) for row in sessions]
    ticks = [(1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"), (43_200, "12 h")]
    histogram(picture, 384, seconds, ticks, "from the first event to the last")
    picture.save("session-length.svg")


def salary_month(clicks: Sequence[dict[str, Any]]) -> None:
    """Logins of those who have a salary, by day of the month; the weekday's usual share is taken out."""
    logins = [click for click in clicks if click["kind"] == "LOGIN" and "salary" in click.get("context", {})]
    days = Counter(day_of(click["event_time"]) for click in logins)
    by_weekday: dict[int, list[int]] = defaultdict(list)
    for day, count in days.items():
        by_weekday[day.weekday()].append(count)
    usual = {weekday: sum(counts) / len(counts) for weekday, counts in by_weekday.items()}
    months: dict[int, list[float]] = defaultdict(list)
    for day, count in days.items():
        months[day.day].append(count / usual[day.weekday()])
    picture = Picture(720, 244, "Logins of customers with a salary, by day of the month; 1 is usual for the weekday")
    most = max(sum(shares) / len(shares) for shares in months.values())
    bottom = 196.0
    for level in (0.5, 1.0):
        y = bottom - 140 * level / most
        picture.line(40, y, 704, y)
        picture.text(34, y + 4, f"{level:g}", "n e")
    for day in range(1, 32):
        height = 140 * sum(months[day]) / len(months[day]) / most
        is_pay_day = day in (1, 2, 10, 11, 15, 16, 25, 26, 28, 29)
        picture.bar(44 + 21.3 * (day - 1), bottom - height, 18, height, "b" if is_pay_day else "a")
        picture.text(53 + 21.3 * (day - 1), bottom + 15, str(day), "n m")
    picture.legend(44, 234, ["other days", "a pay day (25th for 40 %, 28th 25 %, 1st 20 %, 15th 10 %, 10th 5 %) or the day after"])
    picture.save("salary-month.svg")


def intents(labels: Iterable[dict[str, str]]) -> None:
    counts = Counter(row["label"] for row in labels if row["task"] == "next_session")
    total = sum(counts.values())
    picture = Picture(720, 46 + 22 * len(counts), f"What the next session is for ({total:,} labels)")
    for index, (name, count) in enumerate(counts.most_common()):
        y, share = 36 + 22 * index, count / total
        picture.text(160, y + 13, name, "e")
        picture.bar(168, y, 460 * count / max(counts.values()), 16)
        picture.text(174 + 460 * count / max(counts.values()), y + 13, f"{100 * share:.1f} %", "n")
    picture.save("next-intent.svg")


def curves(picture: Picture, y: float, title: str, lines: Sequence[tuple[str, list[float]]], moment: int) -> None:
    """A panel of one or two lines over days, from 0 to their maximum."""
    left, width, height = 52.0, 648.0, 96.0
    most = max(max(values) for _, values in lines)
    picture.text(left, y, title)
    picture.legend(left + 400, y, [name for name, _ in lines])
    bottom = y + 16 + height
    for level in (0.0, 0.5, 1.0):
        picture.line(left, bottom - height * level, left + width, bottom - height * level)
        picture.text(left - 6, bottom - height * level + 4, f"{most * level:.2f}" if most < 10 else f"{most * level:,.0f}", "n e")
    for kind, (_, values) in zip("ab", lines, strict=False):
        step = width / (len(values) - 1)
        picture.curve(((left + step * day, bottom - height * value / most) for day, value in enumerate(values)), f"l{kind}")
    at = left + width * moment / (len(lines[0][1]) - 1)
    picture.line(at, y + 10, at, bottom, "x")
    for day in range(0, len(lines[0][1]), 7):
        picture.text(left + width * day / (len(lines[0][1]) - 1), bottom + 15, f"day {day}" if day == 0 else str(day), "n m")


def scenarios(dce: str, folder: Path) -> None:
    days, moment = 42, 14

    def daily(what: str, names: Sequence[str], from_home: bool = False) -> list[list[float]]:
        change = ["--scenario", f"{what}@{moment}"] if what else []
        arguments = ["--customers", "1000", "--days", str(days), "--start", "2026-01-05", "--takeovers", "0", "--aggregators", "0", *change]
        bank = Bank(dce, folder / (what or "calm"), arguments)
        found = [[0.0] * days for _ in names]
        homes = [0] * days
        before: dict[tuple[str, str], str] = {}
        start = None
        for click in bank.clicks():
            start = start or click["event_time"] // DAY_MS
            day = min(days - 1, click["event_time"] // DAY_MS - start)
            key = (click["customer_id"], click["device_id"])
            if from_home and before.get(key) == "home":
                homes[day] += 1
            for index, name in enumerate(names):
                if click["name"] == name and (not from_home or before.get(key) == "home"):
                    found[index][day] += 1
            before[key] = click["name"]
        return [[count / homes[day] if from_home else count for day, count in enumerate(line)] for line in found]

    picture = Picture(720, 508, f"What each scenario changes, from day {moment} on (1,000 customers; daily)")
    renamed = daily("page-rename", ("transactions", "activity"))
    curves(picture, 50, "page-rename: views of a page", list(zip(("transactions", "activity"), renamed, strict=True)), moment)
    [changed] = daily("layout-change", ("payments",), from_home=True)
    [calm] = daily("", ("payments",), from_home=True)
    curves(picture, 208, "layout-change: share of steps from home to payments", [("with the change", changed), ("without", calm)], moment)
    [shocked] = daily("shock", ("login",))
    [calm] = daily("", ("login",))
    curves(picture, 366, "shock: logins", [("with the shock", shocked), ("without", calm)], moment)
    picture.save("scenarios.svg")


def thieves(clicks: Sequence[dict[str, Any]], labels: Iterable[dict[str, str]]) -> None:
    """Facts about sessions with an id, which is how clicks and labels meet without the session rules."""
    stolen = {row["session_id"]: row["label"] == "1" for row in labels if row["task"] == "owner" and row["session_id"]}
    sessions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for click in clicks:
        if click.get("session_id") in stolen:
            sessions[click["session_id"]].append(click)
    facts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    count, devices, seen = [0, 0], defaultdict(set), Counter[str]()
    for session_id, events in sorted(sessions.items(), key=lambda item: item[1][0]["event_time"]):
        customer, who = events[0]["customer_id"], int(stolen[session_id])
        names, device = {event["name"] for event in events}, events[0]["device_id"]
        if seen[customer] >= 5:
            count[who] += 1
            facts["a device not seen before"][who] += device not in devices[customer]
            for page in ("payee_add", "transfer_submit", "contact_change", "devices", "statements", "bill_pay"):
                facts[f"has {page}"][who] += page in names
            facts["more than 15 events"][who] += len(events) > 15
            pace = (events[-1]["event_time"] - events[0]["event_time"]) / 1000 / max(1, len(events) - 1)
            facts["under 5 s from event to event"][who] += pace < 5
        seen[customer] += 1
        devices[customer].add(device)
    picture = Picture(720, 62 + 36 * len(facts), "Share of an owner's and of a thief's sessions with a fact (after five sessions)")
    picture.legend(210, 42, [f"owner ({count[0]:,} sessions)", f"thief ({count[1]:,})"])
    for index, (name, found) in enumerate(facts.items()):
        y = 56 + 36 * index
        picture.text(202, y + 18, name, "e")
        for who, kind in enumerate("ab"):
            share = found[who] / max(1, count[who])
            picture.bar(210, y + 14 * who, max(1, 440 * share), 12, kind)
            picture.text(216 + 440 * share, y + 14 * who + 10, f"{100 * share:.1f} %", "n")
    picture.save("thief-and-owner.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description="draw the pictures of docs/generate.md")
    parser.add_argument("--dce", default="target/release/dce", help="the program")
    dce = str(Path(parser.parse_args().dce).resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bank = Bank(dce, folder / "bank", BANK)
        clicks = list(bank.clicks())
        week(clicks)
        salary_month(clicks)
        intents(bank.labels())
        thieves(clicks, bank.labels())
        del clicks
        lengths(list(bank.sessions()))
        scenarios(dce, folder)


if __name__ == "__main__":
    main()
