"""Logs: one line an event, for people or as JSON, with run, task and attempt where they are bound.

Bind them with `structlog.contextvars.bound_contextvars(run=..., task=..., attempt=...)`;
each asyncio task has its own.
"""

import logging
import re
import sys
from typing import Any

import structlog

FORMATS = ("human", "json")
LEVELS = ("debug", "info", "warning", "error")


_SECRET = re.compile(r"sk-ant-[\w-]+|(?i:bearer )[\w.~+/=-]{8,}|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")


def configure_logs(service: str, format: str, level: str) -> None:
    """Write logs to standard error, as `format`, from `level` up. Libraries' logs from WARNING up."""

    def name_service(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**event, "service": service}

    enrich: list[structlog.typing.Processor] = [
        name_service,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[structlog.typing.Processor] = [*_renderers(format), _redact]
    structlog.configure(
        processors=[*enrich, *render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    libraries = logging.StreamHandler(sys.stderr)
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=enrich, processors=[without_meta, *render])
    )
    logging.basicConfig(handlers=[libraries], level=logging.WARNING, force=True)


def _renderers(format: str) -> list[structlog.typing.Processor]:
    if format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            pad_event_to=0,
            # The default one shows local variables, and so whatever secret they hold.
            exception_formatter=structlog.dev.plain_traceback,
        )
    ]


def _redact(_: object, __: str, line: Any) -> str:
    """Keys, tokens and passwords in URLs are never logged, whatever text they came in."""
    return _SECRET.sub("[secret]", str(line))
