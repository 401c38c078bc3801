"""Whether lines of level debug are told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from codexrelay.server import debug

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = {
    "debug": (logging.DEBUG, True),
    "all": (logging.NOTSET, True),
    "info": (logging.INFO, False),
    "warning": (logging.WARNING, False),
    "error": (logging.ERROR, False),
}


@pytest.fixture
def configuration() -> Iterator[dict[str, Any]]:
    before = structlog.get_config()
    yield before
    structlog.configure(**before)


@pytest.mark.parametrize(("level", "told"), LEVELS.values(), ids=LEVELS)
def test_lines_are_told_by_the_level_of_this_moment(
    level: int, *, told: bool, configuration: dict[str, Any]
) -> None:
    structlog.configure(
        **configuration | {"wrapper_class": structlog.make_filtering_bound_logger(level)}
    )
    assert debug.is_told() is told


def test_a_logger_of_another_kind_is_asked_itself(configuration: dict[str, Any]) -> None:
    structlog.configure(**configuration | {"wrapper_class": structlog.BoundLogger})
    assert debug.is_told()
