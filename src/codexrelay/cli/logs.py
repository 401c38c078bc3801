"""Where log lines go: one line each to stderr, readable by people and by `grep`."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Final

import attrs
import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, WrappedLogger

_WIDTH: Final = 24
_ONE_WORD: Final = re.compile(r"[^\s\"'=]+").fullmatch
#: What ids, models and most other values are: one word that hides nothing.
_PLAIN: Final = re.compile(r"[\w./:-]+", re.ASCII).fullmatch
_NUMBERS: Final = (int, float)


def configure(level: str) -> None:
    """Send log lines of at least `level` to stderr, and the libraries' warnings with them.

    It may be called again: loggers that were used before follow.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Factory(structlog.PrintLogger(sys.stderr)),
        # A logger that was cached would keep the level that was in force when it was first used.
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=sys.stderr)
    logging.getLogger().setLevel(max(threshold, logging.WARNING))


@attrs.frozen
class _Factory:
    """Gives one and the same logger: another one would be made for each line."""

    _logger: structlog.PrintLogger

    def __call__(self, *_names: object) -> structlog.PrintLogger:
        return self._logger


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """`12:00:00 info    turn completed  request=… account=…`."""
    time, level, text = event.pop("timestamp"), event.pop("level"), event.pop("event")
    traceback = event.pop("exception", None)
    facts = " ".join(
        [
            # A number is always one word.
            f"{name}={value if type(value) in _NUMBERS else _value(value)}"
            for name, value in event.items()
            if value is not None
        ]
    )
    line = f"{time} {level:<8}{text:<{_WIDTH}} {facts}".rstrip()
    return _visible(f"{line}\n{traceback}" if traceback else line)


def _value(value: object) -> str:
    """A value as one word: quoted when it holds blanks; line ends can forge no second line."""
    text = str(value)
    return text if _PLAIN(text) or (text.isprintable() and _ONE_WORD(text)) else repr(text)


def _visible(text: str) -> str:
    """Return the text with what a terminal would obey written out, line ends excepted."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
