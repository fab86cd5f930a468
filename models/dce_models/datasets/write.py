"""Rows of a public set's CSV in, a data-set folder out."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..folder import COLUMNS, Label, opened
from ..spec import SpecError


def table(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a CSV (.zst too) that must have these columns."""
    if not path.is_file():
        raise SpecError(f"{path} is not there: give the public set's file")
    with opened(path) as file:
        reader = csv.DictReader(io.TextIOWrapper(file, "utf-8", newline=""))
        missing = [name for name in columns if name not in (reader.fieldnames or [])]
        if missing:
            raise SpecError(f"{path}:1: the column {missing[0]} is missing: is it the set's own file?")
        yield from reader


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A folder beside `out` that gets its name when it is whole."""
    if out.exists():
        raise SpecError(f"{out} is there already: name a new folder")
    draft = out.with_name(out.name + ".part")
    draft.mkdir(parents=True, exist_ok=True)
    for left in draft.iterdir():  # of a run that was ended
        left.unlink()
    yield draft
    draft.rename(out)


def clicks(out: Path, events: Iterable[dict[str, Any]]) -> None:
    """ClickEvents as zstd-packed lines of JSON."""
    import zstandard

    with (out / "clicks.ndjson.zst").open("wb") as file, zstandard.ZstdCompressor(3).stream_writer(file) as packed:
        for event in events:
            packed.write((json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n").encode())


def labels(out: Path, made: Iterable[Label]) -> None:
    with (out / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([getattr(label, name) for name in COLUMNS] for label in made)
