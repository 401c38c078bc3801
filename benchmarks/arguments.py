"""The command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import attrs

from benchmarks.bridges import BRIDGE_MEASUREMENTS
from benchmarks.compression import NAME as COMPRESSION
from benchmarks.measurements import MEASUREMENTS, Measurement
from benchmarks.subject import BARE_TRIO, CODEXRELAY, NGINX, ONE_PUMP, Subject, running_relay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Everything that is started here, in the order of the table's columns.
STARTED: Final = (NGINX, BARE_TRIO, ONE_PUMP, CODEXRELAY)
_NAMES: Final = (
    *(measurement.name for measurement in (*MEASUREMENTS, *BRIDGE_MEASUREMENTS)),
    COMPRESSION,
)
RESULTS: Final = Path(__file__).resolve().parent / "results"
_QUICK_SCALE: Final = 0.15
_FULL_ROUNDS: Final = 3


@attrs.frozen(kw_only=True)
class Options:
    """What to measure, and how thoroughly."""

    measurements: tuple[Measurement, ...]
    #: Those that compare the relay's four bridges.
    bridges: tuple[Measurement, ...]
    #: Whether compression of tool outputs is measured, for which nothing is started.
    compression: bool
    rounds: int
    #: Share of the full length of each measurement.
    scale: float
    #: Which of `STARTED` to start.
    started: tuple[str, ...]
    #: Relays that run already.
    relays: tuple[Subject, ...]
    #: 0: a free one.
    stub_port: int
    #: Extra request headers, as `name: value`.
    headers: tuple[str, ...]
    #: Where the figures of every round and the pictures go, as files called after the run.
    results: Path
    #: `quick`, `full`, or `some` where not everything was asked for.
    name: str


def read_arguments(arguments: Sequence[str]) -> Options:
    """Return the options; exits with a message when they are no good, as argparse does."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.relay and not given.stub_port:
        parser.error("--relay needs --stub-port: the backend that the relay was told to use")

    def chosen(known: Sequence[Measurement]) -> tuple[Measurement, ...]:
        if given.only:
            return tuple(m for m in known if m.name in given.only)
        return tuple(m for m in known if given.full or m.quick)

    return Options(
        measurements=chosen(MEASUREMENTS),
        bridges=chosen(BRIDGE_MEASUREMENTS) if CODEXRELAY not in given.without else (),
        compression=COMPRESSION in given.only if given.only else given.full,
        rounds=given.rounds or (_FULL_ROUNDS if given.full else 1),
        scale=1.0 if given.full else _QUICK_SCALE,
        started=tuple(name for name in STARTED if name not in given.without),
        relays=tuple(given.relay),
        stub_port=given.stub_port,
        headers=tuple(given.header),
        results=given.results,
        name="some" if given.only else "full" if given.full else "quick",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the relay beside yardsticks."
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--quick", action="store_true", help="one short round, about a minute: the default"
    )
    length.add_argument(
        "--full",
        action="store_true",
        help=f"everything at full length, {_FULL_ROUNDS} rounds: a quarter of an hour",
    )
    parser.add_argument("--rounds", type=_at_least_1, help="interleaved rounds")
    parser.add_argument(
        "--only",
        type=_some_of(_NAMES),
        default=(),
        metavar="NAME,…",
        help=f"measurements: {', '.join(_NAMES)}",
    )
    parser.add_argument(
        "--without",
        type=_some_of(STARTED),
        default=(),
        metavar="NAME,…",
        help=f"leave out: {', '.join(STARTED)}",
    )
    parser.add_argument(
        "--relay",
        type=_argument(running_relay),
        action="append",
        default=[],
        metavar="NAME=URL[,PID]",
        help="another relay, running already; with its process id CPU and memory are measured too",
    )
    parser.add_argument(
        "--stub-port", type=int, default=0, help="port of the stub, the backend of such a relay"
    )
    parser.add_argument(
        "--header", action="append", default=[], help="extra request header, such as a client key"
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="FOLDER",
        help="where figures and pictures go: benchmarks/results unless told otherwise",
    )
    return parser


_T = TypeVar("_T")


def _argument(read: Callable[[str], _T]) -> Callable[[str], _T]:
    """Let argparse show the message of a ValueError, which it otherwise keeps to itself."""

    def convert(text: str) -> _T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _some_of(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        words = tuple(word.strip() for word in text.split(",") if word.strip())
        if unknown := [word for word in words if word not in known]:
            raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return words

    return _argument(read)


def _at_least_1(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1 is needed")
    return int(text)
