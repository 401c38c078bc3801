"""`codexrelay doctor`: what is wrong here, and which command mends it.

One file for each thing that is looked at. A check yields findings and raises nothing for what it
finds; one that fails all the same is a finding itself, and the others go on. What needs the network
runs side by side and has a few seconds.
"""

from __future__ import annotations

from contextlib import contextmanager
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
    others,
    port,
    state,
    stores,
)
from codexrelay.cli.doctor.finding import Finding, Level, broken
from codexrelay.cli.doctor.site import Site
from codexrelay.config.loading import load
from codexrelay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

#: What can be told from files alone, in the order in which it is told: its subject, and the check.
_CHECKS: Final = (
    ("store", stores.check),
    ("accounts", accounts.check),
    ("auth.json", auth_json.check),
    ("clock", clock.check),
    ("state", state.check),
    ("models", models.check),
    ("proxy", network.check_ways),
    ("certificates", network.check_certificates),
    ("host", port.check_name),
)
_REPORT: Final = (
    "this is a fault of the doctor's: look at the values that it names, and please report it"
)
_COLOURS: Final = {Level.OK: "green", Level.WARN: "yellow", Level.BROKEN: "red"}


@click.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(readable=False, path_type=Path),  # a file that cannot be read is a finding
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
    auth.json, the clock, the certificates, the port, and whether backends and sign-in service can
    be reached. The relay need not run, and may. No token is sent, an API key to its own backend
    alone; none is shown, and no setting is changed.

    Exit status: 0 nothing is broken, 1 something is, 2 wrong usage.
    """
    call = context.find_object(Call) or Call()
    call.config_path = config_path if config_path is not None else call.config_path
    call.world.configure_logs()
    found = tuple(findings(call, offline=offline))
    count = sum(finding.level is Level.BROKEN for finding in found)
    if as_json:
        print_json(
            {
                "findings": [
                    {**attrs.asdict(finding), "level": finding.level.value} for finding in found
                ],
                "broken": count,
            }
        )
    else:
        _print(found)
    context.exit(1 if count else 0)


def findings(call: Call, *, offline: bool) -> Sequence[Finding]:
    """Look at everything. What several checks or blocks find is told once."""
    file = configuration.file_of(call.config_path, call.world.environ)
    try:
        loaded = load(config_path=call.config_path, environ=call.world.environ, flags={})
    except ConfigError as error:
        return tuple(configuration.unusable(error.problems, file))
    found: list[Finding] = []
    with _border("configuration", found):
        found.extend(configuration.loads(loaded, file))
    with _border("accounts", found):
        site = Site.at(call, loaded.settings)
        for about, check in _CHECKS:
            with _border(about, found):
                found.extend(check(site))
        found += trio.run(partial(_ask, site, offline=offline))
    return tuple(dict.fromkeys(found))


@contextmanager
def _border(about: str, found: list[Finding]) -> Iterator[None]:
    """Turn whatever a check fails with into a finding."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - one check must not cost the findings of the others
        first: BaseException = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        told = f"could not be checked: {type(first).__name__}: {first}"
        found.append(broken(about, told, _REPORT))


async def _ask(site: Site, *, offline: bool) -> tuple[Finding, ...]:
    """Run the checks that need the network, side by side; their findings come in order."""
    checks: list[tuple[str, Callable[[], Awaitable[list[Finding]]]]] = [
        ("port", partial(port.check, site))
    ]
    if not offline:
        checks += [
            (target.about, partial(network.check, target, site))
            for target in network.targets_of(site)
        ]
    checks += [
        (other.name, partial(others.check, other, site, offline=offline))
        for other in others.others_of(site)
    ]
    told: list[list[Finding]] = [[] for _ in checks]

    async def run(number: int) -> None:
        about, check = checks[number]
        with _border(about, told[number]):
            told[number] += await check()

    async with trio.open_nursery() as nursery:
        for number in range(len(checks)):
            nursery.start_soon(run, number)
    return tuple(finding for one in told for finding in one)


def _print(found: Sequence[Finding]) -> None:
    for finding in found:
        level, told = finding.level.value, str(finding).removeprefix(finding.level.value)
        click.echo(click.style(level, fg=_COLOURS[finding.level]) + visible(told))
    counts = {level: sum(finding.level is level for finding in found) for level in Level}
    click.echo(
        f"{counts[Level.BROKEN]} broken, {counts[Level.WARN]} to look at, {counts[Level.OK]} good"
    )
