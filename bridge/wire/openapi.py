"""The REST interface described: an OpenAPI document, made of the table of operations, and a page."""

from __future__ import annotations

from functools import cache
from html import escape
from itertools import groupby
from typing import Any

from bridge import __version__
from bridge.errors import BridgeError, MethodNotAllowed
from bridge.wire.operations import OPERATIONS, Operation
from bridge.wire.schemas import SCHEMAS, SESSION_NAME, TEXT, WHOLE, Schema, ref

Json = dict[str, Any]

ABOUT = """\
Claude conversations as a service. Every refusal is `{reason, message, …details}`; match on `reason`. What the
objects and events mean stands in protocol.md.

Event streams are server-sent events: `event` is the event's name, `data` its payload, `id` is `epoch:seq`,
which `Last-Event-ID` (or `after`) takes. They begin again by themselves in a browser's EventSource."""

STREAMS = {
    "events": "Server-sent events. The first is `joined`, with the reply of a join (`recovered` says "
    "whether every event after the cursor follows), then `presence_state`, then the session's events. "
    "`phx_close` says that the session was deleted, and the stream ends.",
    "submit": "Server-sent events, where `Accept` asks for them: `submitted` with the reply of a submit, "
    "then the events of the turn until `turn_finished`. Where the `id` was used before, `submitted` has the "
    "turn so far in `open_turn`.",
    "ask": "Server-sent events, where `Accept` asks for them: `submitted` with the reply of an ask, then the "
    "events of the question until `turn_finished`. Where the `id` was used before, those that were told are "
    "told again, a block's text so far as one `delta`.",
}


FORM: Schema = {
    "type": "object",
    "description": "The same as a form: each file a part of its own, with its name and media type.",
    "properties": {
        "prompt": TEXT,
        "id": TEXT,
        "mode": {"enum": ["queue", "steer"]},
        "attachments": {"type": "array", "items": {"type": "string", "format": "binary"}},
    },
    "additionalProperties": False,
}


@cache
def document() -> Json:
    schemas: dict[str, Schema] = dict(SCHEMAS)
    refusals: Json = {}
    paths: Json = {}
    for operation in OPERATIONS:
        said = _operation(operation, schemas, refusals)
        paths.setdefault(operation.path, {})[operation.method.lower()] = said
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "claude-bridge",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": dict(sorted(refusals.items())),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "token_in_query": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "token",
                    "description": "For what a browser asks for without a script, and so without a header.",
                },
            },
        },
    }


def _operation(operation: Operation, schemas: dict[str, Schema], refusals: Json) -> Json:
    said: Json = {"operationId": operation.id, "summary": operation.summary}
    parameters = [_path_parameter(name) for name in _names_in(operation.path)]
    query = operation.query.model_json_schema().get("properties", {})
    parameters += [_parameter("query", name, schema) for name, schema in query.items()]
    if operation.id == "events":
        said_of_it = {"type": "string", "description": "`epoch:seq` of the last event seen."}
        parameters.append(_parameter("header", "Last-Event-ID", said_of_it))
    if parameters:
        said["parameters"] = parameters
    if (body := _body(operation, schemas)) is not None:
        said["requestBody"] = body
    said["responses"] = _responses(operation, refusals)
    if operation.token_in_query:
        said["security"] = [{"token": []}, {"token_in_query": []}]
    return said


_PATH_SCHEMAS: dict[str, Schema] = {"name": SESSION_NAME, "number": {**WHOLE, "minimum": 0}}


def _names_in(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _path_parameter(name: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": _PATH_SCHEMAS.get(name, {**TEXT, "minLength": 1}),
    }


def _parameter(place: str, name: str, schema: Schema) -> Json:
    """Without the null that pydantic has for what is absent, and without titles made of names."""
    schema = dict(schema)
    parameter: Json = {"name": name, "in": place, "required": False}
    if (description := schema.pop("description", None)) is not None:
        parameter["description"] = description
    if "anyOf" in schema:
        present = [each for each in schema.pop("anyOf") if each.get("type") != "null"]
        schema.update(present[0])
    if schema.get("default", 0) is None:
        del schema["default"]
    schema.pop("title", None)
    return {**parameter, "schema": schema}


def _body(operation: Operation, schemas: dict[str, Schema]) -> Json | None:
    model = operation.body
    if model is None:
        return None
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(schema.pop("$defs", {}))
    for key in operation.given.values():
        schema["properties"].pop(key)
        schema["required"] = [name for name in schema.get("required", []) if name != key]
    schemas[model.__name__] = schema
    content: Json = {"application/json": {"schema": ref(model.__name__)}}
    if operation.parts:
        content["multipart/form-data"] = {"schema": FORM}
    return {"required": bool(schema.get("required")), "content": content}


def _responses(operation: Operation, refusals: Json) -> Json:
    responses: Json = {}
    for status, schema in operation.answers.items():
        kind = {"Page": "text/html", "File": "*/*"}.get(schema, "application/json")
        content: Json = {kind: {"schema": ref(schema)}}
        responses[str(status)] = {"description": _MEANINGS[status], "content": content}
    if operation.stream != "never":
        streamed = responses.setdefault("200", {"description": "OK", "content": {}})
        streamed["content"]["text/event-stream"] = {"schema": {**TEXT, "description": STREAMS[operation.id]}}
    distinct: set[type[BridgeError]] = {*operation.errors, MethodNotAllowed}
    errors = sorted(distinct, key=lambda e: (e.http_status, e.code))
    for status, group in groupby(errors, key=lambda e: e.http_status):
        refused = list(group)
        name = ".".join([str(status), *(error.code for error in refused)])
        refusals.setdefault(name, _refusal(refused))
        responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return responses


_MEANINGS = {200: "OK", 201: "Made", 202: "Taken, and not finished yet"}


def _refusal(errors: list[type[BridgeError]]) -> Json:
    codes = [error.code for error in errors]
    narrowed = {"properties": {"reason": {"enum": codes}}}
    refusal: Json = {
        "description": ", ".join(f"`{code}`" for code in codes),
        "content": {"application/json": {"schema": {"allOf": [ref("Error"), narrowed]}}},
    }
    if errors[0].http_status == 401:
        refusal["headers"] = {"WWW-Authenticate": {"schema": TEXT, "description": "`Bearer`"}}
    return refusal


# --- for a browser ------------------------------------------------------------------------------

STYLE = """\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
body{color:#222;background:#fff}
h2{margin:2.5rem 0 0;font-size:1.1rem}code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
td{border-top:1px solid #8884;padding:.3rem .8rem .3rem 0;vertical-align:top}
td:first-child{white-space:nowrap}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8bf}}"""


def page(link: str) -> str:
    """The document as HTML that needs nothing else: no script, no other file. `link` leads to the JSON."""
    said = document()
    info = said["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(info['title'])} REST</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        *(f"<p>{_text(each)}</p>" for each in info["description"].split("\n\n")),
        f'<p><a href="{escape(link)}">openapi.json</a></p>',
    ]
    for path, methods in said["paths"].items():
        parts += [_section(path, method, operation) for method, operation in methods.items()]
    parts.append("<h1>Objects</h1>")
    parts += [_object(name, schema) for name, schema in said["components"]["schemas"].items()]
    return "\n".join([*parts, "</body></html>"])


def _section(path: str, method: str, operation: Json) -> str:
    rows = [
        (f"{p['name']} ({p['in']})", _kind(p["schema"]), p.get("description", ""))
        for p in operation.get("parameters", ())
    ]
    if "requestBody" in operation:
        rows.append(("body", _kind(operation["requestBody"]["content"]["application/json"]["schema"]), ""))
    refusals = []
    for status, response in operation["responses"].items():
        if "$ref" in response:
            codes = response["$ref"].rpartition("/")[2].split(".")[1:]
            refusals.append(f"{status} {', '.join(f'`{code}`' for code in codes)}")
            continue
        kinds = " or ".join(
            _kind(said["schema"]) if kind == "application/json" else escape(kind)
            for kind, said in response["content"].items()
        )
        rows.append((status, kinds, response["description"]))
    rows.append(("refusals", _kind(ref("Error")), "; ".join(refusals)))
    title = f"<h2 id={escape(operation['operationId'])}><code>{method.upper()} {escape(path)}</code></h2>"
    return f"{title}<p>{_text(operation['summary'])}</p>{_table(rows)}"


def _object(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = [
        (key if key in required else f"{key}?", _kind(each), each.get("description", ""))
        for key, each in schema.get("properties", {}).items()
    ]
    about = f"<p>{_text(schema['description'])}</p>" if "description" in schema else ""
    return f'<h2 id="{escape(name)}">{escape(name)}</h2>{about}{_table(rows)}'


def _table(rows: list[tuple[str, str, str]]) -> str:
    cells = (
        f"<tr><td><code>{escape(first)}</code></td><td>{kind}</td><td>{_text(about)}</td></tr>"
        for first, kind, about in rows
    )
    return f"<table>{''.join(cells)}</table>" if rows else ""


def _kind(schema: Json) -> str:
    """A schema's type, as short HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " | ".join(map(_kind, schema[several]))
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    kinds = schema.get("type", "")
    return escape(" | ".join(kinds) if isinstance(kinds, list) else kinds)


def _text(text: str) -> str:
    """Prose with `code` in it."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))
