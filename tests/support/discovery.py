"""Requests to BigQuery checked against Google's description of its API.

The description ships with `google-api-python-client`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

_PLAIN = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "object": Mapping, "array": list}

# Formats of numbers that the API writes as text, and accepts as both.
_NUMBERS_AS_TEXT = ("int64", "uint64")
_UPLOAD = re.compile(r"^(/resumable)?/upload(?=/bigquery/v2/)")
_UPLOAD_PARAMETERS = frozenset(("uploadType", "upload_id"))


@dataclass(frozen=True)
class Request:
    """A request to BigQuery: its method, its target with query, its type of content and its body."""

    method: str
    target: str
    content_type: str
    body: bytes

    @property
    def is_data(self) -> bool:
        """Whether the body is a part of a file."""
        return self.method == "PUT" and "upload_id=" in self.target


@cache
def description() -> Mapping[str, Any]:
    """Return Google's description of BigQuery's API."""
    file = files("googleapiclient") / "discovery_cache" / "documents" / "bigquery.v2.json"
    return json.loads(file.read_text(encoding="utf-8"))


def problems_of_request(request: Request) -> list[str]:
    """Return what the API does not know or accept in a request."""
    parts = urlsplit(request.target)
    path = _UPLOAD.sub("", parts.path).removeprefix("/bigquery/v2/")
    method = next((each for each in _methods(description()) if _serves(each, request.method, path)), None)
    if request.is_data:
        return []
    if method is None:
        return [f"{request.method} {parts.path} is no method of the API"]
    known = {*method.get("parameters", {}), *description()["parameters"], *_UPLOAD_PARAMETERS}
    problems = [f"{path}: unknown parameter {name}" for name in parse_qs(parts.query) if name not in known]
    body = _json_of(request)
    if body is None:
        return problems
    if "request" not in method:
        return [*problems, f"{path}: a body where none is expected"] if body else problems
    return [*problems, *problems_of(method["request"]["$ref"], body)]


def problems_of(schema: str, value: Any) -> list[str]:
    """Return where a JSON value does not have a schema of the API: unknown members, wrong types, unknown choices."""
    return list(_problems({"$ref": schema}, value, schema))


def _json_of(request: Request) -> Any:
    body = request.body
    if request.content_type.startswith("multipart/"):
        body = body.split(b"\r\n\r\n" if b"\r\n\r\n" in body else b"\n\n", 2)[1].partition(b"\n--")[0]
    return json.loads(body) if body.strip() else None


def _methods(resource: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for child in resource.get("resources", {}).values():
        yield from child.get("methods", {}).values()
        yield from _methods(child)


def _serves(method: Mapping[str, Any], verb: str, path: str) -> bool:
    pattern = "".join(
        "[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^}]*\})", method["path"])
    )
    return method["httpMethod"] == verb and re.fullmatch(pattern, unquote(path)) is not None


def _problems(schema: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    schema = description()["schemas"][schema["$ref"]] if "$ref" in schema else schema
    kind = schema.get("type", "any")
    if value is None or kind == "any":
        return
    if not _has_type(schema, kind, value):
        yield f"{path}: {json.dumps(value)[:80]} is no {kind}"
    elif kind == "array":
        for index, item in enumerate(value):
            yield from _problems(schema["items"], item, f"{path}[{index}]")
    elif kind == "object":
        yield from _member_problems(schema, value, path)
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {', '.join(schema['enum'])}"


def _has_type(schema: Mapping[str, Any], kind: str, value: Any) -> bool:
    if kind == "string" and schema.get("format") in _NUMBERS_AS_TEXT:
        return not isinstance(value, bool) and re.fullmatch(r"-?\d+", str(value)) is not None
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _PLAIN[kind])


def _member_problems(schema: Mapping[str, Any], value: Mapping[str, Any], path: str) -> Iterator[str]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, member in value.items():
        known = properties.get(name, others)
        if known is None:
            yield f"{path}.{name}: unknown"
        elif known.get("readOnly"):
            yield f"{path}.{name}: only BigQuery sets it"
        else:
            yield from _problems(known, member, f"{path}.{name}")
