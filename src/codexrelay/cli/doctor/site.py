"""What the checks look at."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from codexrelay.cli.accounts.call import Call
from codexrelay.cli.accounts.instance import Instance, Stock
from codexrelay.config.folders import legacy_folders
from codexrelay.config.settings import Settings
from codexrelay.protocol.model_id import FAMILY

if TYPE_CHECKING:
    from collections.abc import Iterator


@attrs.frozen(kw_only=True)
class Block:
    """One backend block, and what a look at its account files found."""

    instance: Instance
    stock: Stock

    @property
    def about(self) -> str:
        """Return what stands in front of a subject, nothing for the first block."""
        return "" if self.instance.name == FAMILY else f"{self.instance.name}: "

    @property
    def managed_key(self) -> str:
        """The full path of the section about accounts of the relay's own."""
        return f"backends.{self.instance.name.replace('-', '_')}.extra.codex.managed_oauth"

    @property
    def falls_back(self) -> bool:
        """Whether the relay would use Codex CLI's sign-in, be there one or not."""
        managed = self.instance.managed
        may = managed.allow_legacy_fallback or not managed.enabled
        return may and self.stock.origin != "managed"


@attrs.frozen(kw_only=True)
class Site:
    """A configuration that loads, and this machine."""

    call: Call
    settings: Settings
    blocks: tuple[Block, ...]
    now_unix_s: float

    @classmethod
    def at(cls, call: Call, settings: Settings) -> Site:
        """Return what there is now. Reads the account files."""
        instances = (
            Instance(
                name=name,
                codex=codex,
                legacy_folders=legacy_folders(settings, call.world.environ, instance=name),
            )
            for name, codex in settings.backends.family
        )
        return cls(
            call=call,
            settings=settings,
            blocks=tuple(Block(instance=one, stock=one.look()) for one in instances),
            now_unix_s=call.now_unix_s(),
        )

    def command(self, words: str, instance: Instance | None) -> str:
        """Return a command of ours as it must be typed to mean this configuration and block.

        Without a block it is about all of them.
        """
        parts = [f"codexrelay accounts {words}"]
        if instance is not None and instance.name != FAMILY:
            parts.append(f"--instance {instance.name}")
        if self.call.config_path is not None:
            parts.append(f"--config {shlex.quote(str(self.call.config_path))}")
        return " ".join(parts)

    def adding(self, block: Block) -> str:
        """Return what must be done for another account to be used: a command, and keys."""
        add = self.command("add", block.instance)
        if not block.instance.managed.enabled:
            return f"{block.managed_key}.enabled: true, then {add}"
        if block.instance.managed.accounts != "all":
            return f"{add}, and name it in {block.managed_key}.accounts"
        return add

    @property
    def state_folder(self) -> Path:
        """The folder for what outlives the relay."""
        return Path(self.settings.sessions.state_path)

    def managed(self) -> Iterator[Block]:
        """Yield the blocks that use accounts of the relay's own."""
        return (block for block in self.blocks if block.instance.managed.enabled)
