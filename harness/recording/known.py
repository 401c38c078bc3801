"""The secrets that are known before the first request: what must never be in a cassette."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from harness.secrecy.headers import is_kept
from harness.secrecy.secrets import Secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.backends.openai.settings import OpenAIBackendSettings
    from codexrelay.cli.process import World
    from codexrelay.config.settings import Settings


def known_secrets(settings: Settings, world: World) -> Secrets:
    """Return what the relay's files, settings and environment hold, and the person. Blocks."""
    secrets = Secrets.of_person()
    for name, codex in settings.backends.family:
        secrets.add_store(Path(codex.extra.codex.managed_oauth.storage_path))
        for folder in world.legacy_folders(name):
            secrets.add_store(folder)
        _add_password(secrets, codex.proxy)
    for key in settings.server.client_keys:
        secrets.add(key, "key")
    for _, block in settings.backends.others:
        for key in _keys_of(block, world):
            secrets.add(key, "key")
        _add_password(secrets, block.proxy)
    return secrets


def _keys_of(block: OpenAIBackendSettings, world: World) -> Iterator[str]:
    if block.api_key_env is not None and (key := world.variable(block.api_key_env)):
        yield key.strip()
    if block.api_key_file is not None:
        # Not there, or not readable: then the relay has no key either.
        with contextlib.suppress(OSError, UnicodeDecodeError):
            yield Path(block.api_key_file).read_text("utf-8").strip()
    # `accept: application/json` is no secret, and would be found in every text.
    yield from (value for name, value in block.headers.items() if not is_kept(name.lower(), value))


def _add_password(secrets: Secrets, url: str | None) -> None:
    if url is not None and (password := urlsplit(url).password):
        secrets.add(unquote(password), "password")
