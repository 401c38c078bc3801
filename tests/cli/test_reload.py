"""Every key: either it acts without a restart, or it is named as one that needs it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import certifi
import pytest
import trio

from codexrelay.backends.codex.backend import CodexBackend
from codexrelay.backends.openai.backend import OpenAIBackend
from codexrelay.cli import process
from codexrelay.cli.process import World
from codexrelay.config.keys import KEYS, OTHER_KEYS, in_block
from codexrelay.config.live import Live, Reloaded, Sources, reread
from codexrelay.protocol.raw import dump
from codexrelay.server.drain import Drain
from harness.simulator import Simulator
from harness.simulator.accounts import some_accounts
from tests.fakes.cancel_at_step import CancelAtStep
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from codexrelay.protocol.raw import Json, JsonObject
    from codexrelay.server.services import Services

_CODEX: Final = "backends.openai_codex"
_EXTRA: Final = f"{_CODEX}.extra.codex"
_LOCAL: Final = "backends.local"
_OAUTH: Final = f"{_EXTRA}.managed_oauth"
_TOOL: Final[JsonObject] = {"type": "function", "name": "look", "parameters": {}}

#: A sound value for each key that is not the one of `base`.
_OTHER: Final[Mapping[str, Json]] = {
    "server.host": "127.0.0.2",
    "server.port": 1,
    "server.drain_grace_s": 3,
    "server.keep_alive_s": 4,
    "server.max_body_bytes": 5,
    "server.client_keys": ["a-key-that-is-long-enough"],
    "server.allowed_hosts": ["relay.lan"],
    "server.log_level": "error",
    "sessions.state_path": "/elsewhere",
    "sessions.max_sessions": 7,
    "sessions.idle_seconds": 8,
    "sessions.keep_days": 9,
    "models.aliases": {"quick": "gpt-5.5"},
    "models.routes": {"main": ["local:qwen3", "gpt-5.5"]},
    "models.strict": True,
    "profiles.adaptations": ["opencode.shell_as_bash"],
    "compaction.enabled": True,
    "compaction.token_threshold": 16,
    "compaction.max_tokens": 17,
    "compaction.min_tool_output_tokens": 18,
    "compaction.allowed_tool_categories": ["search"],
    "compaction.denied_tool_categories": ["search"],
    "compaction.preserve_last_n_results": 19,
    "compaction.stub_template": "{resource}",
    "compaction.redact_resource_identifiers": True,
    "dynamic_compression.enabled": True,
    "dynamic_compression.level": "balanced",
    "dynamic_compression.min_bytes": 20,
    "dynamic_compression.time_budget_ms": 21,
    "dynamic_compression.disable_tools": ["bash"],
    "dynamic_compression.disable_categories": ["other"],
    "dynamic_compression.markers": False,
    "default_backend": "local",
    f"{_CODEX}.type": None,  # takes one value only
    f"{_CODEX}.api_base_url": "http://127.0.0.1:10",
    f"{_CODEX}.timeout": 6,
    f"{_CODEX}.auth_path": "/elsewhere",
    f"{_CODEX}.transport": "httpx",
    f"{_CODEX}.proxy": "none",
    f"{_CODEX}.ca_file": certifi.where(),
    f"{_CODEX}.websocket": "on",
    f"{_CODEX}.identity": "relay",
    f"{_CODEX}.weight": 7,
    f"{_CODEX}.budgets.connect_s": 8,
    f"{_CODEX}.budgets.headers_s": 8,
    f"{_CODEX}.budgets.first_event_s": 8,
    f"{_CODEX}.budgets.silence_s": 8,
    f"{_CODEX}.budgets.turn_s": 8,
    f"{_CODEX}.extra.reasoning_effort": "low",
    f"{_CODEX}.extra.verbosity": "low",
    f"{_EXTRA}.oauth_issuer": "http://127.0.0.1:10",
    f"{_OAUTH}.enabled": False,
    f"{_OAUTH}.storage_path": "/elsewhere",
    f"{_OAUTH}.accounts": ["sim-2"],
    f"{_OAUTH}.selection_strategy": "random",
    f"{_OAUTH}.refresh_buffer_seconds": 9,
    f"{_OAUTH}.session_affinity_ttl_seconds": 10,
    f"{_OAUTH}.session_affinity_max_entries": 11,
    f"{_OAUTH}.max_concurrent_turns": 12,
    f"{_OAUTH}.rate_limit_local_cooldown_cap_seconds": 13,
    f"{_OAUTH}.max_rate_limit_wait_seconds": 14,
    f"{_OAUTH}.allow_legacy_fallback": False,
    f"{_OAUTH}.quota_remaining_alerts_enabled": False,
    f"{_OAUTH}.quota_remaining_alert_thresholds_percent": [50],
    f"{_EXTRA}.default_capabilities.protocol": "openai-chat",
    f"{_EXTRA}.default_capabilities.codex_passthrough": True,
    f"{_EXTRA}.default_capabilities.prompt_mode": "custom_only",
    f"{_EXTRA}.default_capabilities.tool_schema_mode": "merge_custom",
    f"{_EXTRA}.default_capabilities.tool_text_format": "xml",
    f"{_EXTRA}.default_capabilities.bypass_tool_call_reactor": False,
    f"{_EXTRA}.default_capabilities.include_environment_context": True,
    f"{_EXTRA}.agent_capabilities": {"droid": {"prompt_mode": "custom_only"}},
    f"{_EXTRA}.prompt.template": "You are a relay.",
    f"{_EXTRA}.prompt.prepend": ["First"],
    f"{_EXTRA}.prompt.append": ["Last"],
    f"{_EXTRA}.prompt.deduplicate": False,
    f"{_EXTRA}.prompt.fallback_to_default": False,
    f"{_EXTRA}.tool_schema.base_tools": [_TOOL],
    f"{_EXTRA}.tool_schema.custom_tools": [_TOOL],
    f"{_EXTRA}.renderer.default": "xml",
    f"{_EXTRA}.tool_call_reactors": [],
    f"{_EXTRA}.model_catalog.discovery_enabled": True,
    f"{_EXTRA}.model_catalog.fallback_path": "/elsewhere",
    f"{_EXTRA}.model_catalog.discovery_timeout_seconds": 15,
    f"{_LOCAL}.type": None,
    f"{_LOCAL}.api_base_url": "http://127.0.0.1:11/v1",
    f"{_LOCAL}.wire": "responses",
    f"{_LOCAL}.api_key_env": "A_KEY",
    f"{_LOCAL}.api_key_file": __file__,
    f"{_LOCAL}.headers": {"x-team": "blue"},
    f"{_LOCAL}.models": ["qwen3"],
    f"{_LOCAL}.timeout": 22,
    f"{_LOCAL}.proxy": "none",
    f"{_LOCAL}.ca_file": certifi.where(),
    f"{_LOCAL}.transport": "httpx",
    f"{_LOCAL}.budgets.connect_s": 23,
    f"{_LOCAL}.budgets.headers_s": 23,
    f"{_LOCAL}.budgets.first_event_s": 23,
    f"{_LOCAL}.budgets.silence_s": 23,
    f"{_LOCAL}.budgets.turn_s": 23,
}
_ONE_VALUE: Final = {f"{_CODEX}.type", f"{_LOCAL}.type"}


def base(folder: Path) -> dict[str, Json]:
    """Return a configuration by key: two accounts, a strategy that goes by settings, no backend."""
    return {
        "server.port": 0,
        "sessions.state_path": str(folder / "state"),
        f"{_CODEX}.api_base_url": "http://127.0.0.1:9",
        f"{_EXTRA}.oauth_issuer": "http://127.0.0.1:9",
        f"{_EXTRA}.model_catalog.discovery_enabled": False,
        f"{_OAUTH}.storage_path": str(folder / "accounts"),
        f"{_OAUTH}.selection_strategy": "session-affinity",
        f"{_LOCAL}.type": "openai",
        f"{_LOCAL}.api_base_url": "http://127.0.0.1:9/v1",
    }


def nested(flat: Mapping[str, Json]) -> JsonObject:
    root: JsonObject = {}
    for name, value in flat.items():
        *sections, key = name.split(".")
        section = root
        for one in sections:
            section = section.setdefault(one, {})  # type: ignore[assignment]
        section[key] = value
    return root


@asynccontextmanager
async def running(live: Live) -> AsyncIterator[Services]:
    """Run a relay by this configuration, without a client and a backend."""
    world = World(
        legacy_folders=lambda _: (),
        wall_clock=WallClock(),
        new_id=lambda: uuid4().hex,
        proxy_for=lambda _: None,
    )
    drain = Drain(grace_s=live.settings.server.drain_grace_s)
    async with trio.open_nursery() as nursery:
        relay = await nursery.start(process.run, live.settings, world, drain)
        yield relay.services
        nursery.cancel_scope.cancel()


def facts(services: Services) -> list[object]:
    """Return everything that a relay goes by and that comes from its configuration."""
    relay = services.relay
    found: list[object] = [services.current.settings, relay.keep_alive_s, services.drain.grace_s]
    found += [services.sessions.max_sessions, services.sessions.idle_s]
    for other in relay.others.values():
        assert isinstance(other.backend, OpenAIBackend)
        found.append((other.budgets, other.backend.connect_s))
    for instance in relay.instances.members:
        lender, pool, backend = instance.lender, instance.lender.pool, instance.backend
        assert isinstance(backend, CodexBackend)
        selector = pool._selector
        found += [
            (
                instance.weight,
                instance.budgets,
                instance.limit_patience_s,
                backend.connect_s,
                backend.identity,
                backend.websocket,
            ),
            (lender.settings, lender.sources.allowed, lender.refresh_buffer_s),
            (pool.max_concurrent_turns, pool.probe_every_s),
            [(name, one.probe_every_s) for name, one in pool._standings.items()],
            (type(selector), [getattr(selector, n, None) for n in ("_ttl_s", "_max_entries")]),
        ]
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    Simulator(accounts=some_accounts(2)).write_store(tmp_path / "accounts")
    return tmp_path / "config.yaml"


def test_the_table_has_every_key() -> None:
    others = (in_block(key, "local") for key in OTHER_KEYS.values())
    assert set(_OTHER) == {key.name for key in (*KEYS.values(), *others)}


@pytest.mark.parametrize("name", sorted(_OTHER.keys() - _ONE_VALUE))
async def test_a_key_acts_as_if_the_relay_had_been_started_with_it_or_is_named(
    file: Path, name: str
) -> None:
    sources = Sources(config_path=file, environ={}, flags={})
    before, after = base(file.parent), base(file.parent) | {name: _OTHER[name]}
    await trio.Path(file).write_bytes(dump(nested(before)))
    live = Live.load(sources)
    async with running(live) as services:
        as_started = facts(services)
        await trio.Path(file).write_bytes(dump(nested(after)))
        reloaded = reread(sources, live.settings)
        assert isinstance(reloaded, Reloaded), str(reloaded)
        await process.adopt(services, reloaded.settings)
        as_reloaded = facts(services)
    if reloaded.held:
        assert (reloaded.held, reloaded.changed) == ((name,), ())
        assert as_reloaded == as_started
        return
    assert reloaded.changed == (name,)
    assert as_reloaded != as_started
    async with running(Live.load(sources)) as services:
        assert as_reloaded == facts(services)


async def test_cancelled_at_any_step_a_reload_has_changed_all_or_nothing(file: Path) -> None:
    """See `tests/config/test_live.py` for the task around it."""
    sources = Sources(config_path=file, environ={}, flags={})
    await trio.Path(file).write_bytes(dump(nested(base(file.parent))))
    live = Live.load(sources)
    values = {f"{_OAUTH}.accounts": ["sim-2"], "server.keep_alive_s": 4, f"{_CODEX}.weight": 3}
    await trio.Path(file).write_bytes(dump(nested(base(file.parent) | values)))
    reloaded = reread(sources, live.settings)
    assert isinstance(reloaded, Reloaded)
    at, fired, cut_short = 0, True, 0
    while fired:
        at += 1
        async with running(live) as services:
            before = facts(services)
            with trio.CancelScope() as scope:
                instrument = CancelAtStep(scope, at)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await process.adopt(services, reloaded.settings)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            fired, after = instrument.steps >= at, facts(services)
            if scope.cancelled_caught:
                cut_short += after == before
            if after != before:
                await process.adopt(services, reloaded.settings)
                assert facts(services) == after
    assert after[0] == reloaded.settings
    assert cut_short
