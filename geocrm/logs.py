"""Logs: JSON lines on standard error, without tokens, positions or personal data."""

import sys
import traceback

import structlog


class _StandardError:
    """Standard error as it is at the moment of writing."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure() -> None:
    """Make every logger of this process write JSON lines."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=_StandardError()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )


def where(error: BaseException) -> list[str]:
    """Where an error happened, innermost last, without the values: they may be personal data."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename.rpartition('/geocrm/')[2]}:{frame.lineno} {frame.name}" for frame in frames][-12:]
