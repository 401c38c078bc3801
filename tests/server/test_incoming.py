"""A decoded request, before a route takes it up."""

from __future__ import annotations

import attrs

from codexrelay.backends.codex.settings import (
    CapabilitySettings,
    CodexBackendSettings,
    CodexSettings,
    ExtraSettings,
)
from codexrelay.profiles.generic import PROFILE
from codexrelay.protocol.capabilities import resolve
from codexrelay.protocol.model_choice import ModelChoice
from codexrelay.protocol.relay_fields import RelayFields
from codexrelay.server.incoming import Incoming
from codexrelay.server.policy import policy_of


def test_its_repr_shows_nothing_that_a_client_said() -> None:
    incoming = Incoming(
        id="req_1",
        headers={"authorization": "Bearer s3cret"},
        body={"input": "s3cret"},
        profile=PROFILE,
        choice=ModelChoice(slug="s3cret"),
        capabilities=resolve("openai-chat", ()),
        said=RelayFields(system_prompt=("s3cret",), environment={"cwd": "s3cret"}),
        policy=policy_of(CodexBackendSettings()),
    )
    assert repr(incoming) == "Incoming(id='req_1')"


def test_what_is_configured_beats_what_a_profile_needs_and_for_the_program_beats_both() -> None:
    codex = CodexSettings(
        default_capabilities=CapabilitySettings(
            prompt_mode="merge_custom", tool_schema_mode="merge_custom"
        ),
        agent_capabilities={"Generic": {"tool_schema_mode": "codex_default"}},
    )
    policy = policy_of(CodexBackendSettings(extra=ExtraSettings(codex=codex)))
    needs = {
        "protocol": "openai-responses",
        "prompt_mode": "custom_only",
        "tool_schema_mode": "custom_only",
    }
    profile = attrs.evolve(PROFILE, capabilities=needs)
    found = policy.resolved("openai-chat", profile)
    assert found.protocol == "openai-responses"
    assert found.prompt_mode == "merge_custom"
    assert found.tool_schema_mode == "codex_default"
