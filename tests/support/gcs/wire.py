"""How the JSON API puts things into HTTP: multipart bodies, ranges, checksums, and selectors of reply fields."""

from __future__ import annotations

import json
import re
from email.message import Message
from typing import TYPE_CHECKING, Any

from tests.support.gcs.objects import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
SELECTOR = re.compile(r"[^,()/]+")


def parse_json(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ApiError(400, "parseError", "Parse Error")
    return parsed


def split_multipart(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes, str]:
    """The resource, the data and the data's content type of a multipart/related upload."""
    message = Message()
    message["Content-Type"] = content_type
    boundary = str(message.get_param("boundary", "")).encode()
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if message.get_content_type() != "multipart/related" or not boundary or len(parts) != 4:
        raise ApiError(400, "badContent", "Multipart body must have two parts")
    if parts[0] or not parts[3].startswith(b"--"):
        raise ApiError(400, "badContent", "Malformed multipart body")
    (_, described), (headers, data) = (_part(part) for part in parts[1:3])
    return parse_json(described), data, headers


def _part(part: bytes) -> tuple[str, bytes]:
    head, separator, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    found = re.search(rb"(?im)^content-type:\s*([^\r\n]+)", head)
    if not separator or not found:
        raise ApiError(400, "badContent", "A part of the multipart body lacks its content type")
    return found[1].decode(), content


def sums(headers: Mapping[str, str]) -> dict[str, str]:
    """The checksums of an X-Goog-Hash header, under the resource's names."""
    names = {"crc32c": "crc32c", "md5": "md5Hash"}
    pairs = [part.strip().partition("=") for part in headers.get("X-Goog-Hash", "").split(",") if part.strip()]
    return {names[kind]: value for kind, _, value in pairs if kind in names}


def content_range(headers: Mapping[str, str], length: int) -> tuple[int | None, int, int | None]:
    """First and last byte and total of an upload's chunk; first is None in a status query, total None if unknown."""
    header = headers.get("Content-Range")
    if header is None:
        return 0, length - 1, length
    match = CONTENT_RANGE.fullmatch(header)
    if match is None:
        raise ApiError(400, "invalid", "Failed to parse Content-Range header")
    total = None if match[3] == "*" else int(match[3])
    return (None, -1, total) if match[1] is None else (int(match[1]), int(match[2]), total)


def requested_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end, exclusive, of a Range header; None without a usable one."""
    match = RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if start >= size or end <= start:
        raise ApiError(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
    return start, end


def select(value: Mapping[str, Any], fields: str) -> dict[str, Any]:
    """Apply a partial-response selector: `a,b(c,d),e/f`; "*" stands for all."""
    wanted = dict(_selectors(fields))
    if "*" in wanted:
        return dict(value)
    return {key: _inside(value[key], inner) for key, inner in wanted.items() if key in value}


def _inside(value: object, fields: str) -> object:
    if fields and isinstance(value, list):
        return [select(item, fields) for item in value]
    return select(value, fields) if fields and isinstance(value, dict) else value


def _selectors(fields: str) -> Iterator[tuple[str, str]]:
    for text in _split_outside_parentheses(fields):
        key = SELECTOR.match(text)
        if key is None:
            raise ApiError(400, "invalidParameter", f"Invalid field selection {text}")
        inner = text[key.end() :]
        yield key[0], inner[1:-1] if inner.startswith("(") else inner[1:]


def _split_outside_parentheses(fields: str) -> list[str]:
    depth, parts = 0, [""]
    for letter in fields.replace(" ", ""):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts
