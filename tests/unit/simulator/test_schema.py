"""The smallest value of a schema."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.simulator.schema import example


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "Simulated"),
        ({"type": "integer", "minimum": 3}, 3),
        ({"type": "boolean"}, False),
        ({"type": ["null", "string"]}, None),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 7}, 7),
        ({"anyOf": [{"type": "number"}, {"type": "string"}]}, 0),
        ({"type": "array", "items": {"type": "string"}}, []),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, ["Simulated", "Simulated"]),
        (
            {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a"]},
            {"a": "Simulated"},
        ),
        ({}, {}),
    ],
)
def test_a_schema_is_filled_with_the_least_it_allows(schema: dict[str, Any], value: Any) -> None:
    """Constants where it leaves the choice."""
    assert example(schema) == value


def test_a_schema_that_contains_itself_ends() -> None:
    """Recursion stops at a fixed depth."""
    schema: dict[str, Any] = {"type": "object", "required": ["next"], "properties": {}}
    schema["properties"]["next"] = schema
    assert "next" in example(schema)
