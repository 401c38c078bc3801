"""The ways in which an answer of the simulated API goes wrong, by name.

| fault | what the client gets |
| --- | --- |
| `400`, `401`, `403`, `404`, `500`, `503` | that status, with an error object |
| `429` | too fast: `Retry-After: 2` |
| `429later` | too fast: `Retry-After: 3600` |
| `html` | 502 with a web page |
| `drop_early`, `reset_early`, `hang_early` | connection closed, reset, silence: before any header |
| `hang_first` | headers, then silence |
| `error_first`, `error` | an error object in the stream: before, after the first delta |
| `drop`, `eof`, `cut`, `hang` | after the first delta: reset, clean end, half an event, silence |
| `garbage` | a web page and broken JSON after the first delta, then the rest |
| `slow` | a second of silence before each delta |
| `no_done` | all is well, but the last event (`[DONE]`, `response.completed`) is missing |

Those within a stream are spoilt steps, whatever they say: the wire does not matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from codexrelay.protocol.openai_errors import error_object
from codexrelay.protocol.raw import dump
from harness.simulator.steps import (
    Answer,
    Chunk,
    Close,
    Cut,
    End,
    Hang,
    Pause,
    Reset,
    Step,
    reply,
    reply_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from harness.simulator.steps import Headers

#: The wait that `429` asks for, in seconds.
WAIT_S: Final = 2
LATER_S: Final = 3600
SLOW_S: Final = 1.0
#: Status -> type, code and words of its error object.
_ERRORS: Final[Mapping[int, tuple[str, str | None, str]]] = {
    400: ("invalid_request_error", None, "The simulated API does not like this request."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("permission_error", None, "This key may not use the model."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist."),
    429: ("rate_limit_error", "rate_limit_exceeded", "Rate limit reached. Slow down."),
    500: ("server_error", None, "The simulated server had an error."),
    503: ("server_error", "overloaded", "The simulated server is loading its model."),
}
_PAGE: Final = b"<html>\n<head><title>502 Bad Gateway</title></head>\n<body></body>\n</html>\n"
_OUT_OF_MEMORY: Final = b'{"error":%s}' % dump(
    error_object("The simulated server ran out of memory.", type="server_error")
)


def refused(status: int, words: str | None = None, *, headers: Headers = ()) -> Answer:
    """Return the answer with this status and its usual error object, with `words` of its own."""
    type_, code, usual = _ERRORS[status]
    return reply(
        status, {"error": error_object(words or usual, type=type_, code=code)}, headers=headers
    )


#: Faults that answer in place of the model.
INSTEAD: Final[Mapping[str, Callable[[], Answer]]] = {
    **{str(status): lambda status=status: refused(status) for status in _ERRORS},  # type: ignore[misc]
    "429": lambda: refused(429, headers=(("retry-after", str(WAIT_S)),)),
    "429later": lambda: refused(429, headers=(("retry-after", str(LATER_S)),)),
    "html": lambda: reply_bytes(502, _PAGE, content_type="text/html; charset=utf-8"),
    "drop_early": lambda: (Close(),),
    "reset_early": lambda: (Reset(),),
    "hang_early": lambda: (Hang(),),
}

Steps: TypeAlias = "Iterator[Step]"


def _until_first_delta(steps: Steps) -> Steps:
    """Yield what comes up to the first delta, that one included (everything, if there is none)."""
    for step in steps:
        yield step
        if isinstance(step, Chunk) and step.delta:
            return


def _after_first_delta(*last: Step) -> Callable[[Steps], Steps]:
    def spoil(steps: Steps) -> Steps:
        yield from _until_first_delta(steps)
        yield from last

    return spoil


def _cut(steps: Steps) -> Steps:
    yield from _until_first_delta(steps)
    following = next(steps)
    assert isinstance(following, Chunk)
    yield Cut(following.data)


def _garbage(steps: Steps) -> Steps:
    yield from _until_first_delta(steps)
    yield Chunk(_PAGE + b"\n")
    yield Chunk(b'data: {"choices":[{"delta":\n\n')
    yield from steps


def _slow(steps: Steps) -> Steps:
    for step in steps:
        if isinstance(step, Chunk) and step.delta:
            yield Pause(SLOW_S)
        yield step


def _no_done(steps: Steps) -> Steps:
    held: Chunk | None = None
    for step in steps:
        if not isinstance(step, Chunk):
            yield step
            continue
        if held is not None:
            yield held
        held = step


_ERROR_EVENT: Final = Chunk(b"data: %s\n\n" % _OUT_OF_MEMORY)

#: Faults within a stream that began well; they get what follows its head.
WITHIN: Final[Mapping[str, Callable[[Steps], Steps]]] = {
    "hang_first": lambda _: iter((Hang(),)),
    "error_first": lambda _: iter((_ERROR_EVENT, End())),
    "error": _after_first_delta(_ERROR_EVENT, End()),
    "drop": _after_first_delta(Reset()),
    "eof": _after_first_delta(End()),
    "cut": _cut,
    "hang": _after_first_delta(Hang()),
    "garbage": _garbage,
    "slow": _slow,
    "no_done": _no_done,
}

FAULTS: Final = frozenset(INSTEAD) | frozenset(WITHIN)
