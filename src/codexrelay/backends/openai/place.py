"""What messages call a backend of another kind, and the keys that its owner can change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from codexrelay.backends.backend import Wire

if TYPE_CHECKING:
    import httpx

    from codexrelay.backends.openai.settings import OpenAIBackendSettings


@attrs.frozen(kw_only=True)
class Place:
    """Where a backend stands in the configuration, and where it is. Holds no secret."""

    #: Canonical: `local`, `my-box`.
    name: str
    wire: Wire
    #: Of its key: the setting it comes from and what that says, or the settings that could name one
    #: where there is none.
    key_told: str
    has_key: bool

    @classmethod
    def of(cls, name: str, settings: OpenAIBackendSettings) -> Place:
        """Return the place of the block that `settings` are, called `name`."""
        block = block_named(name)
        told = [
            f"{block}.{key} ({value})"
            for key, value in (
                ("api_key_env", settings.api_key_env),
                ("api_key_file", settings.api_key_file),
            )
            if value
        ]
        return cls(
            name=name,
            wire=settings.wire,
            key_told=told[0] if told else f"{block}.api_key_env or {block}.api_key_file",
            has_key=bool(told),
        )

    @property
    def block(self) -> str:
        """The block of the configuration: `backends.my_box`."""
        return block_named(self.name)

    def key(self, name: str) -> str:
        """Return the full path of a key of the block."""
        return f"{self.block}.{name}"


def block_named(name: str) -> str:
    """Return the path of the block of the backend with that canonical name."""
    return f"backends.{name.replace('-', '_')}"


def shown(url: httpx.URL) -> str:
    """Return a URL as messages show it: without a user, a password and a query."""
    path = url.raw_path.partition(b"?")[0].decode("ascii").rstrip("/")
    return f"{url.scheme}://{url.netloc.decode('ascii')}{path}"
