"""`python -m harness demo`."""

from __future__ import annotations

import signal
import sys
from typing import Final

import click
import trio
from rich.console import Console

from harness.demo.printing import Page
from harness.demo.running import run
from harness.demo.scenes import SCENES

#: What a shell reports for a program that Ctrl-C has ended.
INTERRUPTED: Final = 130

ADDRESS: Final = "http://127.0.0.1:8787/v1"


@click.command()
@click.option(
    "--pace-ms",
    type=click.FloatRange(min=0),
    default=40.0,
    show_default=True,
    help="Milliseconds between two words of the backend; 0 sends each answer in one burst.",
)
def demo(pace_ms: float) -> None:
    """Watch the relay at work, against a simulated backend: no account, nothing leaves the machine.

    Exit status 0 means that every scene went as it should.
    """
    sys.exit(trio.run(_main, Page(Console(highlight=False)), pace_ms / 1000))


async def _main(page: Page, pace_s: float) -> int:
    """Return the exit status. Ctrl-C and SIGTERM stop what was started, and remove what it wrote."""
    status = INTERRUPTED
    page.title("codexrelay at work")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
        status = 0 if await run(SCENES, page, pace_s=pace_s) else 1
        if status == 0:
            show_next_steps(page)
        nursery.cancel_scope.cancel()
    return status


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        async for _ in received:
            scope.cancel()


def show_next_steps(page: Page) -> None:
    """Tell how to start the real thing."""
    page.title("Now with your own account")
    page.line("sign in", "codex login        (once; the relay finds what Codex CLI has stored)")
    page.line("start", "make serve         (or: .venv/bin/codexrelay serve)")
    page.line("agents", f"{ADDRESS}   is the base URL for all of them; any API key will do:")
    for program, line in (
        ("OpenAI SDK", f'OpenAI(base_url="{ADDRESS}", api_key="any")'),
        ("OpenCode", f'"options": {{"baseURL": "{ADDRESS}", "apiKey": "any"}}'),
        ("Codex CLI", f'openai_base_url = "{ADDRESS}"'),
    ):
        page.line("", f"  {program:<12} {line}")
