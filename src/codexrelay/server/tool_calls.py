"""What is done about the tool calls of an answer, if anything is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from codexrelay.protocol.call_filter import CallFilter, Keep, chain
from codexrelay.protocol.raw import get_list, is_object
from codexrelay.protocol.tool_text import decide_as_text
from codexrelay.relay.reactors import deciding
from codexrelay.server.policy import canonical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codexrelay.profiles.profile import Adaptation
    from codexrelay.protocol.call_filter import Decide, Decision, ToolCall
    from codexrelay.protocol.raw import Json, JsonObject
    from codexrelay.server.incoming import Incoming
    from codexrelay.server.services import Services


def wanted(incoming: Incoming, body: JsonObject, services: Services) -> CallFilter | None:
    """Return the filter for the calls of the answer to `body`, None if all pass as they come.

    Nothing is ever run. What may refuse a call comes first, then what renames it, and last what
    puts it in words.
    """
    capabilities = incoming.capabilities
    text_format = capabilities.tool_text_format
    if text_format == "none" and capabilities.bypass_tool_call_reactor:
        return None
    decides: list[Decide] = []
    observe_only = text_format == "none"
    if not capabilities.bypass_tool_call_reactor:
        if incoming.policy.reactors:
            decide, only = deciding(incoming.policy.reactors)
            decides.append(_naming_the_request(decide, incoming.id))
            observe_only = observe_only and only
        adaptations = _adaptations(incoming, services)
        if adaptations:
            decides.append(_adapting(adaptations, _tools_of(body)))
            observe_only = False
    if text_format != "none":
        decides.append(decide_as_text(text_format))
    return CallFilter(chain(*decides), observe_only=observe_only) if decides else None


def _naming_the_request(decide: Decide, request_id: str) -> Decide:
    """Return `decide`, with the request's id for whatever it logs."""

    def named(call: ToolCall) -> Decision:
        with structlog.contextvars.bound_contextvars(request=request_id):
            return decide(call)

    return named


def _adaptations(incoming: Incoming, services: Services) -> list[Adaptation]:
    """Return those of the client's profile that its user has switched on."""
    profile, named = incoming.profile, services.current.settings.profiles.adaptations
    if not (profile.adaptations and named):
        return []
    switched_on = set(map(canonical, named))
    return [
        adaptation
        for name, adaptation in profile.adaptations.items()
        if canonical(f"{profile.name}.{name}") in switched_on
    ]


def _adapting(adaptations: Sequence[Adaptation], tools: Sequence[Json]) -> Decide:
    def decide(call: ToolCall) -> Decision:
        for adaptation in adaptations:
            if (adapted := adaptation.adapt(call, tools)) is not None:
                return adapted
        return Keep()

    return decide


def _tools_of(body: JsonObject) -> list[Json]:
    """Return the tools that the model was offered, also those that ride in the input."""
    carried = [
        tool
        for item in get_list(body, "input")
        if is_object(item) and item.get("type") == "additional_tools"
        for tool in get_list(item, "tools")
    ]
    return [*get_list(body, "tools"), *carried]
