"""What `dce` makes of a click's maps, the twin must make too."""

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from dce_models import folder, jsonlines
from dce_models.spec import SpecError


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"vip":true,"old":false}', {"vip": "true", "old": "false"}),
        ('{"amount":0,"much":1e3,"exact":10.50}', {"amount": "0", "much": "1e3", "exact": "10.50"}),
        ('{"a":{"b":1},"c":[1],"d":null,"e":"1.0"}', {"e": "1.0"}),
        ("[]", {}),
        ('"text"', {}),
    ],
)
def test_attributes_are_text_as_written(written: str, read: dict[str, str]) -> None:
    row = jsonlines.row_of(b'{"event_time":1,"attributes":' + written.encode() + b"}")
    assert row == {"event_time": 1, "attributes": read}


def test_context_is_numbers_alone() -> None:
    row = jsonlines.row_of(b'{"context":{"balance":"N/A","salary":1500,"vip":true,"debt":null,"rate":0.5}}')
    assert row == {"context": {"salary": 1500, "rate": 0.5}}
    assert jsonlines.row_of(b'{"context":[]}') == {"context": {}}


def test_what_is_no_object_is_none() -> None:
    assert [jsonlines.row_of(line) for line in (b"[1]", b"{", b"\xff", b"1")] == [None] * 4


def test_a_timestamp_with_a_zone_is_an_instant(tmp_path: Path) -> None:
    berlin = timezone(timedelta(hours=1))
    moment = datetime(2026, 1, 1, 1, tzinfo=berlin)
    for kind in (pa.timestamp("ms", "Europe/Berlin"), pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC")):
        table = pa.table(
            {
                "event_id": ["e1"],
                "customer_id": ["c"],
                "kind": ["LOGIN"],
                "event_time": pa.array([moment], kind),
                "attributes": ['{"a": 1'],
            }
        )
        parquet.write_table(table.drop(["attributes"]), tmp_path / "clicks.parquet")
        assert [row["event_time"] for row in folder.rows(tmp_path / "clicks.parquet")] == [1_767_225_600_000]
        parquet.write_table(table, tmp_path / "clicks.parquet")
        assert list(folder.rows(tmp_path / "clicks.parquet")) == [], "a map that is no JSON"


def test_whole_numbers_with_a_point_are_read(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    path.write_text(
        "event_id,customer_id,kind,event_time\ne1,c,LOGIN,1700000000000.0\ne2,c,LOGIN,x\n", encoding="utf-8"
    )
    assert [row["event_time"] for row in folder.rows(path)] == [1_700_000_000_000]
    path.write_text("event_id,customer_id,kind,event_time\ne2,c,LOGIN,x\n", encoding="utf-8")
    with pytest.raises(SpecError, match=r"clicks.csv:2: event_time is 'x', must be a whole number"):
        list(folder.rows(path))
