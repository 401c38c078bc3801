"""The whole configuration: the settings classes of all packages, composed.

A field that is declared as a `setting` or a `section` is a key of `config.yaml`;
`config.example.yaml`, which is drawn from here, shows every one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import attrs

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.backends.openai.settings import OpenAIBackendSettings
from codexrelay.compaction.settings import CompactionSettings, CompressionSettings
from codexrelay.protocol.model_choice import Others
from codexrelay.protocol.model_id import FAMILY, canonical_name
from codexrelay.sessions.settings import SessionsSettings
from codexrelay.setting import section, setting


@attrs.frozen(kw_only=True)
class ServerSettings:
    """`server`: the side that clients see."""

    host: str = setting(
        "127.0.0.1",
        "Address to listen on. Beyond this machine only together with client_keys.",
    )
    port: int = setting(
        8787, "Port to listen on; 0 lets the system choose one.", at_least=0, at_most=65535
    )
    drain_grace_s: float = setting(
        10.0,
        """
        Seconds that running turns are given to end when the relay stops; the value at that moment
        counts.
        """,
        at_least=0,
        live=True,
    )
    keep_alive_s: float = setting(
        15.0,
        "Seconds of silence after which a streaming client is sent a sign of life.",
        above=0,
        live=True,
    )
    max_body_bytes: int = setting(
        64 * 1024 * 1024,
        "Largest request body in bytes, counted after decompression.",
        at_least=1,
        live=True,
    )
    client_keys: tuple[str, ...] = setting(
        (),
        """
        Clients must present one of these as their API key (16 characters or more); none: any key
        will do.
        """,
        secret=True,
        live=True,
    )
    allowed_hosts: tuple[str, ...] = setting(
        (), "Names under which clients may call the relay, besides the loopback ones.", live=True
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Least severe log line that is written.", live=True
    )


@attrs.frozen(kw_only=True)
class BackendsSettings:
    """`backends`: one block for each instance of the backend."""

    openai_codex: CodexBackendSettings = section(
        CodexBackendSettings, "The name is the same in any case and with - for _."
    )
    #: The instances beside it, by name and in order of their numbers: `openai_codex.2` in the file
    #: is `openai-codex.2` here. Nothing in them is left to be filled in. No key of its own.
    further: tuple[tuple[str, CodexBackendSettings], ...] = ()
    #: Backends of other kinds, by canonical name (lower case, `-` for `_`), in the order in which
    #: they are given. No key of its own.
    others: tuple[tuple[str, OpenAIBackendSettings], ...] = ()

    @property
    def family(self) -> tuple[tuple[str, CodexBackendSettings], ...]:
        """All instances by name, the first block first."""
        return ((FAMILY, self.openai_codex), *self.further)


@attrs.frozen(kw_only=True)
class ModelsSettings:
    """`models`: what clients may call a model."""

    aliases: Mapping[str, str] = setting(
        {},
        """
        Names of your own for models: alias -> what a client could write as well, parameters
        included. For example {fast: "gpt-5.5?reasoning_effort=low"}. Parameters that a client adds
        to the alias win.
        """,
        live=True,
    )
    routes: Mapping[str, tuple[str, ...]] = setting(
        {},
        """
        Names of your own for several models: name -> what a client could write as well, in order.
        The first whose backend serves the turn does, before any output. For example {coder:
        ["local:qwen3", "openai-codex:gpt-5.5"]}.
        """,
        live=True,
    )
    strict: bool = setting(
        False,
        "Refuse models that the catalogue does not have, instead of letting the backend decide.",
        live=True,
    )


@attrs.frozen(kw_only=True)
class ProfilesSettings:
    """`profiles`: what is done for single client programs."""

    adaptations: tuple[str, ...] = setting(
        (),
        """
        What is switched on for single client programs, such as opencode.shell_as_bash; none is by
        itself. They act where bypass_tool_call_reactor (below) is false.
        """,
        live=True,
    )


@attrs.frozen(kw_only=True)
class Settings:
    """The root of `config.yaml`."""

    server: ServerSettings = section(ServerSettings, "The side that clients see.")
    sessions: SessionsSettings = section(SessionsSettings, "What is kept of sessions and turns.")
    models: ModelsSettings = section(ModelsSettings, "What clients may call a model.")
    profiles: ProfilesSettings = section(
        ProfilesSettings, "What is done for single client programs."
    )
    compaction: CompactionSettings = section(
        CompactionSettings, "Shortening of long histories, for other backends than Codex."
    )
    dynamic_compression: CompressionSettings = section(
        CompressionSettings, "Shortening of what tools have put out, for every backend."
    )
    default_backend: str = setting(
        FAMILY,
        "The backend of models whose name says none: one of the blocks of backends.",
        converter=canonical_name,
        live=True,
    )
    backends: BackendsSettings = section(BackendsSettings, "Where turns are sent.")

    @property
    def others(self) -> Others:
        """What names of models may say of backends of other kinds."""
        return Others(
            models={name: block.models for name, block in self.backends.others},
            default=self.default_backend,
        )
