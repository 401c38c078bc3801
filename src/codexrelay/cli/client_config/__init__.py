"""`codexrelay client-config`: what an agent program must be told to use the relay.

`programs/` has one file for each program; `address` and `models` say what it is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from codexrelay.cli.accounts.failure import ConfigFailureError
from codexrelay.cli.accounts.screen import print_json, tell
from codexrelay.cli.accounts.world import World
from codexrelay.cli.client_config.address import address_of, read_address, unnamed_host
from codexrelay.cli.client_config.models import SPARE_ALIAS, models_of, name_for
from codexrelay.cli.client_config.programs import find_programs
from codexrelay.cli.client_config.programs.program import KEY_VARIABLE, Target, quoted
from codexrelay.config.loading import load
from codexrelay.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.cli.client_config.models import Named
    from codexrelay.cli.client_config.programs.program import Block, WireProtocol
    from codexrelay.config.settings import Settings

PROGRAMS: Final = find_programs()
#: What a program sends as its key where the relay takes any.
ANY_KEY: Final = "any"


@click.command("client-config")
@click.argument("program", type=click.Choice(tuple(PROGRAMS)))
@click.option(
    "--protocol",
    type=click.Choice(("chat", "responses")),
    help="What it shall speak; by default responses, which loses nothing.",
)
@click.option(
    "--model", metavar="NAME", help="A model, or an alias; by default the first of the list."
)
@click.option(
    "--url", metavar="URL", help="The relay's address, instead of the configured host and port."
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file of the relay; CODEXRELAY_CONFIG may name it too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@click.pass_context
def client_config(
    context: click.Context,
    program: str,
    *,
    protocol: WireProtocol | None,
    model: str | None,
    url: str | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Print what an agent program must be told to use the relay, which need not run.

    The block goes to stdout, ready to be pasted or appended to a file; where it belongs, and what
    else to do, stands on stderr. Each block shows where the program can set capabilities for its
    own requests; what it sets there is the default.

    Exit status: 0 printed, 2 wrong usage or configuration.
    """
    settings = _settings(config_path, context.find_object(World) or World())
    chosen = PROGRAMS[program]
    spoken = protocol or chosen.protocols[0]
    if spoken not in chosen.protocols:
        raise click.BadParameter(
            f"{chosen.title} speaks {' and '.join(chosen.protocols)} only",
            param_hint="'--protocol'",
        )
    try:
        named = name_for(
            model,
            models_of(settings),
            aliases=settings.models.aliases,
            openai_like=not (program == "droid" and spoken == "chat"),
        )
    except RequestError as error:
        raise click.BadParameter(str(error), param_hint="'--model'") from None
    if settings.models.strict and not named.is_known:
        raise click.BadParameter(
            f"the relay's list has no {named.alias_of or named.name}, and with models.strict it "
            "is refused: see `codexrelay models`",
            param_hint="'--model'",
        )
    address = _address(url, settings)
    needs_key = bool(settings.server.client_keys)
    target = Target(
        protocol=spoken,
        api_url=f"{address}/v1",
        model=named.name,
        context_tokens=named.context_tokens,
        key=None if needs_key else ANY_KEY,
    )
    block = chosen.block(target)
    notes = dict(_notes(block, named, address, settings))
    if as_json:
        print_json(
            {
                "program": program,
                "protocol": spoken,
                "url": target.api_url,
                "model": target.model,
                "key_variable": KEY_VARIABLE if needs_key else None,
                "language": block.language,
                "content": block.text,
                "notes": {**notes},
            }
        )
        return
    for about, told in notes.items():
        tell(f"{about:<10}{told}")
    tell("")
    click.echo(block.text, nl=False)


def _settings(config_path: Path | None, world: World) -> Settings:
    try:
        return load(config_path=config_path, environ=world.environ, flags={}).settings
    except ConfigError as error:
        raise ConfigFailureError(tuple(map(str, error.problems))) from None


def _address(url: str | None, settings: Settings) -> str:
    if url is None:
        try:
            return address_of(settings.server)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    try:
        return read_address(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--url'") from None


def _notes(
    block: Block, named: Named, address: str, settings: Settings
) -> Iterator[tuple[str, str]]:
    """Yield what there is to know about the block, and a word for what each is about."""
    yield "file", block.path
    yield "run", block.use
    if (host := unnamed_host(address, settings.server)) is not None:
        allowed = ", ".join(map(quoted, (*settings.server.allowed_hosts, host)))
        yield (
            "host",
            f"server: {{allowed_hosts: [{allowed}]}} must stand in the relay's configuration, "
            "since it refuses a name that is not there",
        )
    if settings.server.client_keys:
        yield "key", f"set {KEY_VARIABLE} to one of server.client_keys"
    if not named.is_known:
        yield (
            "model",
            f"the relay's list has no {named.alias_of or named.name}: see codexrelay models",
        )
    if named.alias_of is not None:
        means = {name.lower(): target for name, target in settings.models.aliases.items()}
        taken = means.get(SPARE_ALIAS)
        why = "" if taken is None else f" ({SPARE_ALIAS} means {taken} there)"
        yield (
            "alias",
            f"models: {{aliases: {{{named.name}: {named.alias_of}}}}} must stand in the relay's "
            f"configuration{why}, since Droid takes a name like OpenAI's for a mistake over chat",
        )
    yield (
        "optional",
        f"{block.optional}: capabilities for the requests of this client, which beat those of the "
        "relay's configuration",
    )
