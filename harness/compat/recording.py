"""Records what the real programs send, for `cassettes/requests`: `compat --record DIR`.

Each program is run twice through the scenario `tool`, in two conversations, with a tap between it
and the relay. What it sent is written down without the person, the machine and the texts: a file is
the same after every run of the same version, but for its date and the lengths of some texts.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import httptools
import trio

from codexrelay import __version__
from codexrelay.protocol.raw import Json, JsonObject, dump, is_object, parse
from harness.children import bare_environment
from harness.compat.agent_process import Launch, make_home, run
from harness.compat.cell import ACCOUNTS, PATIENCE_S
from harness.compat.drivers.driver import NpmProgram, Order
from harness.compat.scenarios import MARK
from harness.compat.traces import last_words, text_of
from harness.compat.verdict import CLIENT_KEY
from harness.relay_process import RelayStartError, relay_settings, running_relay, told_by
from harness.simulator import Simulator
from harness.simulator.arrival import HttpRequest
from harness.simulator.tools import tools_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.compat.cell import Cell
    from harness.simulator.tools import Tool

SCENARIO: Final = "tool"
#: What the tool is to print, one for each conversation.
MARKS: Final = (f"{MARK}-a", f"{MARK}-b")
_HOST: Final = "127.0.0.1"
_RECEIVE_BYTES: Final = 64 * 1024


class RecordingError(Exception):
    """A program did not hold its conversation; the text says what is known of it."""


def prompt_for(mark: str) -> str:
    """Return what a program is asked: the scenario's prompt with a mark of its own."""
    return f"Run the shell command 'echo {mark}' and tell me what it printed."


async def record(cell: Cell, folder: Path) -> int:
    """Write what the cell's program sends into `folder`/VARIANT; return how many requests.

    Earlier recordings of the variant are replaced.

    Raises:
        RecordingError: it did not hold a conversation to its end.
    """
    stable = Stable()
    recorded: list[JsonObject] = []
    for number, mark in enumerate(MARKS, start=1):
        with tempfile.TemporaryDirectory(
            prefix="codexrelay-compat-", ignore_cleanup_errors=True
        ) as name:
            requests = await _heard(cell, Path(name), mark)
        stable.home = f"{name}/home"
        about: JsonObject = {**_about(cell), "conversation": number}
        recorded += [{"recorded": about, **_plain(one, stable)} for one in steady(requests)]
    place = folder / cell.variant.name
    place.mkdir(parents=True, exist_ok=True)
    for old in place.glob("*.json"):
        old.unlink()
    for number, request in enumerate(recorded, start=1):
        content = json.dumps(request, indent=1, ensure_ascii=False)
        (place / f"{number:02}.json").write_text(f"{content}\n", "utf-8")
    return len(recorded)


def _about(cell: Cell) -> JsonObject:
    program = cell.driver.program
    return {
        "program": cell.driver.name,
        "version": program.version
        if isinstance(program, NpmProgram)
        else importlib.metadata.version(program.distribution),
        "date": datetime.now(UTC).date().isoformat(),
        "relay": __version__,
        "origin": "simulator",
    }


async def _heard(cell: Cell, folder: Path, mark: str) -> list[HttpRequest]:
    """Return what the program sends in one conversation.

    Raises:
        RecordingError: see `record`.
    """
    told: str | None = None
    requests: list[HttpRequest] = []
    try:
        requests, told = await _converse(cell, folder, mark)
    except* RelayStartError as group:
        told = f"the relay did not start\n{told_by(group)}"
    if told is not None:
        raise RecordingError(f"{cell.variant.name}: {told}")
    return requests


async def _converse(cell: Cell, folder: Path, mark: str) -> tuple[list[HttpRequest], str | None]:
    """Run the program between simulator and relay.

    Returns what it sent, in order of arrival, and what is wrong with how it ended, None if nothing.
    """
    home, relay_home, store = folder / "home", folder / "relay", folder / "accounts"
    relay_home.mkdir()
    async with trio.open_nursery() as nursery:
        simulator = Simulator(accounts=ACCOUNTS[:1], pace_s=cell.scenario.pace_s)
        await nursery.start(simulator.serve)
        simulator.write_store(store)
        settings = relay_settings(
            api_base_url=simulator.api_base_url, issuer_url=simulator.issuer_url, store=store
        )
        async with running_relay(relay_home, settings) as relay:
            tap = Tap(int(relay.url.rpartition(":")[2]))
            url = await nursery.start(tap.serve)
            launch = _prepare(cell, home, url, mark)
            with trio.move_on_after(PATIENCE_S):
                await run(launch)
        nursery.cancel_scope.cancel()
    if f"The command printed: {mark}" in text_of(launch.stdout_path):
        return tap.requests, None
    traces = last_words("stderr", text_of(launch.stderr_path))
    return tap.requests, "\n".join(["it printed no answer", *traces])


def _prepare(cell: Cell, home: Path, url: str, mark: str) -> Launch:
    order = Order(
        variant=cell.variant,
        relay_url=url,
        home=home,
        client_key=CLIENT_KEY,
        prompt=prompt_for(mark),
    )
    make_home(home, cell.driver.files(order))
    return Launch(
        command=(*cell.command, *cell.driver.arguments(order)),
        environment={**bare_environment(home), **cell.driver.environment(order)},
        home=home,
    )


# --- the tap


@attrs.define(eq=False)
class Tap:
    """Stands before a relay on a port of its own, and reads along what clients send."""

    _relay_port: int
    #: In the order in which they had arrived whole.
    requests: list[HttpRequest] = attrs.field(factory=list, init=False)

    async def serve(self, *, task_status: trio.TaskStatus[str]) -> None:
        """Serve until cancelled; started with the address."""
        listeners = await trio.open_tcp_listeners(0, host=_HOST)
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, self._connection, listeners)
            task_status.started(f"http://{_HOST}:{listeners[0].socket.getsockname()[1]}")

    async def _connection(self, client: trio.SocketStream) -> None:
        reader = _Requests(self.requests)
        async with client, await trio.open_tcp_stream(_HOST, self._relay_port) as relay:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_copy, relay, client)
                    async for data in client:
                        reader.feed(bytes(data))
                        await relay.send_all(data)
                    await relay.send_eof()
            except* trio.BrokenResourceError:
                pass  # either side has left


async def _copy(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    async for data in source:
        await sink.send_all(data)
    await sink.send_eof()


@attrs.define(eq=False)
class _Requests:
    """Reads the requests of one connection; it is what httptools calls."""

    _into: list[HttpRequest]
    _target: bytearray = attrs.field(factory=bytearray, init=False)
    _headers: list[tuple[str, str]] = attrs.field(factory=list, init=False)
    _body: bytearray = attrs.field(factory=bytearray, init=False)
    _parser: httptools.HttpRequestParser = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The relay refuses; what follows on this connection is another request.
            self._parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self._target, self._headers, self._body = bytearray(), [], bytearray()

    def on_url(self, piece: bytes) -> None:
        self._target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("ascii"), value.decode("latin-1")))

    def on_body(self, piece: bytes) -> None:
        self._body += piece

    def on_message_complete(self) -> None:
        self._into.append(
            HttpRequest(
                self._parser.get_method().decode("ascii"),
                self._target.decode("ascii"),
                tuple(self._headers),
                bytes(self._body),
            )
        )


# --- what is written down

#: Header -> what stands for its value: secrets, and what says more of the machine than the program.
_HEADERS: Final = {
    "authorization": "Bearer <token>",
    "cookie": "<cookie>",
    "host": f"{_HOST}:8787",
    "openai-platform": "org-<constant>",
    "sec-websocket-key": "<key>",
    "x-stainless-os": "<os>",
    "x-stainless-arch": "<arch>",
    "x-stainless-runtime-version": "<version>",
}
#: Of the wire alone: it does not fit what is written down.
_DROPPED: Final = frozenset({"content-length"})
#: Keys whose texts are somebody's work, or say what the moment was like.
_TEXTS: Final = frozenset(
    {
        "content",
        "definition",
        "description",
        "instructions",
        "output",
        "reasoning_content",
        "text",
        "title",
    }
)
#: Objects whose keys come in another order each time (Codex CLI).
_UNORDERED: Final = frozenset({"client_metadata"})
#: Keys of what the simulated model wrote.
_OURS: Final = frozenset({"arguments", "input"})
#: Names, enums and patterns are shorter.
_LONGEST: Final = 64
#: Numbers that are moments, as Unix seconds or milliseconds: from 2017 to 2100.
_MOMENTS: Final = ((1.5e9, 4.1e9), (1.5e12, 4.1e12))
_MACHINE: Final = re.compile(r"\([A-Z][^();]*;[^()]*\)")
_VARYING: Final = re.compile(
    r"(?P<uuid>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"|(?P<encrypted>gAAAA[\w=-]{16,})"
    r"|\b(?P<prefix>ses|call|rs|fc|ctc|cmp|resp)_\w{12,}\b"
)
_PORT: Final = re.compile(r"127\.0\.0\.1:\d+")


@attrs.define(eq=False)
class Stable:
    """Gives each id that varies from run to run the same stand-in wherever it stands."""

    #: The home of the run.
    home: str = ""
    _known: dict[str, str] = attrs.field(factory=dict, init=False)

    def text(self, text: str) -> str:
        """Return `text` without ids, ports and folders of this run."""
        if self.home:
            text = text.replace(self.home, "/home/user")
        return _VARYING.sub(self._stand_in, _PORT.sub(_HEADERS["host"], text))

    def _stand_in(self, found: re.Match[str]) -> str:
        known = self._known
        if (whole := found[0]) not in known:
            number = len(known) + 1
            if found["uuid"]:
                known[whole] = f"00000000-0000-4000-8000-{number:012}"
            elif found["encrypted"]:
                known[whole] = f"gAAAAencrypted{number:04}"
            else:
                known[whole] = f"{found['prefix']}_{number:024}"
        return known[whole]


def steady(requests: Sequence[HttpRequest]) -> list[HttpRequest]:
    """Return what is sent in every run, in an order that does not depend on the moment.

    How often a program asks for the models, and before or after what, is a matter of luck: once is
    enough. Of what it sends at once, the title request (without tools) is taken for the first.
    """
    asked = {(request.method, request.path): request for request in reversed(requests)}
    once = [request for request in asked.values() if request.method != "POST"]
    turns = [request for request in requests if request.method == "POST"]
    return [
        *sorted(once, key=lambda request: request.path),
        *sorted(turns, key=lambda request: bool(_tools_of(request))),
    ]


def _tools_of(request: HttpRequest) -> tuple[Tool, ...]:
    body = _parsed_body(request)
    return tools_of(body) if is_object(body) else ()


def _parsed_body(request: HttpRequest) -> Json:
    named = tuple((name.lower(), value) for name, value in request.headers)
    return attrs.evolve(request, headers=named).parsed()


def _plain(request: HttpRequest, stable: Stable) -> JsonObject:
    headers = {
        name: _header(name.lower(), value, stable)
        for name, value in request.headers
        if name.lower() not in _DROPPED
    }
    return {
        "method": request.method,
        "path": stable.text(request.target),
        "headers": headers,
        "body": without_texts(_parsed_body(request), stable),
    }


def _header(name: str, value: str, stable: Stable) -> Json:
    if name in _HEADERS:
        return _HEADERS[name]
    if name == "user-agent":
        return _MACHINE.sub("(<os>; <arch>)", value)
    return without_texts(value, stable)


def without_texts(value: Json, stable: Stable, *, key: str = "") -> Json:
    """Return a copy of `value` without texts, and with stable ids; `key` is where it stands."""
    match value:
        case dict():
            pairs = sorted(value.items()) if key in _UNORDERED else value.items()
            return {
                stable.text(name): without_texts(inner, stable, key=name) for name, inner in pairs
            }
        case list():
            return [without_texts(inner, stable, key=key) for inner in value]
        case str():
            return _text(value, stable, key=key)
        case int() | float() if any(low <= value < high for low, high in _MOMENTS):
            return 0
        case _:
            return value


def _text(text: str, stable: Stable, *, key: str) -> str:
    plain = stable.text(text)
    if text.strip(' "\n') in _SAID_BY_US or key in _OURS:
        return plain
    if key not in _TEXTS and text.startswith("{") and is_object(inner := _parsed(text)):
        return dump(without_texts(inner, stable)).decode()
    if key in _TEXTS or len(plain) > _LONGEST:
        return f"<text: {len(plain)} characters>"
    return plain


def _parsed(text: str) -> Json:
    try:
        return parse(text)
    except ValueError:
        return None


#: Prompts, and what the tool printed.
_SAID_BY_US: Final = frozenset({*MARKS, *map(prompt_for, MARKS)})
