"""Compression: the outputs of tools in a request become shorter, each one by itself.

A text always becomes the same bytes, so that a history that is sent again and again stays the same
and prompt caches keep hitting. Which compressors act is told by what the text looks like and by its
call. The work is done in bounded steps, for which the caller brings a clock; an output that takes
longer than its budget is left as it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from codexrelay.compaction.calls import category_of
from codexrelay.compaction.commands import command_of, commands_in_script, shows_files
from codexrelay.compaction.compressors import find_compressors
from codexrelay.compaction.compressors.compressor import Compressor as Member
from codexrelay.compaction.compressors.compressor import Context, Role, sample_of, size_bytes
from codexrelay.compaction.remembered import Known, Remembered
from codexrelay.compaction.results import each_result, with_texts
from codexrelay.compaction.settings import STUB_MARK, CompressionSettings
from codexrelay.protocol.raw import JsonObject, dump, parse_object

if TYPE_CHECKING:
    from codexrelay.compaction.calls import Call

#: A clock in seconds; only differences count.
Clock: TypeAlias = Callable[[], float]

#: How much is remembered of earlier results unless told otherwise.
REMEMBERED_BYTES: Final = 32 * 1024 * 1024
#: How the line at the head of a shortened output begins.
HEAD_MARK: Final = "[compressed: "
_MS_PER_S: Final = 1000.0
#: So many characters are digested in a step.
_DIGEST_CHARACTERS: Final = 500_000
#: So many results are looked at in a step, at most.
_RESULTS_PER_STEP: Final = 50
#: So much of a command is looked at.
_COMMAND_CHARACTERS: Final = 4_000
#: An output whose command names its format is one that somebody wants to read as it is.
_EXPLICIT: Final = re.compile(
    r"(?<!\S)(?:--(?:json|format|stat|numstat|shortstat|output-format|porcelain|pretty)(?![\w-])"
    r"|(?:-o|--output)[ =]?(?:json|yaml|jsonpath|custom-columns|name|wide)\b)"
)
#: What Codex CLI puts before the output of a command: its exit code, its time, and this.
_PREAMBLE: Final = re.compile(r"(?:[A-Z][^\n]{0,160}\n){1,8}Output:\n")
_IN_JSON: Final = '{"output":'
_JSON_CHARACTERS: Final = 2_000_000


@attrs.frozen(kw_only=True)
class Compressed:
    """A request with shorter outputs, and what was done."""

    #: The given request itself where nothing became shorter.
    body: JsonObject
    #: How many results became shorter.
    outputs: int
    #: By how many bytes all of them together.
    saved_bytes: int
    #: How many texts were left as they are because their time was over, now, not in earlier turns.
    over_budget: int = 0
    #: Names of the compressors that failed, now, not in earlier turns; their texts are left alone.
    failed: tuple[str, ...] = ()


@attrs.define(eq=False)
class Compressor:
    """Makes outputs shorter, for all sessions, and remembers how it did."""

    remembered_bytes: int = REMEMBERED_BYTES
    members: tuple[Member, ...] = attrs.field(factory=find_compressors)
    _remembered: Remembered = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._remembered = Remembered(self.remembered_bytes)

    def steps(
        self, body: JsonObject, settings: CompressionSettings, clock: Clock
    ) -> Generator[None, None, Compressed]:
        """Make the outputs of tools in a Chat or Responses request shorter.

        Yields after each piece of work of a few milliseconds at most, returns what was done. Only
        the time inside the steps counts for an output's budget. Nothing of `body` is changed.
        """
        work = _Work(self.members, self._remembered, settings, clock)
        changed: dict[int, tuple[str, ...]] = {}
        for number, result in enumerate(each_result(body)):
            if number % _RESULTS_PER_STEP == _RESULTS_PER_STEP - 1:
                yield  # however little there is to do for each
            if not any(work.is_large(text) for text in result.texts):
                continue
            context = context_of(result.call)
            if is_left_alone(result.call, context, settings):
                continue
            texts = yield from work.on_all(result.texts, context)
            if texts != result.texts:
                changed[result.place] = texts
        return Compressed(
            body=with_texts(body, changed),
            outputs=len(changed),
            saved_bytes=work.saved_bytes,
            over_budget=work.over_budget,
            failed=tuple(work.failed),
        )


def context_of(call: Call) -> Context:
    """Return what compressors may know of a call."""
    given = call.arguments
    command = given if isinstance(given, str) else command_of(given) or ""
    category = category_of(call)
    command = command[:_COMMAND_CHARACTERS]
    if category == "command_execution" and _shows_files(command):
        category = "file_read"
    return Context(tool=call.name, category=category, command=command)


def is_left_alone(call: Call, context: Context, settings: CompressionSettings) -> bool:
    """Tell whether the settings leave the outputs of such a call alone.

    A call that is not known may have read a file.
    """
    disabled = {name.lower() for name in settings.disable_tools}
    category = context.category if call.name else "file_read"
    return call.name.lower() in disabled or category in settings.disable_categories


def _shows_files(command: str) -> bool:
    """Tell whether files are among what a command, or a script of commands, puts out.

    That is how many programs read them.
    """
    return any(map(shows_files, commands_in_script(command) or [command]))


@attrs.define(eq=False)
class _Work:
    """What is done to one request."""

    members: tuple[Member, ...]
    remembered: Remembered
    settings: CompressionSettings
    clock: Clock
    saved_bytes: int = 0
    over_budget: int = 0
    failed: dict[str, None] = attrs.field(factory=dict)
    #: The compressor at work.
    at_work: str = ""

    def is_large(self, text: str) -> bool:
        """Tell whether a text is to be made shorter, as far as its size says so. A stub is not."""
        least = self.settings.min_bytes
        is_large = len(text) >= least or size_bytes(text) >= least  # the first costs nothing
        return is_large and not text.startswith(STUB_MARK)

    def on_all(
        self, texts: tuple[str, ...], context: Context
    ) -> Generator[None, None, tuple[str, ...]]:
        """Return what stands for the texts of one output."""
        shorter: list[str] = []
        for text in texts:
            shorter += ((yield from self.on(text, context)),)
        return tuple(shorter)

    def on(self, text: str, context: Context) -> Generator[None, None, str]:
        """Return what stands for a text."""
        if not self.is_large(text):
            return text
        digest = yield from self._digest(text, context)
        known = self.remembered.get(digest)
        if known is None:
            known = self.remembered.put(digest, (yield from self._in_time(text, context)))
        if known.shorter is None:
            return text
        self.saved_bytes += known.saved_bytes
        return known.shorter

    def _digest(self, text: str, context: Context) -> Generator[None, None, bytes]:
        """Digest everything that the result depends on."""
        settings = self.settings
        kind = (settings.level, settings.markers, settings.time_budget_ms)
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((*kind, context.category, context.command)).encode())
        for start in range(0, len(text), _DIGEST_CHARACTERS):
            piece = text[start : start + _DIGEST_CHARACTERS]
            digest.update(piece.encode("utf-8", "surrogatepass"))
            yield
        return digest.digest()

    def _in_time(self, text: str, context: Context) -> Generator[None, None, Known]:
        """Make a text shorter within its budget; otherwise, or if that fails, it is left alone."""
        work = self._shorten(text, context)
        spent_s = 0.0
        while spent_s * _MS_PER_S <= self.settings.time_budget_ms:
            begun_s = self.clock()
            try:
                next(work)
            except StopIteration as done:
                shorter: str = done.value
                saved_bytes = size_bytes(text) - size_bytes(shorter)
                return Known(shorter, saved_bytes) if saved_bytes > 0 else Known(None)
            except Exception:  # noqa: BLE001  the compressor border: a turn goes on with what it has
                self.failed[self.at_work] = None
                return Known(None)
            spent_s += self.clock() - begun_s
            yield
        work.close()
        self.over_budget += 1
        return Known(None)

    def _shorten(self, text: str, context: Context) -> Generator[None, None, str]:
        before, output, wrap = _unwrapped(text)
        if output.startswith(HEAD_MARK) or any(one.has_marks(output) for one in self.members):
            return text  # it comes from here: somebody has read a shortened output back
        shorter, names = yield from self._through(output, context)
        if not names:
            return text
        is_data = output.lstrip()[:1] in ("{", "[") and "json" in names
        if self.settings.markers and not is_data:
            shorter = f"{_head(output, shorter, names)}\n{shorter}"
        return before + wrap(shorter)

    def _through(self, text: str, context: Context) -> Generator[None, None, tuple[str, list[str]]]:
        """Let the compressors act on a text; return also the names of those that did."""
        names: list[str] = []
        kept_lines = bool(_EXPLICIT.search(context.command))
        for role in (Role.SURFACE,) if kept_lines else tuple(Role):
            sample = sample_of(text)
            for member in self.members:
                self.at_work = member.name
                if member.role is not role or not member.fits(sample, context):
                    continue
                shorter = yield from member.run(text, context, self.settings.level)
                yield  # what follows, and the end of that, looks at the whole text
                kept_lines = kept_lines or member.alone
                if shorter != text:
                    text = shorter
                    names.append(member.name)
                    if role is Role.KIND:
                        break  # it is of one kind
            if role is Role.KIND and kept_lines:
                break
        return text, names


def _head(text: str, shorter: str, names: list[str]) -> str:
    sizes = f"{size_bytes(text):,} -> {size_bytes(shorter):,} bytes"
    return f"{HEAD_MARK}{sizes}: {', '.join(names)}]"


def _unwrapped(text: str) -> tuple[str, str, Callable[[str], str]]:
    """Return what stands before the output of a command, the output, and how it is wrapped."""
    preamble = _PREAMBLE.match(text)
    if preamble is not None:
        return preamble[0], text[preamble.end() :], str
    if text.startswith(_IN_JSON) and len(text) <= _JSON_CHARACTERS:
        try:
            whole = parse_object(text)
        except ValueError:
            return "", text, str
        output = whole.get("output")
        if isinstance(output, str) and whole.keys() <= {"output", "metadata"}:
            return "", output, lambda shorter: dump({**whole, "output": shorter}).decode()
    return "", text, str
