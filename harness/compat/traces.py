"""What is shown of a cell that failed: the last words of everybody, and what the backend saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from harness.compat.agent_process import Launch
    from harness.relay_process import RelayProcess
    from harness.simulator import Seen

_LINES: Final = 12
_CHARACTERS: Final = 240


def traces_of(
    launch: Launch, *, logs: Iterable[str], seen: Iterable[Seen], relay: RelayProcess
) -> tuple[str, ...]:
    """Return the traces of a run, line by line, each with a label.

    `logs` are glob patterns below the home, of files that the program wrote besides its output.
    """
    files = [path for pattern in logs for path in sorted(launch.home.glob(pattern))]
    return (
        *(f"backend: {_in_a_line(request)}" for request in seen),
        *last_words("relay", "\n".join(relay.log)),
        *last_words("stdout", text_of(launch.stdout_path)),
        *last_words("stderr", text_of(launch.stderr_path)),
        *(line for path in files for line in last_words(path.name, text_of(path))),
    )


def last_words(label: str, text: str) -> Iterator[str]:
    """Yield the last lines of a text that are not empty, cut to a bearable length."""
    lines: Sequence[str] = [line for line in text.splitlines() if line.strip()]
    for line in lines[-_LINES:]:
        yield f"{label}: {line[:_CHARACTERS]}"


def text_of(path: Path) -> str:
    """Return a file's text, whatever its bytes."""
    return path.read_text("utf-8", errors="replace")


def _in_a_line(seen: Seen) -> str:
    """Return one request at the backend in one line, without its secrets."""
    parts = [f"{seen.arrived_at_s:.2f} {seen.method} {seen.path} {seen.status}"]
    parts += [f"account {seen.account}"] if seen.account else []
    parts += [f"socket {seen.socket}"] if seen.socket is not None else []
    parts += ["warm-up"] if seen.is_warm_up else []
    parts += ["goes on"] if seen.previous_response_id is not None else []
    parts += [f"fault {seen.fault}"] if seen.fault else []
    parts += [f"left at {seen.left_at_s:.2f}"] if seen.left_at_s is not None else []
    return ", ".join(parts)
