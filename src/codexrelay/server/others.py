"""Requests to backends of other kinds: as the client wrote them, translated at most.

Nothing that is done for Codex is done here: no prompt, tools, calls or reasoning of the relay's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import attrs
import structlog

from codexrelay.backends.backend import Transducer, UpstreamRequest, Wire
from codexrelay.backends.openai.headers import passed_on
from codexrelay.errors import RequestError
from codexrelay.protocol import encrypted
from codexrelay.protocol.chat_native import NativeChatStream
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.plain_request import PlainRequest, plain_request
from codexrelay.protocol.raw import JsonObject, dump, get_list, get_text
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.relay.climb import Wish
from codexrelay.relay.reply import FramedReply, StreamedReply, WholeReply
from codexrelay.server import answers
from codexrelay.server.lightening import lighten
from codexrelay.server.turns import Planned
from codexrelay.sessions.state import LeftBehind

if TYPE_CHECKING:
    from codexrelay.relay.other import Other
    from codexrelay.relay.reply import Reply
    from codexrelay.server.incoming import Incoming
    from codexrelay.server.services import Services
    from codexrelay.server.turns import Begun

_log = structlog.get_logger("codexrelay.others")


async def plan(
    incoming: Incoming, other: Other, begun: Begun, services: Services, *, spoken: Wire
) -> Planned:
    """Plan the leg to a model of another backend; `spoken` is the client's protocol.

    Raises:
        RequestError: the request cannot be made for that backend.
    """
    lightened = await lighten(incoming.body, begun.plan, begun.key, services, family=False)
    plain = plain_request(
        lightened.body,
        spoken=spoken,
        wire=other.wire,
        choice=incoming.choice,
        cache_key=begun.session.key.cache_key,
    )
    _log.debug(
        "request for another backend",
        request=incoming.id,
        backend=other.name,
        path=plain.path,
        dropped=list(plain.dropped),
        changes=list(plain.changes),
    )
    reply: Reply
    left_behind: Callable[[], LeftBehind] = LeftBehind
    if framed := incoming.framed is not None:
        answer = answers.framed_responses(plain.model, services)
        reply, left_behind = FramedReply(answer), partial(_left_behind, incoming, answer)
    else:
        reply = _reply(plain, services)
    requests = OtherRequests(
        path=plain.path,
        body=plain.body,
        owners=begun.plan.owners,
        delivers=plain.delivers,
        translated_by=_translation(plain, services),
    )
    return Planned(
        incoming=incoming,
        # A client on a WebSocket is shown life by the connection.
        wish=wish_of(incoming, other, waits=framed or reply.keep_alive is not None),
        requests=requests,
        reply=reply,
        passed_on=passed_on,
        left_behind=left_behind,
        let_go=requests.let_go,
        lightened=lightened,
    )


def _left_behind(incoming: Incoming, answer: ResponsesStream) -> LeftBehind:
    return LeftBehind(conversation=answers.conversation(incoming, answer))


def wish_of(incoming: Incoming, other: Other, *, waits: bool = False) -> Wish:
    """Return what a request wants of another backend."""
    return Wish(route=(other,), model=get_text(incoming.body, "model"), waits=waits)


def _translation(plain: PlainRequest, services: Services) -> Callable[[], Transducer]:
    """Return what makes the reader of one attempt's answer."""
    return partial(
        plain.delivery,
        response_id=f"resp_{services.new_id()}",
        created_unix_s=int(services.wall_clock()),
    )


def _reply(plain: PlainRequest, services: Services) -> Reply:
    if plain.delivers == "chat":
        native = answers.native_chat(
            plain.model, services, stream=plain.stream, include_usage=plain.include_usage
        )
        return StreamedReply(native) if isinstance(native, NativeChatStream) else WholeReply(native)
    if plain.chat is not None:
        plain.chat.body = {}  # its answer has no use for that
        chat = answers.chat(plain.chat, services)
        return StreamedReply(chat) if isinstance(chat, ChatStream) else WholeReply(chat)
    answer = answers.responses(plain.model, services, stream=plain.stream)
    return StreamedReply(answer) if isinstance(answer, ResponsesStream) else WholeReply(answer)


@attrs.define(eq=False, kw_only=True)
class OtherRequests:
    """Makes the request to another backend; it is the same at each attempt, but for reasoning.

    Raises:
        RequestError: the body cannot be serialised.
    """

    path: str
    body: JsonObject
    #: Digest of an encrypted item -> the account of the family that made it.
    owners: Mapping[str, str] = attrs.field(factory=dict)
    delivers: Wire = "responses"
    translated_by: Callable[[], Transducer] | None = None
    _whole: bytes = attrs.field(init=False)

    def let_go(self) -> None:
        """Keep nothing of the request: none is made any more."""
        self.body, self._whole, self.translated_by = {}, b"", None

    def __attrs_post_init__(self) -> None:
        try:
            self._whole = dump(self.body)
        except ValueError as error:
            raise RequestError(message=str(error), code="invalid_json") from None

    def __call__(self, account_id: str, *, stripped: bool) -> UpstreamRequest:  # noqa: ARG002 - there is one
        """Return the request without the reasoning of Codex, which nobody else can read.

        `stripped`: without any that is encrypted.
        """
        body = encrypted.of_no_account(self.body, self.owners)
        if stripped:
            body = encrypted.without_reasoning(body)
        return UpstreamRequest(
            path=self.path,
            body=self._whole if body is self.body else dump(body),
            delivers=self.delivers,
            translated_by=self.translated_by,
            reasoning_stripped=len(get_list(self.body, "input")) - len(get_list(body, "input")),
        )
