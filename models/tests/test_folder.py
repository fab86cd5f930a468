"""A data set's folder: the four formats say the same, and what is wrong is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from dce_models import folder
from dce_models.spec import SpecError

HEADER = "task,customer_id,session_id,event_time,label,split\n"
EVENTS: list[dict[str, Any]] = [
    {
        "event_id": "e0",
        "customer_id": "ana",
        "event_time": 1_000,
        "kind": "LOGIN",
        "name": "home, sweet",
        "session_id": "s",
        "context": {"balance": 12.5},
        "attributes": {"os": "ios"},
    },
    {"event_id": "t", "event_time": 1_500, "kind": "TICK"},
    {"event_id": "e1", "customer_id": "ana", "event_time": 2_001, "kind": "ACTION", "name": "pay", "channel": "web"},
]


def write(path: Path, suffix: str, events: list[dict[str, Any]], labels: str = HEADER) -> folder.Folder:
    path.mkdir(exist_ok=True)
    lines = "".join(json.dumps(e) + "\n" for e in events).encode()
    if suffix == "ndjson":
        (path / "clicks.ndjson").write_bytes(lines + b'{"event_id": "torn\n[]\n{"kind": "LOGIN"}\n')
    elif suffix == "ndjson.zst":
        import zstandard

        packed = [zstandard.compress(line + b"\n") for line in lines.splitlines()]  # several frames
        (path / "clicks.ndjson.zst").write_bytes(b"".join(packed))
    elif suffix == "parquet":
        import pyarrow as pa
        from pyarrow import parquet

        maps = {"context": pa.map_(pa.string(), pa.float64()), "attributes": pa.map_(pa.string(), pa.string())}
        texts = ("event_id", "customer_id", "kind", "name", "channel", "session_id")
        columns = {n: pa.array([e.get(n) for e in events], pa.string()) for n in texts}
        columns |= {n: pa.array([list((e.get(n) or {}).items()) for e in events], t) for n, t in maps.items()}
        columns["event_time"] = pa.array([e["event_time"] * 1000 for e in events], pa.timestamp("us", "UTC"))
        parquet.write_table(pa.table(columns), path / "clicks.parquet")
    else:
        (path / "clicks.csv").write_text(
            "event_id,customer_id,event_time,kind,name,session_id,channel,context.balance,attributes\n"
            'e0,ana,1000,LOGIN,"home, sweet",s,,12.5,"{""os"": ""ios""}"\n'
            "t,,1500,TICK,,,,,\nx,ana,soon,LOGIN,,,,,\ne1,ana,2001,ACTION,pay,,web,,\n"
        )
    (path / "labels.csv").write_text(labels)
    return folder.open_folder(path)


def bare(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if value not in ({}, None)}


@pytest.mark.parametrize("suffix", ["ndjson", "ndjson.zst", "parquet", "csv"])
def test_every_format_gives_the_same_clicks(tmp_path: Path, suffix: str) -> None:
    made = write(tmp_path, suffix, EVENTS)
    assert [bare(e) for e in folder.clicks(made)] == [EVENTS[0], EVENTS[2]]
    assert [e["event_id"] for e in folder.clicks(made, before=2_001)] == ["e0"]


@pytest.mark.parametrize("suffix", ["ndjson", "ndjson.zst", "parquet", "csv"])
def test_cut_clicks_keep_ticks_and_end_before_the_cut(tmp_path: Path, suffix: str) -> None:
    made = write(tmp_path / "set", suffix, EVENTS)
    out = folder.cut_clicks(made, tmp_path / "cut.ndjson", 2_001)
    assert [json.loads(line)["event_id"] for line in out.read_text().splitlines()] == ["e0", "t"]


def test_the_cut_is_the_earliest_label_held_out(tmp_path: Path) -> None:
    rows = "owner,ana,,5,0,train\nlabel,ana,,9,1,test\nowner,ana,,7,1,valid\nsurvey,ana,,1,yes,test\n"
    made = write(tmp_path, "ndjson", EVENTS, HEADER + rows)
    assert (made.cut_ms, made.test_ms, made.ignored) == (7, 9, {"survey": 1})
    assert made.of("owner")[1] == folder.Label("owner", "ana", "", 7, "1", "valid")
    none = write(tmp_path, "ndjson", EVENTS)
    assert (none.cut_ms, none.test_ms, none.labels) == (None, None, [])


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("owner,ana,,5,0,dev", "labels.csv:3: split is 'dev', must be one of train, valid, test"),
        ("owner,,,5,0,train", "labels.csv:3: customer_id is empty"),
        ("owner,ana,,5.0,0,train", "labels.csv:3: event_time is '5.0', must be whole milliseconds"),
        ("label,ana,,5,yes,train", "labels.csv:3: label of label is 'yes', must be 0 or 1"),
        ("next,ana,,5,,train", "labels.csv:3: label of next is empty"),
        ("next,ana,5,pay,train", "labels.csv:3: has not as many values"),
        ("next,ana,s,5,pay,train,more", "labels.csv:3: has not as many values"),
    ],
)
def test_a_wrong_label_is_named(tmp_path: Path, row: str, why: str) -> None:
    with pytest.raises(SpecError, match=why.replace(".", r"\.")):
        write(tmp_path, "ndjson", EVENTS, HEADER + "owner,ana,,5,0,train\n" + row + "\n")


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is no folder"):
        folder.open_folder(tmp_path / "none")
    with pytest.raises(SpecError, match="has no clicks"):
        folder.open_folder(tmp_path)
    (tmp_path / "clicks.ndjson").touch()
    with pytest.raises(SpecError, match=r"has no labels\.csv"):
        folder.open_folder(tmp_path)
    (tmp_path / "labels.csv").write_text("task,label\n")
    with pytest.raises(SpecError, match="the column customer_id is missing"):
        folder.open_folder(tmp_path)
    (tmp_path / "clicks.csv").touch()
    with pytest.raises(SpecError, match="only one file of clicks"):
        folder.open_folder(tmp_path)
