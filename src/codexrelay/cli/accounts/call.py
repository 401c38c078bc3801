"""What one command was asked for: the options that all commands have, and what they lead to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import click

from codexrelay.cli.accounts.failure import ConfigFailureError, UnknownNameError
from codexrelay.cli.accounts.instance import Entry, Instance
from codexrelay.cli.accounts.world import World
from codexrelay.config.folders import legacy_folders
from codexrelay.config.loading import Loaded, load
from codexrelay.errors import ConfigError
from codexrelay.protocol.model_id import instance_named

if TYPE_CHECKING:
    from datetime import tzinfo

    from codexrelay.accounts.account import Account
    from codexrelay.config.settings import Settings
    from codexrelay.errors import Problem

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

    def siblings(self, instance: Instance) -> tuple[Instance, ...]:
        """Return the other instances of the configuration that keep their accounts elsewhere."""
        names = (name for name, _ in self._settings().backends.family)
        every = (self._instance(name) for name in names)
        return tuple(one for one in every if one.store.folder != instance.store.folder)

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

    def located(self, name: str) -> tuple[Instance, str]:
        """Return the instance that a name speaks of, and the rest of the name.

        `openai-codex.2/work`, as the relay names accounts in its answers, speaks of one itself.

        Raises:
            ConfigFailureError: the configuration cannot be used.
            click.BadParameter: there is no such instance, or `--instance` names another one.
        """
        prefix, slash, rest = name.partition("/")
        own = instance_named(prefix) if slash else None
        if own is None:
            return self.instance(), name
        given = self.instance_name
        if given is not None and instance_named(given) != own:
            raise click.BadParameter(
                f"{given!r} is another backend than {name} names", param_hint="'--instance'"
            )
        known = dict(self._settings().backends.family)
        if own not in known:
            raise click.BadParameter(
                f"{own!r} is no backend of the configuration: it has {', '.join(known)}",
                param_hint="'ID'",
            )
        return self._instance(own), rest

    def find(self, name: str) -> tuple[Instance, Entry | tuple[str, Problem]]:
        """Return the account of this name, or the id and problem of its broken file, and where.

        Raises:
            FailureError: there is none, or more than one.
        """
        instance, local = self.located(name)
        try:
            return instance, instance.find(local)
        except UnknownNameError as error:
            if self.instance_name is None and local == name:
                for other in self.all_instances():
                    if other.name != instance.name and other.knows(name):
                        raise UnknownNameError(
                            f"account {name} is one of {other.name}, not of {instance.name}: "
                            f"add `--instance {other.name}`"
                        ) from error
            raise

    def find_managed(self, name: str) -> tuple[Instance, Account]:
        """Return the managed account of this name, and where it is.

        Raises:
            FailureError: there is none, or it cannot be used, or it is Codex CLI's.
        """
        instance, found = self.find(name)
        return instance, instance.managed_of(found)

    def find_usable(self, name: str) -> tuple[Instance, Account]:
        """Return the account of this name, Codex CLI's too, and where it is.

        Raises:
            FailureError: there is none, or it cannot be used.
        """
        instance, found = self.find(name)
        if isinstance(found, Entry):
            return instance, found.account
        return instance, instance.managed_of(found)

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
            callback=_keep_folder,
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


def _keep_folder(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None and not value.strip():
        raise click.BadParameter("the name of a folder is needed")
    _keep(ctx, param, value)


def _keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
    """Note an option that was given; what was given before the command stands otherwise."""
    call = ctx.ensure_object(Call)
    if value is not None and param.name is not None:
        setattr(call, param.name, value)
