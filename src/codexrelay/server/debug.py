"""Whether lines of level debug are told at all.

To ask costs less than to have structlog make a logger that drops the line: that is what it does for
each, because the level may change while the relay runs.
"""

from __future__ import annotations

import logging
from typing import Final

import structlog

_ABOVE: Final = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
#: What loggers are made of that tell no such lines. Any other one is asked itself.
_SILENT: Final = frozenset(map(structlog.make_filtering_bound_logger, _ABOVE))


def is_told() -> bool:
    """Tell whether a line of level debug goes anywhere, by the configuration of this moment."""
    return structlog.get_config()["wrapper_class"] not in _SILENT
