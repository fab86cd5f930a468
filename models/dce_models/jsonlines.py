"""A line of JSON as `dce` takes it (its decoder: src/wire/json.rs): an attribute is text, a number or a truth as it is
written there; a context feature is a number; what is neither is missing."""

import json
import math
from typing import Any


def row_of(line: bytes) -> dict[str, Any] | None:
    """The line's object; None where it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    attributes = row.get("attributes")
    if isinstance(attributes, dict) and any(is_number(value) for value in attributes.values()):
        # Numbers as they are written: 1e3 is not 1000.0.
        attributes = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)["attributes"]
    if attributes is not None:
        row["attributes"] = texts_of(attributes)
    if row.get("context") is not None:
        row["context"] = numbers_of(row["context"])
    return row


def texts_of(attributes: object) -> dict[str, str]:
    if not isinstance(attributes, dict):
        return {}
    made = {}
    for key, value in attributes.items():
        if isinstance(value, bool):
            made[key] = "true" if value else "false"
        elif isinstance(value, str) or is_number(value):
            made[key] = str(value)
    return made


def numbers_of(context: object) -> dict[str, float]:
    if not isinstance(context, dict):
        return {}
    return {key: value for key, value in context.items() if is_number(value) and math.isfinite(value)}


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
