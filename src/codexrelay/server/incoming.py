"""A request as the routes see it: an id, headers with lower-case names, a JSON object.

What it says to the relay has been taken out of the body, and what follows from it is known. One
that came as a message on a WebSocket is the same, with all that it goes on from in its input.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from codexrelay.backends.codex.headers import Renamed
from codexrelay.errors import RequestError
from codexrelay.profiles import recognise
from codexrelay.profiles.profile import Profile
from codexrelay.protocol import capabilities, relay_fields
from codexrelay.protocol.capabilities import Capabilities, Dialect, Given
from codexrelay.protocol.long_input import LongInput
from codexrelay.protocol.model_choice import ModelChoice
from codexrelay.protocol.model_id import FAMILY
from codexrelay.protocol.raw import NOTHING, Json, JsonObject, get_list, get_object
from codexrelay.protocol.relay_fields import RelayFields
from codexrelay.protocol.responses_request import check_form, user_message
from codexrelay.protocol.shaping import Shaping
from codexrelay.relay.other import Other
from codexrelay.server import guard
from codexrelay.server.decode import parse_body, read_body
from codexrelay.server.models import choose_models
from codexrelay.server.policy import Policy
from codexrelay.sessions.history import Conversation
from codexrelay.sessions.identity import SessionKey, client_of, session_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from codexrelay.protocol.client_frames import Create
    from codexrelay.server.asked import Asked
    from codexrelay.server.services import Services


@attrs.frozen(kw_only=True)
class Framed:
    """What a request is, besides, that came as a message on a WebSocket."""

    #: The session of the answer that it goes on from; None where it goes on from none.
    key: SessionKey | None = None
    #: All that was said up to and with that answer.
    before: Conversation = attrs.field(factory=Conversation)
    #: What it adds to that.
    added: list[Json] = attrs.field(repr=False)
    #: It only warms the backend up: the id of the answer, if the relay gives it itself.
    warm_up_id: str | None = None

    def conversation(self, output: Iterable[Json]) -> Conversation | None:
        """Return what is to be remembered once it has been answered; None if it cannot be."""
        try:
            return self.before.followed_by([*self.added, *output])
        except ValueError:
            return None


@attrs.define(eq=False, kw_only=True)
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
    #: The backend of another kind that it goes to; None: that is the family.
    other: Other | None = attrs.field(default=None, repr=False)
    #: The models that it goes to if the one of `choice` does not serve it, in order.
    further: tuple[ModelChoice, ...] = attrs.field(default=(), repr=False)
    #: None for one that is a POST.
    framed: Framed | None = attrs.field(default=None, repr=False)
    #: How it was written, if it is a long one.
    long: LongInput | None = attrs.field(default=None, repr=False)
    _meant: _Meant | None = attrs.field(default=None, repr=False)

    @property
    def shaping(self) -> Shaping:
        """How it becomes the backend's request."""
        return Shaping(
            capabilities=self.capabilities,
            prompt=self.policy.prompt,
            tool_schema=self.policy.tool_schema,
            said=self.said,
        )

    def turned_to(self, choice: ModelChoice, services: Services) -> Incoming:
        """Return the request as it is to another of its models.

        Raises:
            RequestError: what it says to the relay cannot be meant.
        """
        if choice is self.choice:
            return self
        assert self._meant is not None
        return self._meant.turned_to(choice, services)

    def let_go(self) -> None:
        """Keep nothing of what the client has written: it will not be sent again."""
        self.headers, self.body = {}, NOTHING
        self.long = self._meant = None


async def receive(asked: Asked, services: Services, *, route: Dialect) -> Incoming:
    """Read and decode a request.

    Raises:
        RequestError: too large, wrongly encoded, or no JSON object; or what it says to the relay
            cannot be meant.
    """
    data = await read_body(asked, max_bytes=services.settings.max_body_bytes)
    given = parse_body(data)
    body, said = relay_fields.split(given)
    choices = await _choices(body, services)
    meant = _Meant(
        id=f"req_{services.new_id()}",
        route=route,
        headers=asked.headers,
        body=body,
        said=said,
        in_header=_in_header(asked),
        long=LongInput.of(data, given),
    )
    asked.let_go()
    return meant.turned_to(choices[0], services, further=choices[1:])


def other_of(choice: ModelChoice, services: Services) -> Other | None:
    """Return the backend of another kind that a model is of, None if it is of the family."""
    return services.relay.others.get(choice.instance or FAMILY)


def refusal_of(asked: Asked, services: Services) -> RequestError | None:
    """Return why whoever sent this may not talk to the relay, or None; see `guard`."""
    headers, settings = asked.headers, services.settings
    return guard.check(
        hosts=asked.values("host"),
        origins=asked.values("origin"),
        authorization=headers.get("authorization"),
        api_key=headers.get("x-api-key"),
        allowed_hosts=settings.allowed_hosts,
        client_keys=settings.client_keys,
    )


@attrs.frozen(kw_only=True)
class Handshake:
    """What the request for a WebSocket says, for every message on it."""

    #: As `Incoming.headers`.
    headers: Mapping[str, str] = attrs.field(repr=False)
    in_header: tuple[Given, ...] = attrs.field(repr=False)

    @classmethod
    def of(cls, asked: Asked) -> Handshake:
        """Read it.

        Raises:
            RequestError: what it says to the relay cannot be meant.
        """
        return cls(headers=asked.headers, in_header=_in_header(asked))


async def receive_message(create: Create, handshake: Handshake, services: Services) -> Incoming:
    """Return the request that a message makes, with all of its input.

    Raises:
        RequestError: it is none; what it says to the relay cannot be meant; or the session does not
            know the answer that it goes on from.
    """
    headers = create.over(handshake.headers)
    body, said = relay_fields.split(create.body)
    if create.previous_response_id is not None and body.get("input") is None:
        body = body | {"input": []}
    check_form(body)  # before its items are counted together with those it goes on from
    given = body["input"]
    added: list[Json] = [user_message(given)] if isinstance(given, str) else get_list(body, "input")
    framed = Framed(
        added=added, warm_up_id=None if create.generate else f"resp_{services.new_id()}"
    )
    if (previous := create.previous_response_id) is not None:
        key, before = await _going_on_from(previous, headers, body, services)
        framed = attrs.evolve(framed, key=key, before=before)
        body = body | {"input": [*before.items, *added]}
    choices = await _choices(body, services)
    meant = _Meant(
        id=f"req_{services.new_id()}",
        route="openai-responses",
        headers=headers,
        body=body,
        said=said,
        in_header=handshake.in_header,
        framed=framed,
    )
    return meant.turned_to(choices[0], services, further=choices[1:])


async def _going_on_from(
    response_id: str, headers: Mapping[str, str], body: JsonObject, services: Services
) -> tuple[SessionKey, Conversation]:
    """Return the session of an earlier answer, and what was said up to and with it.

    A client that does not name its session is known again by the answer, and by its own key.

    Raises:
        RequestError: the session does not know it: the backend's own words, at which clients send
            everything again (wire notes 7).
    """
    client = client_of(headers)

    def lineage(response_id: str) -> SessionKey | None:
        found = services.sessions.continued(response_id)
        return found if found is not None and found.client == client else None

    try:
        key = session_key(
            headers,
            body | {"previous_response_id": response_id},
            recognise(headers, body),
            scoped=bool(services.settings.client_keys),
            lineage=lineage,
        )
    except ValueError as error:
        raise RequestError(message=str(error), code="invalid_json") from None
    conversation = await services.sessions.recall(key, response_id)
    if conversation is None:
        raise RequestError(
            message=f"Previous response with id '{response_id}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return key, conversation


async def _choices(body: JsonObject, services: Services) -> tuple[ModelChoice, ...]:
    """Read the model's name: whatever it may mean, in the order in which that is tried."""
    if not isinstance(named := body.get("model"), str):
        return (ModelChoice(slug=""),)  # the route says what is wrong with it
    return await choose_models(named, services)


@attrs.frozen(kw_only=True)
class _Meant:
    """A request that may go to any of the models that its name of one means."""

    id: str
    route: Dialect
    headers: Mapping[str, str] = attrs.field(repr=False)
    #: With the client's own name of the model.
    body: JsonObject = attrs.field(repr=False)
    said: RelayFields = attrs.field(repr=False)
    in_header: tuple[Given, ...] = attrs.field(repr=False)
    framed: Framed | None = attrs.field(default=None, repr=False)
    long: LongInput | None = attrs.field(default=None, repr=False)

    def turned_to(
        self, choice: ModelChoice, services: Services, *, further: tuple[ModelChoice, ...] = ()
    ) -> Incoming:
        """Return what the request is to one model; `further` are those that it goes to otherwise.

        Raises:
            RequestError: what it says to the relay cannot be meant.
        """
        body, renamed = _with_model(self.body, choice)
        policy, profile = services.policy(choice.instance), recognise(self.headers, body)
        if self.in_header or self.said.capabilities or choice.capabilities:
            named = capabilities.read_parameters(choice.capabilities)
            said = (named, *self.in_header, *self.said.capabilities)
            resolved = policy.resolved(self.route, profile, said)
        else:
            resolved = policy.usual(self.route, profile)
        return Incoming(
            id=self.id,
            headers=self.headers,
            body=body,
            profile=profile,
            choice=choice,
            capabilities=resolved,
            renamed=renamed,
            said=self.said,
            policy=policy,
            other=other_of(choice, services),
            framed=self.framed,
            long=self.long,
            further=further,
            meant=self,
        )


def _with_model(body: JsonObject, choice: ModelChoice) -> tuple[JsonObject, Renamed | None]:
    """Return the body with the name that the backend knows."""
    if not isinstance(named := body.get("model"), str) or named == choice.slug:
        return body, None
    renamed = Renamed(named, choice.slug)
    return _with_slug(body | {"model": choice.slug}, renamed), renamed


def _with_slug(body: JsonObject, renamed: Renamed) -> JsonObject:
    """Return the body with the slug also where Codex CLI says the model a second time."""
    told = get_object(body, "client_metadata")
    changed: JsonObject = {
        key: new
        for key, value in told.items()
        if isinstance(value, str) and (new := renamed.within(value)) != value
    }
    return body | {"client_metadata": told | changed} if changed else body


def _in_header(asked: Asked) -> tuple[Given, ...]:
    return tuple(map(capabilities.read_header, asked.values(capabilities.HEADER)))
