"""Where log lines go: one line each to stderr, readable by people and by `grep`."""

from __future__ import annotations

import logging
import re
import sys
import time
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
        processors=[_Lines()],
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


@attrs.define(eq=False)
class _Lines:
    """Makes the lines: `12:00:00 info    turn completed  request=… account=…`.

    One processor instead of one for each part, and a time of day that is made once a second: a busy
    relay tells of thousands of turns in that time.
    """

    _second: int = -1
    _time_of_day: str = ""

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> str:
        second = int(time.time())  # noqa: TID251 - nothing is decided by it
        if second != self._second:
            self._second = second
            self._time_of_day = time.strftime("%H:%M:%S", time.localtime(second))
        event["timestamp"], event["level"] = self._time_of_day, method
        if "exc_info" in event:
            event = structlog.processors.format_exc_info(_logger, method, event)
        return _render(_logger, method, event)


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    time_of_day, level, text = event.pop("timestamp"), event.pop("level"), event.pop("event")
    traceback = event.pop("exception", None)
    facts = " ".join(
        [
            # A number is always one word, and most values are seen to be one at once.
            f"{name}={value}"
            if type(value) in _NUMBERS or (type(value) is str and _PLAIN(value))
            else f"{name}={_value(value)}"
            for name, value in event.items()
            if value is not None
        ]
    )
    line = f"{time_of_day} {level:<8}{text:<{_WIDTH}} {facts}".rstrip()
    return _visible(f"{line}\n{traceback}" if traceback else line)


def _value(value: object) -> str:
    """A value as one word: quoted when it holds blanks; line ends can forge no second line."""
    text = str(value)
    return text if text.isprintable() and _ONE_WORD(text) else repr(text)


def _visible(text: str) -> str:
    """Return the text with what a terminal would obey written out, line ends excepted."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
