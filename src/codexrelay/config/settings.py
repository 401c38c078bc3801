"""The whole configuration: the settings classes of all packages, composed.

A field is a key of `config.yaml`; `config.example.yaml` shows every one of them.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs
from attrs import validators as v

from codexrelay.backends.codex.settings import CodexBackendSettings
from codexrelay.protocol.model_id import FAMILY
from codexrelay.sessions.settings import SessionsSettings

#: Metadata of a field whose value no message and no repr may show.
SECRET: Final = "secret"
#: Metadata of a field that is no key.
NO_KEY: Final = "no key"


def _masked(secrets: tuple[str, ...]) -> str:
    return f"<{len(secrets)} hidden>"


@attrs.frozen(kw_only=True)
class ServerSettings:
    """`server`: the side that clients see."""

    #: Address to listen on. Beyond this machine only together with `client_keys`.
    host: str = "127.0.0.1"
    #: 0 lets the system choose one.
    port: int = attrs.field(default=8787, validator=[v.ge(0), v.le(65535)])
    #: Seconds that running turns are given to end when the relay stops.
    drain_grace_s: float = attrs.field(default=10.0, validator=v.ge(0))
    #: Seconds of silence after which a streaming client is sent a sign of life.
    keep_alive_s: float = attrs.field(default=15.0, validator=v.gt(0))
    #: Largest request body, counted after decompression.
    max_body_bytes: int = attrs.field(default=64 * 1024 * 1024, validator=v.ge(1))
    #: Clients must present one of these as their API key; none means that any key will do.
    client_keys: tuple[str, ...] = attrs.field(default=(), repr=_masked, metadata={SECRET: True})
    #: Names under which clients may call the relay, besides the loopback ones.
    allowed_hosts: tuple[str, ...] = ()
    #: Least severe log line that is written.
    log_level: Literal["debug", "info", "warning", "error"] = "info"


@attrs.frozen(kw_only=True)
class BackendsSettings:
    """`backends`: one block for each instance of the backend."""

    openai_codex: CodexBackendSettings = attrs.field(factory=CodexBackendSettings)
    #: The instances beside it, by name and in order of their numbers: `openai_codex.2` in the file
    #: is `openai-codex.2` here. Nothing in them is left to be filled in.
    further: tuple[tuple[str, CodexBackendSettings], ...] = attrs.field(
        default=(), metadata={NO_KEY: True}
    )

    @property
    def family(self) -> tuple[tuple[str, CodexBackendSettings], ...]:
        """All instances by name, the first block first."""
        return ((FAMILY, self.openai_codex), *self.further)


@attrs.frozen(kw_only=True)
class Settings:
    """The root of `config.yaml`."""

    server: ServerSettings = ServerSettings()
    sessions: SessionsSettings = attrs.field(factory=SessionsSettings)
    backends: BackendsSettings = BackendsSettings()
