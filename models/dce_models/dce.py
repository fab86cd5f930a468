"""The dce binary: where it is, and clicks through it. Nothing of the pipeline is done a second time in Python."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from . import folder as folders
from .folder import Folder
from .spec import SpecError

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
REASONS = 12  # last lines of a failed run that are shown


def find(option: Path | None = None) -> Path:
    """The option, the environment's DCE, the release build beside the package, or the first in PATH."""
    asked = option or (Path(os.environ["DCE"]) if os.environ.get("DCE") else None)
    if asked:
        if not asked.is_file():
            raise SpecError(f"{asked} is no file: --dce and DCE name the dce binary")
        return asked
    built = Path(__file__).parents[2] / "target" / "release" / "dce"
    if built.is_file():
        return built
    if found := shutil.which("dce"):
        return Path(found)
    raise SpecError("no dce binary: build it (cargo build --release), or name it with --dce or DCE")


def run(dce: Path, arguments: Sequence[str | Path], out: IO[bytes] | int = subprocess.DEVNULL) -> None:
    """`out` takes the standard output."""
    done = subprocess.run([dce, *arguments], stdout=out, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()[-REASONS:]
        raise SpecError(f"`dce {arguments[0]}` ended with {done.returncode}:\n" + "\n".join(lines))


def sets(settings: Sequence[str]) -> list[str]:
    """`key=value` as options of every command."""
    return [word for setting in settings for word in ("--set", setting)]


def gap_ms(dce: Path, settings: Sequence[str]) -> int:
    """session.gap as it is in effect, whether by --set, by the environment or by default."""
    done = subprocess.run([dce, "config", "--json", *sets(settings)], capture_output=True, check=False)
    if done.returncode:
        raise SpecError(f"`dce config` ended with {done.returncode}:\n{done.stderr.decode(errors='replace').strip()}")
    for line in done.stdout.splitlines():
        row = json.loads(line)
        if row["key"] == "session.gap":
            number = re.fullmatch(r"([0-9]+)(ms|s|m|h|d)", row["value"])
            if number:
                return int(number[1]) * UNITS_MS[number[2]]
            raise SpecError(f"session.gap is {row['value']!r}: not a number and a unit")
    raise SpecError("`dce config` does not tell session.gap")


def replay(dce: Path, folder: Folder, bundle: Path, work: Path, settings: Sequence[str] = ()) -> tuple[Path, Path]:
    """The folder's clicks through the pipeline with this bundle: the records (provisional ones after every event
    included) and the sessions, as Parquet files in `work`. Settings are `key=value`."""
    clicks = folder.clicks
    if clicks.suffix == ".csv":  # which dce does not read
        clicks = folders.cut_clicks(folder, work / "clicks.ndjson", None)
    records, sessions = work / "records.parquet", work / "sessions.parquet"
    files: list[str | Path] = ["--from", clicks, "--to", records, "--sessions", sessions, "--force"]
    given = ["provisional.every_events=1", "log.level=error", *settings]
    run(dce, ["replay", *files, "--model", bundle, "--close-open", *sets(given)])
    return records, sessions
