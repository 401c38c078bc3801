"""What one command was asked for: the options that all commands have, and what they lead to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import click

from codexrelay.cli.accounts.failure import ConfigFailureError
from codexrelay.cli.accounts.instance import Instance
from codexrelay.cli.accounts.world import World
from codexrelay.config.folders import legacy_folders
from codexrelay.config.loading import Loaded, load
from codexrelay.errors import ConfigError
from codexrelay.protocol.model_id import instance_named

if TYPE_CHECKING:
    from datetime import tzinfo

    from codexrelay.config.settings import Settings

_STORAGE_PATH: Final = "backends.openai_codex.extra.codex.managed_oauth.storage_path"

_Command = TypeVar("_Command", bound=Callable[..., object])


@attrs.define(eq=False)
class Call:
    """One run of the program. Shared by the group and its command: each may be given options."""

    world: World = attrs.field(factory=World)
    config_path: Path | None = None
    storage_path: str | None = None
    instance_name: str | None = None
    as_json: bool = False
    _loaded: Loaded | None = attrs.field(default=None, init=False)

    @property
    def zone(self) -> tzinfo | None:
        """In which instants are shown."""
        return self.world.zone

    def now_unix_s(self) -> float:
        """Return the wall clock's time."""
        return self.world.wall_clock()

    def all_instances(self) -> tuple[Instance, ...]:
        """Return the instance that was asked for, else every one of the configuration.

        Raises:
            ConfigFailureError: the configuration cannot be used.
            click.BadParameter: there is no such instance.
        """
        if self.instance_name is not None:
            return (self.instance(),)
        return tuple(self._instance(name) for name, _ in self._settings().backends.family)

    def instance(self) -> Instance:
        """Return the instance that was asked for, else the first one; raises as above."""
        names = [name for name, _ in self._settings().backends.family]
        if self.instance_name is None:
            return self._instance(names[0])
        name = instance_named(self.instance_name)
        if name not in names:
            raise click.BadParameter(
                f"{self.instance_name!r} is no backend of the configuration: "
                f"it has {', '.join(names)}",
                param_hint="'--instance'",
            )
        return self._instance(name)

    def _instance(self, name: str) -> Instance:
        settings = self._settings()
        return Instance(
            name=name,
            codex=dict(settings.backends.family)[name],
            legacy_folders=legacy_folders(settings, self.world.environ, instance=name),
        )

    def _settings(self) -> Settings:
        if self._loaded is None:
            flags = {_STORAGE_PATH: self.storage_path}
            try:
                self._loaded = load(
                    config_path=self.config_path, environ=self.world.environ, flags=flags
                )
            except ConfigError as error:
                raise ConfigFailureError(tuple(map(str, error.problems))) from None
            for warning in self._loaded.warnings:
                click.echo(f"codexrelay: warning: {warning}", err=True)
        return self._loaded.settings


def takes_options(command: _Command) -> _Command:
    """Give a command, or the group, the options that all have; the command's beat the group's."""
    for option in (
        click.option(
            "--storage-path",
            metavar="DIR",
            expose_value=False,
            callback=_keep,
            help="Folder of the account files, instead of the configured one.",
        ),
        click.option(
            "--config",
            "config_path",
            type=click.Path(dir_okay=False, path_type=Path),
            expose_value=False,
            callback=_keep,
            help="Configuration file of the relay; CODEXRELAY_CONFIG may name it too.",
        ),
        click.option(
            "--instance",
            "instance_name",
            metavar="NAME",
            expose_value=False,
            callback=_keep,
            help="A further backend block, such as openai-codex.2.",
        ),
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            default=None,
            expose_value=False,
            callback=_keep,
            help="Print JSON for programs.",
        ),
    ):
        command = option(command)
    return command


def _keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Note an option that was given; what was given before the command stands otherwise."""
    call = ctx.ensure_object(Call)
    if value is not None and param.name is not None:
        setattr(call, param.name, value)
