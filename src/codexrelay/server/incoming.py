"""A request as the routes see it: an id, headers with lower-case names, a JSON object.

What it says to the relay has been taken out of the body, and what follows from it is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from codexrelay.backends.codex.headers import Renamed
from codexrelay.profiles import recognise
from codexrelay.profiles.profile import Profile
from codexrelay.protocol import capabilities, relay_fields
from codexrelay.protocol.capabilities import Capabilities
from codexrelay.protocol.model_choice import ModelChoice
from codexrelay.protocol.raw import JsonObject, get_object, get_text
from codexrelay.protocol.relay_fields import RelayFields
from codexrelay.protocol.shaping import Shaping
from codexrelay.server.decode import parse_body, read_body
from codexrelay.server.models import choose_model
from codexrelay.server.policy import Policy

if TYPE_CHECKING:
    from quart import Request, Websocket

    from codexrelay.protocol.capabilities import Dialect, Given
    from codexrelay.server.services import Services


@attrs.frozen(kw_only=True)
class Incoming:
    """One decoded client request. Its repr shows nothing that a client said."""

    id: str
    #: Lower-case names; of repeated headers the last one.
    headers: Mapping[str, str] = attrs.field(repr=False)
    #: Its `model` is the name that the backend knows; nothing in it is for the relay.
    body: JsonObject = attrs.field(repr=False)
    #: What is known of the program that sent it.
    profile: Profile = attrs.field(repr=False)
    #: What the client's name of the model says.
    choice: ModelChoice = attrs.field(repr=False)
    capabilities: Capabilities = attrs.field(repr=False)
    #: The model, where the client calls it otherwise.
    renamed: Renamed | None = attrs.field(default=None, repr=False)
    #: What it says to the relay.
    said: RelayFields = attrs.field(repr=False)
    #: What the configuration says of such requests.
    policy: Policy = attrs.field(repr=False)

    @property
    def shaping(self) -> Shaping:
        """How it becomes the backend's request."""
        return Shaping(
            capabilities=self.capabilities,
            prompt=self.policy.prompt,
            tool_schema=self.policy.tool_schema,
            said=self.said,
        )


async def receive(request: Request, services: Services, *, route: Dialect) -> Incoming:
    """Read and decode a request.

    Raises:
        RequestError: too large, wrongly encoded, or no JSON object; or what it says to the relay
            cannot be meant.
    """
    data = await read_body(request, max_bytes=services.settings.max_body_bytes)
    headers = headers_of(request)
    body, said = relay_fields.split(parse_body(data))
    asked = get_text(body, "model") or ""
    choice = await _choice(body, services)
    renamed = None if asked == choice.slug else Renamed(asked, choice.slug)
    if renamed is not None:
        body = _with_slug(body, renamed)
    policy, profile = services.policy(choice.instance), recognise(headers, body)
    layers = (
        *configured(profile, policy),
        capabilities.read_parameters(choice.capabilities),
        *_in_header(request, headers),
        *said.capabilities,
    )
    return Incoming(
        id=f"req_{services.new_id()}",
        headers=headers,
        body=body,
        profile=profile,
        choice=choice,
        capabilities=capabilities.resolve(route, layers, default_text_format=policy.text_format),
        renamed=renamed,
        said=said,
        policy=policy,
    )


async def _choice(body: JsonObject, services: Services) -> ModelChoice:
    """Read the model's name, and write the backend's own in its place."""
    if not isinstance(named := body.get("model"), str):
        return ModelChoice(slug="")  # the route says what is wrong with it
    choice = await choose_model(named, services)
    body["model"] = choice.slug
    return choice


def _with_slug(body: JsonObject, renamed: Renamed) -> JsonObject:
    """Return the body with the slug also where Codex CLI says the model a second time."""
    told = get_object(body, "client_metadata")
    changed: JsonObject = {
        key: new
        for key, value in told.items()
        if isinstance(value, str) and (new := renamed.within(value)) != value
    }
    return body | {"client_metadata": told | changed} if changed else body


def configured(profile: Profile, policy: Policy) -> tuple[Given, ...]:
    """Return the capabilities that a program has before any request says so; later ones win."""
    return (profile.capabilities, policy.defaults, policy.agents.get(profile.name, {}))


def _in_header(request: Request, headers: Mapping[str, str]) -> tuple[Given, ...]:
    if capabilities.HEADER not in headers:
        return ()
    sent = values_of(request, capabilities.HEADER.encode("ascii"))
    return tuple(map(capabilities.read_header, sent))


def values_of(request: Request | Websocket, name: bytes) -> list[str]:
    """Return every value that a header was sent with; `name` is in lower case."""
    return [
        value.decode("latin-1") for sent, value in request.scope["headers"] if sent.lower() == name
    ]


def headers_of(request: Request | Websocket) -> dict[str, str]:
    """Return a request's headers with lower-case names."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in request.scope["headers"]
    }
