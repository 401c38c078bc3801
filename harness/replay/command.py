"""`python -m harness replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args

import click
import trio

from harness.cassettes.errors import CassetteError
from harness.cassettes.model import Track
from harness.faults.plan import Plan
from harness.faults.text import FaultTextError, listing
from harness.replay import library
from harness.replay.inside import say_miss, serve_relay, websocket_mode
from harness.replay.ledger import TRACKS, Ledger
from harness.replay.pace import Pace
from harness.replay.server import ReplayServer
from harness.simulator.command import serve_until_interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.cassettes.model import Cassette, Interaction
    from harness.replay.server import Change

#: Exit status when something did not go as recorded, and for what cannot be replayed at all.
_PROBLEMS: Final = 1
_UNUSABLE: Final = 2


def _pace_of(_ctx: click.Context, _param: click.Parameter, given: str) -> Pace:
    try:
        return Pace.parse(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _list_faults(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:  # noqa: FBT001
    if asked:
        click.echo(listing())
        ctx.exit()


@click.command()
@click.argument(
    "paths", metavar="CASSETTE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--speed",
    "pace",
    callback=_pace_of,
    metavar="N|instant|causal",
    default="1",
    show_default=True,
    help="Recorded times are divided by N. instant: nothing is waited for. causal: nor for time, "
    "but a chunk waits until every request has begun that had begun before it.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="TCP port; 0 takes a free one.",
)
@click.option(
    "--relay",
    is_flag=True,
    help="Serve as a whole relay whose upstream is the cassette, for any client.",
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With --relay: further settings of the relay. Its accounts are made up in any case.",
)
@click.option(
    "--track",
    type=click.Choice(get_args(Track)),
    help="Serve one track alone: client, as a relay to a client; upstream, as a backend to a "
    "relay. Default: both.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="TEXT",
    help="Let something go wrong with the answers, such as `cut@1234+rst` or `2:status=503`; may "
    "be repeated. --faults lists them.",
)
@click.option(
    "--faults",
    "listed",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="List what can go wrong, and how it is written.",
)
@click.option(
    "--loose",
    is_flag=True,
    help="Play the last answer again to whoever asks more often than recorded, and let nothing be "
    "missing: only what was never recorded is a problem.",
)
def replay(
    paths: tuple[Path, ...],
    pace: Pace,
    port: int,
    *,
    relay: bool,
    config_path: Path | None,
    track: Track | None,
    faults: tuple[str, ...],
    loose: bool,
) -> None:
    """Serve what cassettes (files, or folders of them) hold, until interrupted.

    It never asks anybody else: a request that was not recorded is answered with status 400, code
    cassette_miss, and told on stderr together with the recording that is nearest.

    At the end it names what did not go as recorded. Exit status 0: nothing; 1: something; 2: there
    is nothing that can be replayed.
    """
    if relay and track == "client":
        raise click.UsageError("with --relay the client's track is what the relay answers itself")
    if config_path is not None and not relay:
        raise click.UsageError("--config is for --relay")
    tracks: tuple[Track, ...] = ("upstream",) if relay else TRACKS if track is None else (track,)
    cassettes = _cassettes_of(paths)
    ledger = _ledger_of(cassettes, tracks, loose=loose)
    change = _change_of(faults)
    if relay:
        serve_relay(
            ledger,
            pace=pace,
            change=change,
            port=port,
            config_path=config_path,
            began_unix_s=library.began_unix_s(cassettes),
            websocket=None if config_path is not None else websocket_mode(_all_of(cassettes)),
        )
    else:
        _serve_backend(ledger, pace=pace, change=change, port=port)
    problems = ledger.problems()
    for problem in problems:
        click.echo(problem.partition("\n")[0], err=True)  # the rest was told when it happened
    click.echo(ledger.summary, err=True)
    sys.exit(_PROBLEMS if problems else 0)


def _cassettes_of(paths: tuple[Path, ...]) -> Mapping[str, Cassette]:
    """Read the cassettes and say what is not whole; what cannot be read ends the process."""
    try:
        cassettes = library.read_all(paths)
    except CassetteError as error:
        click.echo(str(error), err=True)
        sys.exit(_UNUSABLE)
    for line in library.incomplete(cassettes):
        click.echo(f"harness replay: incomplete: {line}", err=True)
    return cassettes


def _all_of(cassettes: Mapping[str, Cassette]) -> Iterator[Interaction]:
    for cassette in cassettes.values():
        yield from cassette.interactions


def _ledger_of(
    cassettes: Mapping[str, Cassette], tracks: tuple[Track, ...], *, loose: bool
) -> Ledger:
    ledger = Ledger.of(cassettes, tracks=tracks, repeat=loose, filled=True)
    if not ledger.recordings:
        raise click.UsageError(f"nothing was recorded on the track {' or '.join(tracks)}")
    return ledger


def _change_of(faults: tuple[str, ...]) -> Change:
    try:
        return Plan.parse(faults).change
    except FaultTextError as error:
        raise click.BadParameter(str(error), param_hint="--fault") from None


def _serve_backend(ledger: Ledger, *, pace: Pace, change: Change, port: int) -> None:
    server = ReplayServer(ledger=ledger, pace=pace, change=change, port=port, on_miss=say_miss)
    try:
        trio.run(serve_until_interrupted, server)
    except* OSError as group:
        for error in group.exceptions:
            click.echo(f"harness replay: port {port} cannot be used: {error}", err=True)
        sys.exit(_UNUSABLE)
