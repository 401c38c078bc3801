"""`python -m harness demo`."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Final

import click
import trio
from rich.console import Console

from harness.demo.printing import Page
from harness.demo.running import run
from harness.demo.scenes import SCENES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.demo.scenes import Scene

#: What a shell reports of a program that Ctrl-C has ended.
INTERRUPTED: Final = 130
#: Where `codexrelay serve` listens unless it is told otherwise.
BASE_URL: Final = "http://127.0.0.1:8787/v1"

#: Lines to copy; short enough for a terminal of 80 columns.
NEXT_STEPS: Final = (
    ("sign in", ".venv/bin/codexrelay accounts add   # once for each account"),
    ("", "or not at all: the relay then uses what Codex CLI has stored"),
    ("start", "make serve        # or: .venv/bin/codexrelay serve"),
    ("agents", f"{BASE_URL} is their base URL; any API key will do"),
    ("Codex", f'openai_base_url = "{BASE_URL}"   # in config.toml'),
    ("OpenCode", f'"baseURL": "{BASE_URL}", "apiKey": "any"'),
    ("SDK", f'OpenAI(base_url="{BASE_URL}", api_key="any")'),
    ("why", ".venv/bin/codexrelay explain last   # how the latest turn was served"),
)


@click.command()
@click.option(
    "--pace-ms",
    type=click.FloatRange(min=0),
    default=40.0,
    show_default=True,
    help="Milliseconds between two words of the backend; 0 sends each answer in one burst.",
)
def demo(pace_ms: float) -> None:
    """Watch the relay at work with a simulated backend: needs no account and no network.

    Exit status 0 means that every scene went as it should.
    """
    status = 1
    try:
        status = trio.run(play, SCENES, Page(Console()), pace_ms / 1000)
    except* SystemExit:  # what rich makes of a reader that has left, as in `| head`
        pass
    sys.exit(status)


async def play(scenes: Sequence[Scene], page: Page, pace_s: float) -> int:
    """Play `scenes` and return the exit status.

    Ctrl-C and SIGTERM end it, and leave nothing running and no file behind.
    """
    status = INTERRUPTED
    page.title("codexrelay at work")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
        status = 0 if await run(scenes, page, pace_s=pace_s) else 1
        nursery.cancel_scope.cancel()
    if status == 0:
        page.title("Now with your own account")
        for label, text in NEXT_STEPS:
            page.line(label, text)
    return status


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        async for _ in received:
            scope.cancel()
