"""`python -m harness record`."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import click
import httpx
import trio

from codexrelay.cli import serve
from codexrelay.cli.flags import KeyedCommand, key_flags
from codexrelay.config.rules import is_loopback
from harness.cassettes.model import Origin
from harness.recording.known import known_secrets
from harness.recording.recorder import Recorder
from harness.recording.worker import InProcess
from harness.recording.writer import Said

if TYPE_CHECKING:
    from codexrelay.cli.process import World
    from codexrelay.config.live import Live
    from codexrelay.config.settings import Settings
    from codexrelay.server.listen import Bound
    from harness.recording.recorder import Recorded

_NAME: Final = re.compile(r"\w[\w.-]*", re.ASCII)
_SUFFIX: Final = ".yaml"
#: How long the thread that takes what is recorded to the process that writes it may hold up the
#: streams, in seconds; Python's default is 5 ms.
_SWITCH_S: Final = 0.0005


class OriginError(Exception):
    """What is said of a recording's origin cannot be; the text says why."""


@click.command(cls=KeyedCommand)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file (YAML); the variable CODEXRELAY_CONFIG may name it too.",
)
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that the cassettes are written into; it is made if it is not there.",
)
@click.option(
    "--name",
    help="Write one cassette, NAME.yaml. Without it they are named by their times, and another one "
    "is begun after 200 requests or 16 MB.",
)
@click.option("--scenario", help="What is recorded, in a word; it is noted in the cassette.")
@click.option(
    "--client", help="The program whose requests they are. Without it: what the relay recognises."
)
@click.option("--client-version", help="Its version. Without it: what its user-agent says.")
@click.option(
    "--origin",
    type=click.Choice(["live", "simulator", "authored"]),
    help="Where the answers come from. Without it: simulator if every backend is on this machine, "
    "else live.",
)
@key_flags
def record(
    config_path: Path | None,
    folder: Path,
    name: str | None,
    scenario: str | None,
    client: str | None,
    client_version: str | None,
    origin: Origin | None,
    **flags: str | None,
) -> None:
    """Serve as `codexrelay serve` does, with all its flags, and record both sides of the relay.

    The cassettes are written while it runs, without tokens, keys, accounts and names: see `python
    -m harness scan` before you give one away. Clients notice nothing. Exit status: 0; 1 if
    something was left out of a cassette or could not be written; 2 if it cannot be begun.
    """
    _check(folder, name)
    session = _Session(
        folder=folder,
        name=name,
        said=_Words(scenario=scenario, client=client, client_version=client_version, origin=origin),
    )
    try:
        serve.run(config_path, flags, session.serve)
    except* OriginError as group:
        raise click.UsageError(_text_of(group)) from None
    sys.exit(session.end())


def _text_of(group: BaseExceptionGroup[OriginError]) -> str:
    first = group.exceptions[0]
    return _text_of(first) if isinstance(first, BaseExceptionGroup) else str(first)


@attrs.frozen(kw_only=True)
class _Words:
    """What was said on the command line of the recording."""

    scenario: str | None
    client: str | None
    client_version: str | None
    origin: Origin | None


@attrs.define(eq=False, kw_only=True)
class _Session:
    """One run of the command."""

    folder: Path
    name: str | None
    said: _Words
    recorder: Recorder | None = None

    async def serve(self, live: Live) -> None:
        """Serve until a signal ends it, and record."""
        settings, words = live.settings, self.said
        world = serve.world_of(settings)
        secrets = await trio.to_thread.run_sync(known_secrets, settings, world)
        said = Said(
            origin=origin_of(settings, words.origin),
            client=words.client,
            client_version=words.client_version,
            scenario=words.scenario,
        )
        worker = await trio.to_thread.run_sync(InProcess.start, said, secrets)
        try:
            recorder = self.recorder = Recorder(
                folder=self.folder, name=self.name, worker=worker, wall_clock=time.time
            )
            sys.setswitchinterval(_SWITCH_S)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(recorder.keep_writing)
                await serve.serve_live(live, world=self._recorded(world, recorder))
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(worker.close)

    def end(self) -> int:
        """Say what was recorded; return the exit status."""
        if self.recorder is None:
            return 0
        for one in self.recorder.recorded:
            click.echo(told(one), err=True)
        if not self.recorder.recorded:
            click.echo("nothing was recorded: no request has come", err=True)
        left_out = any(one.counts.left_out for one in self.recorder.recorded)
        return 1 if self.recorder.failed or left_out else 0

    def _recorded(self, world: World, recorder: Recorder) -> World:
        async def bind(host: str, port: int) -> Bound:
            bound = await world.bind(host, port)
            click.echo(f"harness listening on {bound.url}", err=True)
            name = "recording-DATE-TIME" if self.name is None else self.name
            click.echo(f"recording to {self.folder / name}{_SUFFIX}", err=True)
            return bound

        return attrs.evolve(
            world,
            bind=bind,
            around_app=recorder.around_app,
            around_transport=recorder.around_transport,
            around_dial=recorder.around_dial,
        )


def told(one: Recorded) -> str:
    """Return one line about a cassette that was written."""
    counts = one.counts
    redacted = ", ".join(f"{number} {kind}" for kind, number in counts.redacted.items())
    parts = [
        f"{counts.interactions} requests, {counts.turns} of them turns of a client",
        f"{counts.incomplete} incomplete",
        f"redacted: {redacted or 'nothing'}",
    ]
    if counts.left_out:
        parts.append(f"LEFT OUT: {counts.left_out}, see the log")
    return f"recorded {one.path}: {'; '.join(parts)}"


def origin_of(settings: Settings, said: Origin | None) -> Origin:
    """Return what a recording's origin is, given what is said of it.

    The real backend is never on this machine; a model server may be.

    Raises:
        OriginError: what is said cannot be.
    """
    backends = settings.backends
    codex = [block.api_base_url for _, block in backends.family]
    others = [block.api_base_url for _, block in backends.others]
    away = [url for url in (*codex, *others) if not is_loopback(httpx.URL(url).host)]
    if said is None:
        return "live" if away else "simulator"
    if said == "live" and not away and not others:
        raise OriginError("--origin live: the only backend is on this machine, so it is not real")
    if said != "live" and away:
        host = httpx.URL(away[0]).host
        raise OriginError(f"--origin {said}: answers come from {host}, so the recording is live")
    return said


def _check(folder: Path, name: str | None) -> None:
    """See to it that there is a place for the cassettes.

    Raises:
        click.UsageError: there is not; nothing was served yet.
    """
    if name is not None and _NAME.fullmatch(name) is None:
        raise click.UsageError(f"--name: {name!r} is no name: use letters, digits, . - and _")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # As the cassettes are written: a file beside them, which is renamed.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise click.UsageError(
            f"--out: {folder} cannot be written into: {error.strerror or error}"
        ) from None
    path = folder / f"{name}{_SUFFIX}"
    if name is not None and os.path.lexists(path):
        raise click.UsageError(f"--name: {path} is there already; remove it, or take another name")
