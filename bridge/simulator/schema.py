"""The smallest value that a JSON schema allows, for requests that want structured output. Pure."""

from __future__ import annotations

from typing import Any

DEPTH = 16
"""Deeper than any schema that is not recursive."""


def example(schema: dict[str, Any], depth: int = 0) -> Any:
    """A value of the schema's shape; what the schema leaves open is filled with simple constants."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if schema.get(choice):
            return example(schema[choice][0], depth + 1)
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) and kind else kind:
        case "string":
            return "Simulated"
        case "integer" | "number":
            return schema.get("minimum", 0)
        case "boolean":
            return False
        case "null":
            return None
        case "array":
            least = min(int(schema.get("minItems", 0)), 8) if depth < DEPTH else 0
            return [example(schema.get("items", {}), depth + 1) for _ in range(least)]
        case _:
            properties = schema.get("properties", {}) if depth < DEPTH else {}
            wanted = schema.get("required", list(properties))
            return {name: example(properties.get(name, {}), depth + 1) for name in wanted}
