"""What a log line holds, for machines and for people, and what it never holds."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import structlog

from worker.runtime import logs
from worker.runtime.redaction import MAX_TEXT, redact_text

if TYPE_CHECKING:
    from collections.abc import Callable

AUDIO = b"\x01\x02\x03\x04" * 100
SECRET = "hunter2-hunter2-hunter2-hunter2-hunter2"


@dataclass
class Chunk:
    pcm: bytes


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def _log() -> structlog.stdlib.BoundLogger:
    log: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger("worker.test")
    return log


def _connect(password: str) -> None:
    raise ConnectionError(f"redis://user:{password}@host refused {AUDIO!r}")


def test_an_event_is_one_json_line_as_google_cloud_wants_it(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logs.configure("info", "json")
    before = datetime.now(UTC)
    _log().info("batch.stored", bytes=42, seconds=60.0, trigger=None)
    (line,) = lines()
    assert before <= datetime.fromisoformat(line.pop("time")) <= datetime.now(UTC)
    assert line == {
        "severity": "INFO",
        "message": "batch.stored",
        "logger": "worker.test",
        "bytes": 42,
        "seconds": 60.0,
        "trigger": None,
    }


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
def test_every_level_has_its_severity(level: str, lines: Callable[[], list[dict[str, Any]]]) -> None:
    logs.configure("debug", "json")
    getattr(_log(), level)("x.y")
    assert [line["severity"] for line in lines()] == [level.upper()]


def test_events_below_the_level_are_left_out_and_a_second_call_replaces_the_first(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    logs.configure("debug", "json")
    logs.configure("warning", "json")
    _log().info("not.shown")
    _log().warning("shown.once")
    assert [line["message"] for line in lines()] == ["shown.once"]


def test_the_standard_library_takes_the_same_way(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logs.configure("info", "json")
    logging.getLogger("aiohttp.server").warning("closing %s of %d", "connection", 3, extra={"password": SECRET})
    (line,) = lines()
    assert (line["severity"], line["message"], line["logger"]) == (
        "WARNING",
        "closing connection of 3",
        "aiohttp.server",
    )


def test_an_exception_is_shown_without_local_variables_and_passwords(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    logs.configure("info", "json")
    try:
        _connect(SECRET)
    except ConnectionError:
        _log().exception("redis.lost")
    (line,) = lines()
    assert line["severity"] == "ERROR"
    assert "ConnectionError: redis://user:***@host refused [bytes]" in line["exception"]
    assert SECRET not in json.dumps(line)


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize(
    "fields",
    [
        {"pcm": SECRET},
        {"encryption_secret": SECRET},
        {"API-Key": SECRET},
        {"data": SECRET.encode()},
        {"data": [bytearray(SECRET.encode()), memoryview(SECRET.encode())]},
        {"data": {"inner": {"token": SECRET}}},
        {"data": {"a": {"b": {"c": {"d": {"e": {"f": SECRET}}}}}}},
        {"data": Chunk(SECRET.encode())},
        {"data": repr(Chunk(SECRET.encode()))},
        {"url": f"rediss://:{SECRET}@host:6379/0"},
        {"url": f"redis://host?password={SECRET}&db=0"},
        {"error": ValueError(f"redis://u:{SECRET}@host")},
        {"data": {f"redis://u:{SECRET}@host": 1}},
    ],
)
def test_audio_keys_and_secrets_never_reach_the_output(
    fields: dict[str, object], style: Literal["json", "console"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure("debug", style)
    _log().info("some.event", **fields)
    shown = capsys.readouterr().err
    assert "some.event" in shown
    assert SECRET not in shown


def test_harmless_values_are_kept_as_they_are(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logs.configure("info", "json")
    _log().info("x.y", flag=True, path=Path("/a/b"), items=(1, "two"), inner={"n": 1}, odd=float("inf"))
    (line,) = lines()
    assert (line["flag"], line["path"], line["items"], line["inner"]) == (True, "/a/b", [1, "two"], {"n": 1})
    assert line["odd"] == "inf"


def test_the_digest_that_names_a_secret_is_kept(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logs.configure("info", "json")
    _log().info("worker.started", key_id="0123abcd", key="0123abcd")
    (line,) = lines()
    assert (line["key_id"], line["key"]) == ("0123abcd", "***")


def test_a_text_is_bounded_whatever_was_sent(lines: Callable[[], list[dict[str, Any]]]) -> None:
    logs.configure("info", "json")
    _log().info("x.y", reason="a" * 10_000_000, many=list(range(100_000)))
    (line,) = lines()
    assert len(json.dumps(line)) < 2 * MAX_TEXT


@pytest.mark.parametrize("hostile", ["://a:" * 4000, "b'" * 8000, "b'" + "\\" * 16000, "password=" * 2000])
def test_hostile_text_is_masked_in_no_time(hostile: str) -> None:
    started = datetime.now(UTC)
    redact_text(hostile)
    assert (datetime.now(UTC) - started).total_seconds() < 1


def test_the_console_shows_the_event_and_its_fields_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "console")
    _log().info("batch.stored", bytes=42)
    (line,) = capsys.readouterr().err.splitlines()
    assert "batch.stored" in line
    assert "bytes=42" in line
