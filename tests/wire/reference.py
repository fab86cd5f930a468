"""What the rules' reference makes of each line, one JSON row a line: null, or what it says. Usage: reference.py FOLDER

Runs `main` of the reference itself, so that lines are split, skipped and nested exactly as there."""

import json
import sys

sys.path.insert(0, sys.argv.pop(1))
import sessions

TEXTS = ("event_id", "customer_id", "name", "channel", "session_id", "device_id")


def run(clicks, rules, emit):
    for click in clicks:
        row = None
        if click:
            kind = click["kind"]
            row = {"partition": click.get("partition", 0), "record_time": click.get("record_time"), "kind": kind}
            if kind == "ERASE":
                row["customer_id"] = click["customer_id"]
            else:
                row["event_time"] = click["event_time"]
            if kind not in ("ERASE", "TICK"):
                row.update((name, click.get(name)) for name in TEXTS)
                row["key"] = sessions.session_key(click)
        print(json.dumps(row))


sessions.run = run
sessions.main()
