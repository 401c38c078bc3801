"""What is done through the relay before a real server, and what must come of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import httpx
import trio

from codexrelay.protocol.raw import JsonObject, dump, get_text
from harness.children import bare_environment
from harness.compat.agent_process import Launch, make_home, run
from harness.compat.cell import Result
from harness.compat.drivers.driver import Order, Variant, WireProtocol
from harness.compat.drivers.openai_sdk import DRIVER as SDK
from harness.compat.drivers.openai_sdk import WHOLE, OpenAISdk
from harness.compat.install import python_command
from harness.compat.traces import last_words, text_of
from harness.demo.client import CHAT, RESPONSES, TERMINAL, ask
from harness.openai_api import Wire
from harness.relay_process import RelayProcess
from harness.servers.kinds.kind import FOREVER
from harness.servers.running import RunningServer

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A conversation with two turns, on a machine that has other things to do.
TURN_S: Final = 90.0
#: From the moment a client closes until the relay says that it has left.
LEAVE_S: Final = 5.0
_CLIENT_KEY: Final = "servers-client-key-4711"
_NO_MODEL: Final = "no-such-model"
_LOOK_AGAIN_S: Final = 0.05
_DELTA: Final = "response.output_text.delta"
_CLIENT_LEFT: Final = "client left"


@attrs.frozen(kw_only=True)
class Row:
    """One wire of a running server, with the relay before it."""

    server: RunningServer
    wire: Wire
    relay: RelayProcess
    folder: Path

    @property
    def name(self) -> str:
        """Return its name, which is that of the relay's backend too."""
        return f"{self.server.kind.name}-{self.wire}"

    @property
    def model(self) -> str:
        """Return the model as a client names it."""
        return f"{self.name}:{self.server.kind.model}"


#: Does something and yields what is wrong.
Do: TypeAlias = Callable[[Row], Awaitable[list[str]]]


def wrong_key_name(row_name: str) -> str:
    """Return the name of the relay's backend that is the same server with a wrong key."""
    return f"{row_name}-wrong-key"


def _conversation(protocol: WireProtocol, *, whole: bool) -> Do:
    """The official SDK calls a tool and tells what came of it."""

    async def converse(row: Row) -> list[str]:
        shape = WHOLE if whole else ""
        variant = Variant(name=f"sdk-{protocol}{shape}", protocol=protocol, model=row.model)
        home = row.folder / f"{row.name}-{variant.name}"
        order = Order(
            variant=variant,
            relay_url=row.relay.url,
            home=home,
            client_key=_CLIENT_KEY,
            prompt="Run a command.",
        )
        make_home(home, SDK.files(order))
        launch = Launch(
            command=(*python_command(OpenAISdk.program), *SDK.arguments(order)),
            environment={**bare_environment(home), **SDK.environment(order)},
            home=home,
        )
        ended = await run(launch)
        said = text_of(launch.stdout_path).strip()
        if ended.status == 0 and said == row.server.kind.answer:
            return []
        return [
            f"exit status {ended.status}, it printed {said!r}",
            *last_words("stderr", text_of(launch.stderr_path)),
        ]

    return converse


async def _leave(row: Row) -> list[str]:
    """A client leaves an answer without an end; the next one is served."""
    heard: list[str] = []
    before = _left(row.relay)
    async with _client(row) as http:
        with trio.CancelScope() as scope:

            def hear(words: str) -> None:
                heard.append(words)
                if len(heard) == 3:
                    scope.cancel()

            body = _chat(row.model, f"Talk {FOREVER}.") | {"max_tokens": 1_000_000}
            await ask(http, CHAT, body, headers={}, hear=hear)
        problems = [] if scope.cancelled_caught else ["the answer ended by itself"]
        with trio.move_on_after(LEAVE_S) as patience:
            while _left(row.relay) == before:  # noqa: ASYNC110 - a process writes it
                await trio.sleep(_LOOK_AGAIN_S)
        if patience.cancelled_caught:
            problems.append(f"the relay did not say {_CLIENT_LEFT!r} within {LEAVE_S:g} s")
        answer = await ask(http, CHAT, _chat(row.model, "Hello."), headers={}, hear=_nobody)
    if answer.status != 200 or answer.finish_reasons != ["stop"] or not answer.text:
        problems.append(f"the next turn: {answer.status}, {answer.text!r}")
    return problems


def _refused(path: str, name: Callable[[Row], str], *, says: str = "") -> Do:
    """The server refuses a request, and the client is told by it in OpenAI's way."""

    async def be_refused(row: Row) -> list[str]:
        model = name(row)
        body = _chat(model, "Hello.") if path == CHAT else _responses(model, "Hello.")
        async with _client(row) as http:
            answer = await ask(http, path, body, headers={}, hear=_nobody)
        message = get_text(answer.error, "message") or ""
        if 400 <= answer.status < 500 and message and says in message:
            return []
        return [f"{answer.status}: {dump(answer.error).decode()}"]

    return be_refused


async def _text(row: Row) -> list[str]:
    """A streamed text arrives in both protocols: the same words, and one proper end."""
    async with _client(row) as http:
        chat = await ask(http, CHAT, _chat(row.model, "Hello."), headers={}, hear=_nobody)
        body = _responses(row.model, "Hello.")
        answer = await ask(http, RESPONSES, body, headers={}, hear=_nobody)
    # By their types: neither server names its events in a line of their own, as OpenAI does.
    kinds = [get_text(event, "type") or "" for event in answer.objects]
    deltas = zip(kinds, answer.objects, strict=True)
    said = "".join(get_text(event, "delta") or "" for kind, event in deltas if kind == _DELTA)
    ends = [kind for kind in kinds if kind in TERMINAL]
    problems = []
    if not said or chat.text.strip() != said.strip():
        problems.append(f"chat said {chat.text!r}, responses {said!r}")
    if ends != ["response.completed"] or chat.finish_reasons != ["stop"]:
        problems.append(f"the ends were {ends} and {chat.finish_reasons}")
    return problems


#: Column -> what is done.
COLUMNS: Final[dict[str, Do]] = {
    "text": _text,
    "chat": _conversation("chat", whole=False),
    "responses": _conversation("responses", whole=False),
    "chat-whole": _conversation("chat", whole=True),
    "resp-whole": _conversation("responses", whole=True),
    "leave": _leave,
    "no-model": _refused(CHAT, lambda row: f"{row.name}:{_NO_MODEL}", says=_NO_MODEL),
    "no-model-resp": _refused(RESPONSES, lambda row: f"{row.name}:{_NO_MODEL}", says=_NO_MODEL),
    "wrong-key": _refused(CHAT, lambda row: f"{wrong_key_name(row.name)}:{row.server.kind.model}"),
}
#: Only for servers that want a key.
_OF_A_KEY: Final = frozenset({"wrong-key"})


def cells_of(rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    """Yield what is to be done: rows and names of columns."""
    for row in rows:
        kind = row.server.kind
        for column in COLUMNS:
            if (row.wire, column) in kind.cannot or (column in _OF_A_KEY and kind.key is None):
                continue
            yield row, column


async def run_cell(row: Row, column: str) -> Result:
    """Do one thing and judge it."""
    began_at_s = trio.current_time()
    try:
        with trio.fail_after(TURN_S):
            problems = await COLUMNS[column](row)
    except trio.TooSlowError:
        problems = [f"it was not over within {TURN_S:g} s"]
    except (httpx.HTTPError, ValueError) as error:  # no answer, or one that cannot be read
        problems = [f"{type(error).__name__}: {error}"]
    traces = [
        *last_words("relay", "\n".join(row.relay.log)),
        *last_words(row.server.kind.name, text_of(row.server.log)),
    ]
    return Result(
        variant=row.name,
        scenario=column,
        seconds=trio.current_time() - began_at_s,
        problems=tuple(problems),
        traces=tuple(traces) if problems else (),
    )


def _left(relay: RelayProcess) -> int:
    return sum(_CLIENT_LEFT in line for line in relay.log)


def _client(row: Row) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=row.relay.url, trust_env=False, timeout=None)


def _nobody(_words: str) -> None:
    """Hear nothing."""


def _chat(model: str, prompt: str) -> JsonObject:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True}


def _responses(model: str, prompt: str) -> JsonObject:
    return {"model": model, "input": prompt, "stream": True}
