"""The contract's features: by hand where a hand can, by published values where it cannot."""

import math

import numpy as np
import pytest

from dce_models.features import DAY_MS, Features, decimal, fnv1a64, log_hours, normalised, transformed
from dce_models.spec import Context, Dimensions, Field, Number, Spec, SpecError, parse

SPEC = Spec(
    name="t",
    version="1",
    timezone="UTC",
    opset=17,
    dimensions=Dimensions(4, 4, 4, 4),
    fields=(Field("name", 16), Field("attributes.product", 3)),
    numbers=(Number("attributes.amount", "log1p", 3.0, 2.0),),
    context=(Context("balance", "log1p", 7.0, 2.0), Context("utilisation", "identity", 0.5, 0.25)),
)
VOCABULARY = {"name": ["home", "transfer"], "attributes.product": ["", "loan"]}


def event(time: int, name: str, **attributes: str) -> dict[str, object]:
    return {"event_time": time, "kind": "PAGE_VIEW", "name": name, "attributes": attributes}


def test_fnv1a64_gives_the_published_values() -> None:
    assert fnv1a64(b"") == 0xCBF29CE484222325
    assert fnv1a64(b"a") == 0xAF63DC4C8601EC8C
    assert fnv1a64(b"foobar") == 0x85944171F73967E8


def test_known_names_come_first_and_unknown_ones_share_the_buckets() -> None:
    f = Features(SPEC, VOCABULARY)
    assert f.table_rows(0) == 1 + 2 + 16
    assert [f.field_id(0, "home"), f.field_id(0, "transfer")] == [1, 2]
    assert f.field_id(0, "größe") == 3 + fnv1a64("größe".encode()) % 16
    assert f.field_id(0, "") == 3 + fnv1a64(b"") % 16  # not in this field's vocabulary
    assert f.field_id(1, "") == 1


def test_a_session_gets_its_ids_and_numbers() -> None:
    f = Features(SPEC, VOCABULARY)
    events = [event(1000, "home"), event(1000, "home", product="loan"), event(4500, "transfer", amount="99")]
    fields, numbers = f.session(events)
    assert fields.dtype == np.int64 and numbers.dtype == np.float32
    assert fields.tolist() == [[1, 1], [1, 2], [2, 1]]
    expected = [[0, 0], [0, 0], [math.log(4.5), (math.log(100) - 3) / 2]]
    assert numbers.tolist() == np.array(expected, np.float32).tolist()


def test_null_attributes_and_channel_are_missing_ones() -> None:
    f = Features(SPEC, VOCABULARY)
    fields, _ = f.session([{"event_time": 0, "kind": "ACTION", "name": "home", "attributes": None}])
    assert fields.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("text", "value"),
    [("12.50", 12.5), ("-3", -3.0), ("+3", 3.0), (".5", 0.5), ("7.", 7.0), ("1e3", 1000.0), ("2E-2", 0.02)]
    + [(t, None) for t in ("", " 1", "1 ", "1,000", "1_000", "inf", "nan", "0x10", "e5", ".", "1e", "1e999", "٣")],
)
def test_a_decimal_number_is_plain_ascii_and_finite(text: str, value: float | None) -> None:
    assert decimal(text) == value


def test_log1p_keeps_the_sign() -> None:
    assert transformed(-1.0, "log1p") == -math.log(2)
    assert transformed(-1.0, "identity") == -1.0


def test_normalised_values_stay_within_eight_and_missing_ones_are_zero() -> None:
    column = Context("x", "identity", 10.0, 0.5)
    assert normalised(11.0, column) == 2.0
    assert normalised(1e300, column) == 8.0
    assert normalised(-1e300, column) == -8.0
    assert normalised(None, column) == normalised(math.nan, column) == normalised(math.inf, column) == 0.0


def test_context_is_values_then_masks() -> None:
    f = Features(SPEC, VOCABULARY)
    assert f.context(None).tolist() == [0, 0, 0, 0]
    assert f.context({"utilisation": 0.75, "unheard of": 1.0}).tolist() == [0, 1, 0, 1]
    assert f.context({"balance": math.nan, "utilisation": 0.5}).tolist() == [0, 0, 0, 1]
    assert f.context({"balance": -math.expm1(7.0)})[0] == -7.0


def test_hours_never_run_backwards() -> None:
    assert log_hours(-1) == 0.0
    assert log_hours(3_600_000) == math.log(2)


def test_the_calendar_is_the_wall_clocks() -> None:
    monday = 1_767_571_200_000  # 2026-01-05 00:00 UTC
    utc = Features(SPEC, VOCABULARY)
    assert utc.calendar(monday).tolist() == [0, 1, 0, 1]
    assert utc.calendar(monday + DAY_MS // 4)[0] == 1.0
    assert utc.calendar(monday - 1)[2] == np.float32(math.sin(2 * math.pi * 6 / 7))
    new_york = Features(parse({**RAW, "timezone": "America/New_York"}), VOCABULARY)
    assert new_york.calendar(monday).tolist() == utc.calendar(monday - 5 * 3_600_000).tolist()
    # A day of 23 hours: at 12:00 the clock has run 11 hours since midnight, and still says 12.
    spring_noon = 1_772_985_600_000  # 2026-03-08 16:00 UTC, the day on which New York changes to summer time
    assert new_york.calendar(spring_noon)[1] == -1.0


RAW = {
    "name": "t",
    "version": "1",
    "timezone": "UTC",
    "opset": 17,
    "dimensions": {"session": 4, "hidden": 4, "state": 4, "embedding": 4},
    "fields": [{"source": "name", "buckets": 16}, {"source": "attributes.product", "buckets": 3}],
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"opset": 22}, "17 to 20"),
        ({"fields": []}, "at least one"),
        ({"fields": [{"source": "name", "buckets": 0}]}, "1 or more"),
        ({"fields": [{"source": "weather", "buckets": 1}]}, "weather"),
        ({"numbers": [{"source": "attributes.a", "transform": "sqrt"}]}, "sqrt"),
        ({"context": [{"name": "a", "transform": "identity", "scale": 0.0}]}, "above 0"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(change: dict[str, object], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        parse({**RAW, **change})
