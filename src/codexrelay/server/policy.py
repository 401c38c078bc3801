"""What the configuration says of requests, prepared once for each configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import attrs

from codexrelay.config.settings import Settings
from codexrelay.protocol.capabilities import (
    Capabilities,
    Dialect,
    Given,
    TextFormat,
    read_object,
    resolve,
)
from codexrelay.protocol.fit import Defaults
from codexrelay.protocol.model_id import FAMILY
from codexrelay.protocol.prompt import DEFAULT_TEXT, Prompt
from codexrelay.protocol.tool_schema import BUILT_IN, ToolSchema
from codexrelay.relay.reactors import find_reactors
from codexrelay.relay.reactors.reactor import ToolCallReactor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codexrelay.backends.codex.settings import CodexBackendSettings
    from codexrelay.profiles.profile import Profile


@attrs.frozen(kw_only=True)
class Policy:
    """What holds for requests to one instance of the backend."""

    #: `default_capabilities`, and `agent_capabilities` by the name of the profile.
    defaults: Given
    agents: Mapping[str, Given]
    prompt: Prompt
    tool_schema: ToolSchema
    #: What `tool_text_format: default` means.
    text_format: TextFormat
    #: What sees tool calls where they do not bypass it.
    reactors: tuple[ToolCallReactor, ...]
    #: What requests get that ask for no effort or verbosity; None: what a model takes is not known
    #: here.
    fits: Defaults | None = None
    #: What holds where a request says nothing: there are two routes and a few programs.
    _usual: dict[tuple[Dialect, str], Capabilities] = attrs.field(
        factory=dict, init=False, eq=False, repr=False
    )

    def usual(self, route: Dialect, profile: Profile) -> Capabilities:
        """Return the capabilities of a program's request that says nothing of them itself."""
        key = route, profile.name
        if (known := self._usual.get(key)) is None:
            known = self._usual[key] = self.resolved(route, profile)
        return known

    def resolved(
        self, route: Dialect, profile: Profile, said: Iterable[Given] = ()
    ) -> Capabilities:
        """Return the capabilities of a program's request; later ones of what is `said` win."""
        layers = (*self.configured(profile), *said)
        return resolve(route, layers, default_text_format=self.text_format)

    def configured(self, profile: Profile) -> tuple[Given, ...]:
        """Return the capabilities that a program has before a request says any; later ones win."""
        return (profile.capabilities, self.defaults, self.agents.get(profile.name, {}))


@attrs.define(eq=False)
class Policies:
    """The policies of the configuration that was asked about last."""

    _settings: Settings | None = None
    _policies: Mapping[str, Policy] = attrs.field(factory=dict)

    def of(self, settings: Settings, instance: str | None) -> Policy:
        """Return the policy for the backend that a model's name asks for, None for any instance."""
        if settings is not self._settings:
            self._policies = {name: policy_of(block) for name, block in settings.backends.family}
            self._policies |= {name: PLAIN for name, _ in settings.backends.others}
            self._settings = settings
        # One that is not configured is refused where the turn is given its route.
        return self._policies.get(instance or FAMILY) or self._policies[FAMILY]


#: For backends of other kinds: what a client asks for and what it is stays as it is.
PLAIN: Final = Policy(
    defaults={},
    agents={},
    prompt=Prompt(),
    tool_schema=ToolSchema(),
    text_format="none",
    reactors=(),
)


def policy_of(block: CodexBackendSettings) -> Policy:
    """Return what a block of the configuration says.

    Raises:
        RequestError: it gives a capability that does not exist; loading it has found out before.
    """
    codex = block.extra.codex
    prompt, tools, known = codex.prompt, codex.tool_schema, find_reactors()
    return Policy(
        defaults=read_object(attrs.asdict(codex.default_capabilities), "default_capabilities"),
        agents={
            canonical(name): read_object(dict(given), f"agent_capabilities.{name}")
            for name, given in codex.agent_capabilities.items()
        },
        prompt=Prompt(
            default=DEFAULT_TEXT if prompt.template is None else prompt.template,
            prepend=prompt.prepend,
            append=prompt.append,
            deduplicate=prompt.deduplicate,
            fallback_to_default=prompt.fallback_to_default,
        ),
        tool_schema=ToolSchema(
            base=BUILT_IN if tools.base_tools is None else tuple(map(dict, tools.base_tools)),
            custom=tuple(map(dict, tools.custom_tools)),
        ),
        text_format=codex.renderer.default,
        fits=Defaults(effort=block.extra.reasoning_effort, verbosity=block.extra.verbosity),
        reactors=tuple(known[name] for name in codex.tool_call_reactors if name in known),
    )


def canonical(name: str) -> str:
    """Return the name of a profile as it calls itself."""
    return name.lower().replace("-", "_")
