"""What each program is asked to do, what goes wrong meanwhile, and how it should end.

Most scenarios are the same conversation: a prompt, a shell tool call, the tool's output, a final
text. What differs is the fault that hits the first model request that carries tools, the mishap of
accounts between that request and the next, what program and relay are told besides, or the backend:
a local model that speaks one of the wires in Codex's stead, or now the one and now the other in one
conversation. Others ask for something else: for words alone, for two calls at once, for a change to
a file, about a picture or a long text, or for the conversation to go on or to be compacted. The
expectations are the table below; how they are checked stands in `verdict`.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Mapping
from typing import Final

import attrs

from codexrelay.protocol.capabilities import Given
from harness.openai_api import Wire

#: What the tool is to print, and so what the final text must quote. No program says it by itself.
MARK: Final = "relay-compat-4711"
COMMAND: Final = f"echo {MARK}"
#: The same for a second tool call in one answer.
SECOND_MARK: Final = "relay-compat-4712"
#: The final text; no program prints it unless the backend said so.
ANSWER: Final = f"The command printed: {MARK}"
#: The model that is not Codex, as a program names it.
LOCAL_MODEL: Final = "local:local-model"
_CODEX_MODEL: Final = "gpt-5.5"
#: A file that a program is asked to print again and again, and its last line.
NOTES: Final = "notes.txt"
END_OF_NOTES: Final = "this is the end of the notes"
_NOTES: Final = "\n".join([MARK, *["a line of no importance"] * 300, END_OF_NOTES, ""])
#: A text of about 300 KB, no two lines of which are the same.
LONG_TEXT: Final = "\n".join(f"line {n:05}: nothing happened in this minute" for n in range(7000))
#: A text in a score of pieces, as the simulated model writes it, and nobody else.
_DELTAS: Final = 20
_WORDS: Final = " ".join(f"word {n}" for n in range(_DELTAS))
#: How long a title is when it has to take its time.
TITLE_WORDS: Final = 80
#: A file that the program is to change, before and after.
_GREETING: Final = "greeting.txt"
_OLD_LINE, _NEW_LINE = "good morning", "good evening"
_GREETING_TEXT: Final = "Dear reader,\n{line}\nand goodbye.\n"


def _png(side: int) -> bytes:
    """Return a picture of so many pixels a side, no two rows of which are the same."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))  # 8 bits each of red, green, blue
    rows = b"".join(
        b"\0"
        + bytes(value for x in range(side) for value in (x * 3 % 256, y * 5 % 256, x * y % 256))
        for y in range(side)
    )
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            chunk(b"IDAT", zlib.compress(rows, 9)),
            chunk(b"IEND", b""),
        )
    )


PICTURE_NAME: Final = "picture.png"
PICTURE: Final = _png(64)


class Ending(enum.Enum):
    """How a run should end."""

    #: Exit status 0, the final text printed, the tool's output seen by the backend.
    ANSWERED = "answered"
    #: Exit status not 0, and no answer that could be taken for one.
    REPORTED = "reported"
    #: The status of an interrupted program; the backend saw it leave at once.
    INTERRUPTED = "interrupted"


class Repair(enum.Enum):
    """What the relay does about a fault before the client could see it."""

    #: Another account.
    ROTATE = "rotate"
    #: The same account with a new token.
    REFRESH = "refresh"
    #: The same account, a moment later.
    RETRY = "retry"


class Mishap(enum.Enum):
    """What becomes of accounts while the first answer, the tool call, is under way.

    The answer itself is not touched: what follows it meets the mishap.
    """

    #: The account that the conversation began on has used up its quota.
    SPENT = "spent"
    #: So has every other one.
    ALL_SPENT = "all spent"
    #: All tokens of the account that the conversation began on are withdrawn.
    REVOKED = "revoked"
    #: Its access tokens are over; it can be refreshed.
    EXPIRED = "expired"


@attrs.frozen(kw_only=True)
class Wishes:
    """What a program is to be given or told besides the prompt, each program in its own way."""

    #: Its thoughts are to be shown.
    thoughts: bool = False
    #: It may change files of its project.
    edits: bool = False
    #: A picture among the files of its project that goes with the prompt; None: none does.
    picture: str | None = None
    #: A text that it is given on its standard input; "": none.
    attached: str = ""
    #: Its model's context is told to be so small that it compacts its own history.
    small_context: bool = False


@attrs.frozen(kw_only=True)
class Scenario:
    """A column of the matrix."""

    name: str
    #: The variants that it is for; None: all.
    rows: frozenset[str] | None = None
    #: What the program's own configuration asks of the relay; None: what it has by itself.
    capabilities: Given | None = None
    #: The effort that the model's name asks for, as that configuration has it; None: none.
    effort: str | None = None
    #: What the relay does for single programs.
    adaptations: tuple[str, ...] = ()
    #: The wire of the local model behind the relay, beside Codex; None: there is no such model.
    local: Wire | None = None
    #: The models of one run of the program after the other, all in one conversation; none: one run
    #: with the row's own model.
    models: tuple[str, ...] = ()
    #: How often the program is run, in one conversation, where no models are named.
    times: int = 1
    #: What the program is asked to run.
    command: str = COMMAND
    #: What it is asked instead; "": to run the command.
    asked: str = ""
    #: What it prints in the end.
    answer: str = ANSWER
    #: What its tools print, one for each call of one answer; none: no tool is called.
    marks: tuple[str, ...] = (MARK,)
    #: What it finds in its project: name -> content.
    files: Mapping[str, str | bytes] = attrs.field(factory=dict)
    #: What becomes of some of these files.
    changed: Mapping[str, str] = attrs.field(factory=dict)
    wishes: Wishes = attrs.field(factory=Wishes)
    #: The model thinks, and what it thought comes back with the tool's output.
    thinks: bool = False
    #: A request for a title goes along with the first one.
    titled: bool = False
    #: The program compacts its own history.
    compacts_itself: bool = False
    #: The relay compacts histories, from the very first token on.
    compacts: bool = False
    #: What the prompt says to the simulated model (`harness.simulator.script`).
    directive: str = ""
    #: Faults of the simulator, consumed by the first requests that carry tools.
    faults: tuple[str, ...] = ()
    mishap: Mishap | None = None
    #: How long spent quota stays spent, in seconds; up to one second less.
    spent_s: float = 3600.0
    #: The access tokens of all accounts are over from the start; they can be refreshed.
    expired: bool = False
    #: How the relay chooses between the accounts.
    strategy: str = "round-robin"
    #: What the relay does so that no client sees the fault, or the mishap; None if it cannot.
    repair: Repair | None = None
    #: The client is told nothing of the fault, whatever the relay does about it.
    unseen: bool = False
    #: So that a WebSocket to the backend is no use: a turn goes over HTTP at least.
    over_http: bool = False
    #: The statuses with which the issuer answers to refreshes, in order.
    refreshes: tuple[int, ...] = ()
    ending: Ending = Ending.ANSWERED
    #: Variants of which another ending is expected.
    but: Mapping[str, Ending] = attrs.field(factory=dict)
    #: What a program that reports must have printed: in lower case, printed in any.
    report: str = ""
    #: Pause of the simulator between two deltas.
    pace_s: float = 0.0
    #: `server.keep_alive_s` of the relay; None means its default.
    keep_alive_s: float | None = None

    @property
    def prompt(self) -> str:
        """Return what the program is asked."""
        asked = self.asked or f"Run the shell command '{self.command}' and tell me what it printed."
        return f"{asked} {self.directive}".rstrip()

    @property
    def runs(self) -> int:
        """Return how often the program is run, in one conversation."""
        return len(self.models) or self.times

    def is_for(self, variant: str) -> bool:
        """Tell whether the variant has a cell in this column."""
        return self.rows is None or variant in self.rows

    def ending_of(self, variant: str) -> Ending:
        """Return how a run of the variant should end."""
        return self.but.get(variant, self.ending)


#: The SDK does not repeat a request whose stream has begun: it raises, and who uses it decides. Nor
#: does pi when a chat stream reports an error; it prints the message and exits with 1.
_TELL_THEIR_USERS: Final = {
    "pi-chat": Ending.REPORTED,
    "sdk-chat": Ending.REPORTED,
    "sdk-responses": Ending.REPORTED,
}
#: Codex ends at once when it is told of a usage limit, however soon that is over.
_DO_NOT_WAIT: Final = dict.fromkeys(
    ("codex", "codex-lite", "codex-login", "codex-ws", "codex-ws-http", "codex-ws-up"),
    Ending.REPORTED,
)
#: The programs that adaptations are for: they have a `bash`, and a profile of their own.
_CAN_BE_ADAPTED: Final = frozenset(
    {"opencode-chat", "opencode-responses", "pi-chat", "pi-responses"}
)
#: One row for each shape of request. (What makes `codex-lite` special comes with a model of Codex;
#: `codex-login` differs in nothing that reaches a model.)
#: The SDK is seen with real servers.
_FOR_A_LOCAL_MODEL: Final = frozenset(
    {
        *("codex", "codex-ws", "droid-chat", "droid-responses"),
        *("opencode-chat", "opencode-responses"),
        *("pi-chat", "pi-responses"),
    }
)
#: Of these what a model must be translated for that speaks Responses, and one that speaks it too.
_FOR_RESPONSES_ALONE: Final = frozenset({"codex", "droid-chat", "opencode-chat", "pi-chat"})
#: The programs that can be told to go on with their latest conversation.
_GO_ON: Final = frozenset(
    {"codex", "codex-ws", "opencode-chat", "opencode-responses", "pi-chat", "pi-responses"}
)
#: Cut off from its home, Droid does not ("Failed to fetch session"). The SDK keeps none.
_GO_ON_WITH_CODEX: Final = _GO_ON | {*("codex-lite", "codex-login", "codex-ws-http", "codex-ws-up")}
#: Those whose turns go to Codex over a WebSocket.
_OVER_WEBSOCKETS: Final = frozenset({"codex-ws", "codex-ws-up"})
#: The others ask for none.
_ASK_FOR_TITLES: Final = frozenset({"opencode-chat", "opencode-responses"})
#: All but Droid, which takes no picture with the prompt of a run for one answer.
_SHOW_PICTURES: Final = frozenset(
    {
        *_GO_ON_WITH_CODEX,
        *("sdk-chat", "sdk-responses", "sdk-chat-whole", "sdk-responses-whole"),
    }
)
#: Those that do it by themselves; Droid would have to go on for that.
_COMPACT_THEMSELVES: Final = _GO_ON_WITH_CODEX
#: So that a mishap surely comes before the end of the answer that it follows.
_UNHURRIED_S: Final = 0.02

SCENARIOS: Final[tuple[Scenario, ...]] = (
    # Words alone: tools are offered, and none is called.
    Scenario(
        name="text",
        asked="Say something.",
        directive=f"[sim deltas={_DELTAS}]",
        answer=_WORDS,
        marks=(),
    ),
    Scenario(name="tool"),
    Scenario(
        name="parallel",
        asked=(
            f"Run the shell command '{COMMAND}' and, at once, "
            f"Run the shell command 'echo {SECOND_MARK}'."
        ),
        directive="[sim parallel=2]",
        answer=f"{ANSWER}; {SECOND_MARK}",
        marks=(MARK, SECOND_MARK),
    ),
    Scenario(name="reasoning", directive="[sim think]", thinks=True, wishes=Wishes(thoughts=True)),
    # What the tool says of it is the program's own; whether the file was changed is looked up.
    Scenario(
        name="patch",
        asked="Please correct the greeting.",
        directive=f"[sim edit={_GREETING}:{_OLD_LINE}:{_NEW_LINE}]",
        answer="The command printed: ",
        files={_GREETING: _GREETING_TEXT.format(line=_OLD_LINE)},
        changed={_GREETING: _GREETING_TEXT.format(line=_NEW_LINE)},
        marks=("",),
        wishes=Wishes(edits=True),
    ),
    Scenario(
        name="image",
        rows=_SHOW_PICTURES,
        files={PICTURE_NAME: PICTURE},
        wishes=Wishes(picture=PICTURE_NAME),
    ),
    Scenario(name="long", wishes=Wishes(attached=LONG_TEXT)),
    # The title takes eight seconds, so that the task surely arrives in between.
    Scenario(
        name="title",
        rows=_ASK_FOR_TITLES,
        titled=True,
        directive=f"[sim title={TITLE_WORDS}]",
        pace_s=0.1,
    ),
    Scenario(name="resume", rows=_GO_ON_WITH_CODEX, times=2),
    Scenario(
        name="compaction",
        rows=_COMPACT_THEMSELVES,
        times=3,
        command=f"cat {NOTES}",
        files={NOTES: _NOTES},
        compacts_itself=True,
        wishes=Wishes(small_context=True),
    ),
    # Each program asks in the place that its block shows (`codex-login` has no block: there the
    # capabilities stand in the model's name), and for the effort by the model's name, which every
    # program takes with a `?` in it (`droid-chat` has an alias, which means a name with one). None
    # of them sends that effort by itself, and none has a tool `shell`, which merging adds.
    Scenario(
        name="overrides",
        capabilities={"codex_passthrough": False, "tool_schema_mode": "merge_custom"},
        effort="xhigh",
    ),
    # The model calls a tool that no program has: bare, OpenCode and pi tell it so.
    Scenario(
        name="adapted",
        rows=_CAN_BE_ADAPTED,
        adaptations=("opencode.shell_as_bash", "pi.shell_as_bash"),
        directive="[sim foreign_shell]",
    ),
    # Bare, everybody tries again by itself, Droid after 5 s.
    Scenario(name="500", faults=("500",), repair=Repair.RETRY),
    # Once by status and once inside the stream, before any output: the turn stays where it is, and
    # then goes elsewhere.
    Scenario(name="overload", faults=("503", "failed_early"), repair=Repair.RETRY),
    # From here on output has reached the client, and nothing can be repaired behind its back: it
    # is told, and the agents try the turn again by themselves.
    Scenario(name="failed", faults=("failed",), but=_TELL_THEIR_USERS),
    Scenario(name="drop", faults=("drop",), but=_TELL_THEIR_USERS),
    # Bare, pi and the SDK take a clean end for success and exit with 0 and no text at all.
    Scenario(name="eof", faults=("eof",), but=_TELL_THEIR_USERS),
    Scenario(name="keep-alive", pace_s=0.5, keep_alive_s=0.3),
    Scenario(name="interrupt", faults=("hang",), ending=Ending.INTERRUPTED),
    # What only a WebSocket to the backend does: nobody sees any of it. Bare, Codex connects again,
    # and after 426 it stays with HTTP.
    Scenario(name="reconnect", rows=_OVER_WEBSOCKETS, faults=("connection_limit",), unseen=True),
    Scenario(name="forgotten", rows=_OVER_WEBSOCKETS, faults=("previous_not_found",), unseen=True),
    Scenario(name="created-drop", rows=_OVER_WEBSOCKETS, faults=("drop_created",), unseen=True),
    Scenario(
        name="too-big",
        rows=_OVER_WEBSOCKETS,
        faults=("close1009_early",),
        unseen=True,
        over_http=True,
    ),
    Scenario(
        name="upgrade-426",
        rows=_OVER_WEBSOCKETS,
        faults=("upgrade426",),
        unseen=True,
        over_http=True,
    ),
    Scenario(
        name="upgrade-500",
        rows=_OVER_WEBSOCKETS,
        faults=("upgrade500",),
        unseen=True,
        over_http=True,
    ),
    # The conversation has an account of its own, and has to leave it in the middle. Bare, Codex
    # gives up on the 429, the others wait for as long as it says.
    Scenario(
        name="exhausted",
        mishap=Mishap.SPENT,
        strategy="session-affinity",
        repair=Repair.ROTATE,
        pace_s=_UNHURRIED_S,
    ),
    # Bare, a 401 ends every program but Codex.
    Scenario(
        name="revoked",
        mishap=Mishap.REVOKED,
        strategy="session-affinity",
        repair=Repair.ROTATE,
        refreshes=(401,),
        pace_s=_UNHURRIED_S,
    ),
    # All turns are one account's: the other one must not be refreshed for nothing.
    Scenario(
        name="refreshed",
        mishap=Mishap.EXPIRED,
        expired=True,
        strategy="first-available",
        repair=Repair.REFRESH,
        refreshes=(200, 200),
        pace_s=_UNHURRIED_S,
    ),
    # Nobody is left to turn to: the client is told when to come back.
    Scenario(
        name="spent",
        mishap=Mishap.ALL_SPENT,
        # Droid comes back after 5.5 s, whatever it is told, and only after 14 more seconds again.
        spent_s=5.0,
        strategy="session-affinity",
        but=_DO_NOT_WAIT,
        report="usage limit",
        pace_s=_UNHURRIED_S,
    ),
    # Each program works with a model that speaks only the one wire, or the other.
    Scenario(name="local-chat", rows=_FOR_A_LOCAL_MODEL, local="chat", models=(LOCAL_MODEL,)),
    Scenario(
        name="local-resp",
        rows=_FOR_RESPONSES_ALONE,
        local="responses",
        models=(LOCAL_MODEL,),
    ),
    # The same file is printed in each run: older results become stubs, until Codex is asked.
    Scenario(
        name="mixed",
        rows=_GO_ON,
        local="chat",
        models=(LOCAL_MODEL, LOCAL_MODEL, _CODEX_MODEL, LOCAL_MODEL),
        command=f"cat {NOTES}",
        files={NOTES: _NOTES},
        compacts=True,
    ),
)
