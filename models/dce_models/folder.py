"""A data set as a folder: `clicks.*` (ClickEvents in arrival order) and `labels.csv`.

Clicks are read as `dce replay` reads them: a line or row that is no click takes no part, unknown columns are passed
over. Everything that is wrong with the labels is an error with file, line, value and rule.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from .jsonlines import numbers_of, row_of, texts_of
from .spec import KINDS, SpecError

TASKS = ("owner", "next", "next_session", "label")
BINARY = ("owner", "label")
SPLITS = ("train", "valid", "test")
COLUMNS = ("task", "customer_id", "session_id", "event_time", "label", "split")
CLICKS = ("clicks.ndjson", "clicks.ndjson.zst", "clicks.parquet", "clicks.csv")
TEXTS = ("event_id", "customer_id", "kind", "name", "channel", "session_id", "device_id", "key")
INTEGERS = ("partition", "offset")
TIMES = ("event_time", "record_time")
MAPS = ("context", "attributes")


@dataclass(frozen=True, slots=True)
class Label:
    task: str
    customer_id: str
    session_id: str  # empty where the session has no name
    event_time: int  # milliseconds
    label: str
    split: str


@dataclass(frozen=True)
class Folder:
    path: Path
    clicks: Path
    labels: list[Label]  # of the known tasks, in the file's order
    cut_ms: int | None  # the earliest `valid` or `test` label: nothing at or after it may be used to fit
    test_ms: int | None  # the earliest `test` label
    ignored: dict[str, int] = field(default_factory=dict)  # labels of other tasks: task -> how many

    def of(self, task: str) -> list[Label]:
        return [label for label in self.labels if label.task == task]


def open_folder(path: Path) -> Folder:
    """Finds the clicks and reads the labels."""
    if not path.is_dir():
        raise SpecError(f"{path} is no folder: a data set is a folder with {CLICKS[0]} and labels.csv")
    found = [path / name for name in CLICKS if (path / name).is_file()]
    if not found:
        raise SpecError(f"{path} has no clicks: one of {', '.join(CLICKS)} must be there")
    if len(found) > 1:
        raise SpecError(f"{path} has {found[0].name} and {found[1].name}: only one file of clicks may be there")
    if not (path / "labels.csv").is_file():
        raise SpecError(f"{path} has no labels.csv (without labels, the line {','.join(COLUMNS)} alone)")
    labels, ignored = read_labels(path / "labels.csv")
    held = [label.event_time for label in labels if label.split != "train"]
    test = [label.event_time for label in labels if label.split == "test"]
    return Folder(path, found[0], labels, min(held, default=None), min(test, default=None), ignored)


# -- labels ------------------------------------------------------------------------------------------------------------


def read_labels(path: Path) -> tuple[list[Label], dict[str, int]]:
    made: list[Label] = []
    ignored: Counter[str] = Counter()
    kept: dict[str, str] = {}  # one object for each text, since millions of labels share few
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                raise SpecError(f"{path}:1: the column {missing[0]} is missing: the header is {','.join(COLUMNS)}")
            for row in reader:
                texts = {name: row[name] for name in COLUMNS}
                if any(text is None for text in texts.values()) or None in row:
                    raise SpecError(f"{path}:{reader.line_num}: has not as many values as the header")
                if texts["task"] not in TASKS:
                    ignored[texts["task"]] += 1
                    continue
                texts = {name: kept.setdefault(text, text) for name, text in texts.items()}
                try:
                    made.append(label_of(texts))
                except SpecError as wrong:
                    raise SpecError(f"{path}:{reader.line_num}: {wrong}") from None
    except (csv.Error, UnicodeDecodeError) as wrong:
        raise SpecError(f"{path}: cannot be read as CSV in UTF-8: {wrong}") from None
    return made, dict(ignored)


def label_of(row: dict[str, str]) -> Label:
    """One row, or what is wrong with it."""
    if row["split"] not in SPLITS:
        raise SpecError(f"split is {row['split']!r}, must be one of {', '.join(SPLITS)}")
    if not row["customer_id"]:
        raise SpecError("customer_id is empty, must name a customer")
    time = row["event_time"]
    if not (time.isascii() and time.isdigit() and len(time) <= 18):
        raise SpecError(f"event_time is {time!r}, must be whole milliseconds since 1970, 0 or more")
    if row["task"] in BINARY and row["label"] not in ("0", "1"):
        raise SpecError(f"label of {row['task']} is {row['label']!r}, must be 0 or 1")
    if not row["label"]:
        raise SpecError(f"label of {row['task']} is empty, must be a name")
    return Label(row["task"], row["customer_id"], row["session_id"], int(time), row["label"], row["split"])


# -- clicks ------------------------------------------------------------------------------------------------------------


def clicks(folder: Folder, before: int | None = None) -> Iterator[dict[str, Any]]:
    """The customers' events in arrival order, those before `before` (milliseconds) alone if it is given."""
    for row in rows(folder.clicks):
        if is_click(row) and (before is None or row["event_time"] < before):
            yield row


def is_click(row: dict[str, Any]) -> bool:
    """Whether it is a customer's event; of what else a row can be, nothing is learnt from."""
    texts = (row.get("event_id"), row.get("customer_id"))
    return row.get("kind") in KINDS and all(isinstance(text, str) and text for text in texts)


def cut_clicks(folder: Folder, out: Path, before: int | None) -> Path:
    """Writes the rows with event_time < before (None: all) as plain NDJSON, ticks and erasures too; gives `out`."""
    with out.open("w", encoding="utf-8") as file:
        for row in rows(folder.clicks):
            if before is None or row["event_time"] < before:
                file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    return out


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Every row that has an event_time, as a ClickEvent in JSON's form (milliseconds, maps); others are no clicks."""
    if path.suffix == ".parquet":
        read = parquet_rows(path)
    elif path.suffix == ".csv":
        read = csv_rows(path)
    else:
        read = json_rows(path)
    for row in read:
        if isinstance(row.get("event_time"), int) and not isinstance(row["event_time"], bool):
            yield row


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked."""
    if path.suffix != ".zst":
        with path.open("rb") as file:
            yield file
        return
    import zstandard

    try:
        with (
            path.open("rb") as file,
            zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as plain,
        ):
            yield io.BufferedReader(plain)
    except zstandard.ZstdError as wrong:
        raise SpecError(f"{path}: cannot be unpacked: {wrong}") from None


def json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with opened(path) as file:
        for line in file:
            row = row_of(line)
            if row is not None:
                yield row


def csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Columns are a ClickEvent's fields; maps as JSON text (`context`) or a column a key (`context.balance`)."""
    with opened(path) as file:
        reader = csv.DictReader(io.TextIOWrapper(file, "utf-8-sig", newline=""))
        names = [name for name in reader.fieldnames or [] if name]
        for name in ("event_id", "kind", "event_time"):
            if name not in names:
                raise SpecError(f"{path}:1: the column {name} is missing")
        read, wrong_row = 0, ""
        try:
            for cells in reader:
                try:
                    row = csv_row(cells, names)
                except ValueError as wrong:
                    wrong_row = wrong_row or f"{path}:{reader.line_num}: {wrong}"
                    continue
                read += 1
                yield row
            if wrong_row and not read:
                raise SpecError(f"no row can be read; the first: {wrong_row}")
        except (csv.Error, UnicodeDecodeError) as wrong:
            raise SpecError(f"{path}:{reader.line_num}: cannot be read as CSV in UTF-8: {wrong}") from None


def csv_row(cells: dict[str, Any], names: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in names:
        text = cells[name]
        if not text:  # CSV does not tell an empty text from a missing one
            continue
        top, _, key = name.partition(".")
        if name in TEXTS:
            row[name] = text
        elif name in INTEGERS or name in TIMES:
            row[name] = whole(name, text)
        elif name in MAPS:
            row.setdefault(name, {}).update(map_of(name, json.loads(text)))
        elif top in MAPS and key:
            row.setdefault(top, {})[key] = float(text) if top == "context" else text
    return row


def whole(name: str, text: str) -> int:
    """Also 1700000000000.0, which is what a column with a missing value becomes in pandas."""
    number = text.removesuffix(".0")
    if not (number.removeprefix("-").isascii() and number.removeprefix("-").isdigit()):
        raise ValueError(f"{name} is {text!r}, must be a whole number")
    return int(number)


def map_of(name: str, value: object) -> dict[str, Any]:
    return texts_of(value) if name == "attributes" else dict(numbers_of(value))


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = [n for n in (*TEXTS, *INTEGERS, *TIMES, *MAPS) if n in file.schema_arrow.names]
            for name in ("event_id", "kind", "event_time"):
                if name not in names:
                    raise SpecError(f"{path}: the column {name} is missing")
            for batch in file.iter_batches(columns=names):
                for row in in_milliseconds(batch).to_pylist():
                    try:
                        yield parquet_row(row)
                    except (ValueError, TypeError):  # a map whose text is no JSON
                        continue
    except pyarrow.ArrowInvalid as wrong:
        raise SpecError(f"{path}: cannot be read as Parquet: {wrong}") from None


def in_milliseconds(batch: Any) -> Any:  # noqa: ANN401 # pyarrow's
    """Timestamps of any unit and zone as whole milliseconds since 1970 in UTC; without a zone they are UTC."""
    import pyarrow as pa

    for at, name in enumerate(batch.schema.names):
        kind = batch.schema.field(at).type
        if name in TIMES and pa.types.is_timestamp(kind):
            instants = batch.column(at).cast(pa.timestamp("ms", kind.tz), safe=False).cast(pa.int64())
            batch = batch.set_column(at, name, instants)
    return batch


def parquet_row(row: dict[str, Any]) -> dict[str, Any]:
    for name in MAPS:
        value = row.get(name)
        if isinstance(value, str):
            value = json.loads(value)
        if value is not None:
            row[name] = map_of(name, dict(value))
    return {name: value for name, value in row.items() if value is not None}
