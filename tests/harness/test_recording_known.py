"""What a recorder knows to be a secret before the first request."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from codexrelay.cli.process import World
from codexrelay.config import load
from codexrelay.protocol.raw import dump
from harness.recording.known import known_secrets

if TYPE_CHECKING:
    from pathlib import Path


def test_files_settings_and_environment_tell_and_plain_headers_do_not(tmp_path: Path) -> None:
    store, legacy = tmp_path / "store", tmp_path / "legacy"
    for folder, token in ((store, "token-of-the-store"), (legacy, "token-of-codex-itself")):
        folder.mkdir()
        (folder / "auth.json").write_bytes(dump({"tokens": {"access_token": token}}))
    (tmp_path / "key").write_text("key-of-the-file\n")
    local = {
        "type": "openai",
        "api_base_url": "http://127.0.0.1:1/v1",
        "headers": {"X-Own": "told-to-nobody-else", "Accept": "application/json"},
    }
    tree = {
        "server": {"client_keys": ["key-of-the-first-client"]},
        "backends": {
            "openai_codex": {"extra": {"codex": {"managed_oauth": {"storage_path": str(store)}}}},
            "one": {
                **local,
                "api_key_env": "ONE_KEY",
                "proxy": "http://me:pass%2Fword@127.0.0.1:2",
            },
            "two": {**local, "api_key_file": str(tmp_path / "key")},
            "three": {**local, "api_key_file": str(tmp_path / "missing")},
        },
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tree))
    world = World(
        legacy_folders=lambda _: (legacy,),
        wall_clock=lambda: 0.0,
        new_id=lambda: "0" * 32,
        proxy_for=lambda _: None,
        variable={"ONE_KEY": "key-of-the-variable"}.get,
    )
    settings = load(config_path=config, environ={}, flags={}).settings
    known = known_secrets(settings, world).exact
    assert {
        b"token-of-the-store": "token",
        b"token-of-codex-itself": "token",
        b"key-of-the-first-client": "key",
        b"key-of-the-variable": "key",
        b"key-of-the-file": "key",
        b"told-to-nobody-else": "key",
        b"pass/word": "password",
    }.items() <= known.items()
    assert b"application/json" not in known
