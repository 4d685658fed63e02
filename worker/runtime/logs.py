"""Logging: one JSON object per line in the form Google Cloud Logging understands, or coloured lines for people.

Messages that libraries log through the standard library are handled in the same way.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal, cast

import structlog
from structlog.stdlib import ProcessorFormatter

from worker.runtime.redaction import redact_fields

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

HANDLER = "audio-batch-worker"

SEVERITIES = {
    "debug": "DEBUG",
    "info": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "exception": "ERROR",
    "critical": "CRITICAL",
}
"""structlog's level → LogSeverity, https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#LogSeverity."""


def configure(level: str, style: Literal["json", "console"]) -> None:
    """Send every log event to standard error from now on; a second call replaces the first.

    Args:
        level: least severity logged, as in LOG_LEVEL.
        style: json for machines, console for people.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(HANDLER)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=_shared(),
            processors=[
                ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _redact,
                *(_json() if style == "json" else _console()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if other.get_name() != HANDLER] + [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]


def _json() -> list[Processor]:
    return [
        _severity,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(allow_nan=False),
    ]


def _console() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback),
    ]


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return cast("EventDict", redact_fields(event))


def _severity(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["severity"] = SEVERITIES.get(event.pop("level"), "DEFAULT")
    return event
