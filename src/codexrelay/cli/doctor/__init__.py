"""`codexrelay doctor`: what is wrong here, and which command mends it.

One file for each thing that is looked at. A check yields findings and raises nothing for what it
finds; what needs the network runs side by side and has a few seconds.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import click
import trio

from codexrelay.cli.accounts.call import Call
from codexrelay.cli.accounts.screen import print_json
from codexrelay.cli.accounts.words import visible
from codexrelay.cli.doctor import (
    accounts,
    auth_json,
    clock,
    configuration,
    models,
    network,
    port,
    state,
    stores,
)
from codexrelay.cli.doctor.finding import Level
from codexrelay.cli.doctor.site import Site
from codexrelay.config.loading import load
from codexrelay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from codexrelay.cli.doctor.finding import Finding

#: What can be told from files alone, in the order in which it is told.
_CHECKS: Final = (
    stores.check,
    accounts.check,
    auth_json.check,
    clock.check,
    state.check,
    models.check,
    network.check_ways,
)
_COLOURS: Final = {Level.OK: "green", Level.WARN: "yellow", Level.BROKEN: "red"}


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file of the relay; CODEXRELAY_CONFIG may name it too.",
)
@click.option("--offline", is_flag=True, help="Ask neither the backend nor the sign-in service.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.pass_context
def doctor(
    context: click.Context, config_path: Path | None, *, offline: bool, as_json: bool
) -> None:
    """Look for what is wrong: a line for each finding, with the command that mends it.

    Looks at the configuration, the account files and their modes, every account, Codex CLI's
    auth.json, the clock, the port, and whether backend and sign-in service can be reached. The
    relay need not run, and may. No token is sent or shown, and no setting is changed.

    Exit status: 0 nothing is broken, 1 something is, 2 wrong usage.
    """
    call = context.find_object(Call) or Call()
    call.config_path = config_path if config_path is not None else call.config_path
    call.world.configure_logs()
    found = tuple(findings(call, offline=offline))
    broken = [finding for finding in found if finding.level is Level.BROKEN]
    if as_json:
        print_json(
            {
                "findings": [
                    {**attrs.asdict(finding), "level": finding.level.value} for finding in found
                ],
                "broken": len(broken),
            }
        )
    else:
        _print(found)
    context.exit(1 if broken else 0)


def findings(call: Call, *, offline: bool) -> Iterator[Finding]:
    """Look at everything."""
    file = configuration.file_of(call.config_path, call.world.environ)
    try:
        loaded = load(config_path=call.config_path, environ=call.world.environ, flags={})
    except ConfigError as error:
        yield from configuration.unusable(error.problems, file)
        return
    yield from configuration.loads(loaded, file)
    site = Site.at(call, loaded.settings)
    for check in _CHECKS:
        yield from check(site)
    yield from trio.run(partial(_ask, site, offline=offline))


async def _ask(site: Site, *, offline: bool) -> tuple[Finding, ...]:
    """Run the checks that need the network, side by side; their findings come in order."""
    checks: list[Callable[[], Awaitable[list[Finding]]]] = [partial(port.check, site)]
    if not offline:
        checks += [partial(network.check, target, site) for target in network.targets_of(site)]
    told: dict[int, list[Finding]] = {}

    async def run(number: int, check: Callable[[], Awaitable[list[Finding]]]) -> None:
        told[number] = await check()

    async with trio.open_nursery() as nursery:
        for number, check in enumerate(checks):
            nursery.start_soon(run, number, check)
    return tuple(dict.fromkeys(finding for number in sorted(told) for finding in told[number]))


def _print(found: Sequence[Finding]) -> None:
    for finding in found:
        level, told = finding.level.value, str(finding).removeprefix(finding.level.value)
        click.echo(click.style(level, fg=_COLOURS[finding.level]) + visible(told))
    counts = {level: sum(finding.level is level for finding in found) for level in Level}
    click.echo(
        f"{counts[Level.BROKEN]} broken, {counts[Level.WARN]} to look at, {counts[Level.OK]} good"
    )
