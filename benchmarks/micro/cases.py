"""The cases: the functions that a turn, an event or a request goes through."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.micro import inputs
from benchmarks.micro.case import Case
from benchmarks.requests import MODEL
from codexrelay.accounts.account import Credentials, make_account
from codexrelay.accounts.pool import Ask, Pool
from codexrelay.accounts.strategies import find_strategies
from codexrelay.accounts.strategies.strategy import StrategySettings
from codexrelay.backends.openai.secrecy import Secrets as SentSecrets
from codexrelay.backends.transports.client_frames import message_frame
from codexrelay.backends.transports.server_frames import ServerFrames
from codexrelay.protocol import sse
from codexrelay.protocol.chat_request import translate
from codexrelay.protocol.chat_source import ChatToResponses
from codexrelay.protocol.chat_stream import ChatStream
from codexrelay.protocol.chat_target import as_chat
from codexrelay.protocol.responses_request import shape
from codexrelay.protocol.responses_scan import QUIET, only_deltas, pieces
from codexrelay.protocol.responses_stream import ResponsesStream
from codexrelay.server.framing import FrameReader, text_frames
from codexrelay.sessions.identity import session_key
from harness.secrecy.redaction import Redactor
from harness.secrecy.secrets import Secrets as KnownSecrets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from codexrelay.protocol.raw import JsonObject

    #: Takes blocks, and gives what the client is to get.
    Feed = Callable[[bytes], object]

_EVENTS: Final = 2000
_NOW_UNIX_S: Final = 1_795_347_089.0
_MESSAGE_LIMIT_BYTES: Final = 16_000_000
_BURST: Final = f"{_EVENTS:,} deltas of 270 bytes in blocks of 64 KiB"
_PACED: Final = f"{_EVENTS:,} deltas of 270 bytes, each in a block of its own"
_CHUNKS: Final = f"{_EVENTS:,} chunks of 260 bytes"
_SESSION: Final = {"session-id": "0199c0de-0000-7000-8000-000000000001"}


def every_case() -> tuple[Case, ...]:
    """Return all of them, in the order of the table."""
    return (
        *_scanning(),
        *_answers(),
        *_requests(),
        *_secrecy(),
        *(_choice(accounts) for accounts in (1, 10, 100, 500)),
        *_keys(),
        *_frames(),
    )


def _scanning() -> Iterator[Case]:
    per_event = partial(Case, unit="event", units=_EVENTS)
    yield per_event(
        name="EventCutter.feed", given=_BURST, prepare=_stream(lambda: sse.EventCutter().feed)
    )
    yield per_event(
        name="EventCutter.feed, paced",
        given=_PACED,
        prepare=_stream(lambda: sse.EventCutter().feed, paced=True),
    )
    whole = f"{_EVENTS:,} deltas of 270 bytes in one piece"
    yield per_event(
        name="only_deltas",
        given=whole,
        prepare=lambda: partial(only_deltas, b"".join(inputs.responses_deltas(_EVENTS))),
    )
    yield per_event(name="pieces", given=f"{whole}, and what opens them", prepare=_pieces)


def _pieces() -> Callable[[], object]:
    whole = b"".join(inputs.responses_events(_EVENTS))
    return lambda: list(pieces(whole, QUIET))


def _answers() -> Iterator[Case]:
    per_event = partial(Case, unit="event", units=_EVENTS)
    for name, start in (("ResponsesStream.feed", _responses), ("ChatStream.feed", _chat)):
        yield per_event(name=name, given=_BURST, prepare=_stream(start))
        yield per_event(name=f"{name}, paced", given=_PACED, prepare=_stream(start, paced=True))
    yield per_event(
        name="ChatToResponses.feed",
        given=f"{_CHUNKS} in blocks of 64 KiB",
        prepare=_stream(_from_chat, events=inputs.chat_events),
    )
    yield per_event(
        name="ChatToResponses.feed, paced",
        given=f"{_CHUNKS}, each in a block of its own",
        prepare=_stream(_from_chat, events=inputs.chat_events, paced=True),
    )


def _stream(
    start: Callable[[], Feed],
    *,
    events: Callable[[int], list[bytes]] = inputs.responses_events,
    paced: bool = False,
) -> Callable[[], Callable[[], object]]:
    """Return what prepares a whole stream, which a new reader gets block by block."""

    def prepare() -> Callable[[], object]:
        told = events(_EVENTS)
        blocks = told if paced else inputs.in_blocks(told)

        def work() -> None:
            feed = start()
            for block in blocks:
                feed(block)

        return work

    return prepare


def _responses() -> Feed:
    return ResponsesStream(
        now_unix_s=_NOW_UNIX_S, model=MODEL, created_unix_s=int(_NOW_UNIX_S)
    ).feed


def _chat() -> Feed:
    turn = translate(inputs.chat_request(0), recall=_recall)
    return ChatStream(
        turn,
        completion_id="chatcmpl-1",
        created_unix_s=int(_NOW_UNIX_S),
        now_unix_s=_NOW_UNIX_S,
    ).feed


def _from_chat() -> Feed:
    return ChatToResponses(
        as_chat(inputs.responses_request(0)).tools,
        response_id="resp_1",
        model=MODEL,
        created_unix_s=int(_NOW_UNIX_S),
    ).feed


def _requests() -> Iterator[Case]:
    for turns in (1, 100):
        given = f"{turns} tool calls, {{:,.0f}} KB".format
        chat, responses = inputs.chat_request(turns), inputs.responses_request(turns)
        chat_kb, responses_kb = inputs.sized(chat) / 1e3, inputs.sized(responses) / 1e3
        yield Case(
            name=f"chat_request.translate, {turns}",
            given=given(chat_kb),
            prepare=_on(chat, lambda body: translate(body, recall=_recall)),
        )
        yield Case(
            name=f"chat_target.as_chat, {turns}",
            given=given(responses_kb),
            prepare=_on(responses, as_chat),
        )
        yield Case(
            name=f"responses_request.shape, {turns}",
            given=given(responses_kb),
            prepare=_on(
                responses, lambda body: shape(body, session_cache_key="k", codex_shaped=False)
            ),
        )


def _on(
    body: JsonObject, work: Callable[[JsonObject], object]
) -> Callable[[], Callable[[], object]]:
    return lambda: lambda: work(body)


def _recall(_call_id: str) -> tuple[JsonObject, ...]:
    return ()


def _secrecy() -> Iterator[Case]:
    """Recordings are cleared of every secret; an answer of a server, of the key it was sent."""
    text = b"".join(inputs.responses_events(500))
    kb = len(text) // 1000
    per_kb = partial(Case, unit="KB", units=kb)
    known = inputs.secrets(20)
    yield per_kb(
        name="Redactor.data",
        given=f"{kb} KB of events without a secret; 20 are known",
        prepare=lambda: partial(_redactor(known).data, text),
    )
    told = text.replace(b"abcdefgh", known[0].encode(), 5)
    yield per_kb(
        name="Redactor.data, secrets in it",
        given=f"{kb} KB of events with one in five places; 20 are known",
        prepare=lambda: partial(_redactor(known).data, told),
    )
    yield per_kb(
        name="secrecy.Secrets.are_in",
        given=f"{kb} KB of events; one key was sent",
        prepare=lambda: partial(SentSecrets.of(known[:1]).are_in, text),
    )


def _redactor(values: list[str]) -> Redactor:
    known = KnownSecrets()
    for value in values:
        known.add(value, "key")
    return Redactor(known)


def _choice(count: int) -> Case:
    return Case(
        name=f"Pool.choose, {count}",
        given=f"{count} accounts, round-robin; the place is taken and given back",
        prepare=partial(_choosing, count),
    )


def _choosing(count: int) -> Callable[[], object]:
    selector = find_strategies()["round-robin"].start(
        StrategySettings(
            session_affinity_ttl_s=3600, session_affinity_max_entries=100, rng=random.Random(7)
        )
    )
    pool = Pool(selector)
    accounts = [
        make_account(
            f"account-{number:03}",
            Credentials(access_token=f"access-{number}", refresh_token=f"refresh-{number}"),
            origin="managed",
            workspace_id=f"workspace-{number}",
        )
        for number in range(count)
    ]
    pool.update(accounts, now_unix_s=_NOW_UNIX_S)
    ask = Ask(model=MODEL, session="one")

    def work() -> None:
        choice = pool.choose(ask, now_unix_s=_NOW_UNIX_S)
        pool.give_back(pool.take(choice, ask))

    return work


def _keys() -> Iterator[Case]:
    body = inputs.responses_request(100)
    yield Case(
        name="session_key, named",
        given="a header names the session",
        prepare=lambda: partial(session_key, _SESSION, body),
    )
    yield Case(
        name="session_key, by opening",
        given=f"nothing names it; {inputs.sized(body) / 1e3:,.0f} KB of history",
        prepare=lambda: partial(session_key, {}, body),
    )


def _frames() -> Iterator[Case]:
    per_message = partial(Case, unit="message", units=_EVENTS)
    yield per_message(
        name="ServerFrames.feed",
        given=f"{_EVENTS:,} texts of 230 bytes in blocks of 64 KiB, from the backend",
        prepare=_from_server,
    )
    yield per_message(
        name="text_frames",
        given=f"{_EVENTS:,} texts of 230 bytes at once, to the client",
        prepare=lambda: partial(text_frames, _texts()),
    )
    for kb in (1, 100):
        text = b"x" * (kb * 1000)
        yield Case(
            name=f"FrameReader.feed, {kb} KB",
            given=f"one masked text of {kb} KB, from the client",
            unit="KB",
            units=kb,
            prepare=partial(_from_client, text),
        )
        yield Case(
            name=f"message_frame, {kb} KB",
            given=f"one text of {kb} KB, to the backend",
            unit="KB",
            units=kb,
            prepare=partial(_to_server, text.decode()),
        )


def _texts() -> list[bytes]:
    """Return what the events say, without what makes them events."""
    return [event.partition(b"data: ")[2].rstrip() for event in inputs.responses_deltas(_EVENTS)]


def _from_server() -> Callable[[], object]:
    blocks = inputs.in_blocks([inputs.server_frame(text) for text in _texts()])
    views = [memoryview(block) for block in blocks]

    def work() -> None:
        frames = ServerFrames(max_message_bytes=_MESSAGE_LIMIT_BYTES)
        for view in views:
            frames.feed(view)
            frames.messages.clear()

    return work


def _to_server(text: str) -> Callable[[], object]:
    return lambda: message_frame(text)


def _from_client(text: bytes) -> Callable[[], object]:
    frame = inputs.client_frame(text)
    reader = FrameReader(limit_bytes=_MESSAGE_LIMIT_BYTES)
    return lambda: list(reader.feed(frame))
