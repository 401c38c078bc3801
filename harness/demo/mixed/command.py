"""`python -m harness mixed`."""

from __future__ import annotations

import sys

import click
import trio
from rich.console import Console

from harness.demo.mixed.running import run
from harness.demo.printing import Page


@click.command()
def mixed() -> None:
    """Move a conversation from a local model to Codex and back, and look at both wires.

    Both backends are simulated. Exit status 0 means that history was compacted until the first
    request to Codex and never again, with one warning.
    """
    page = Page(Console())
    page.title("A conversation between a local model and Codex")
    facts = trio.run(run, page)
    wrong = [fact for fact in facts if not fact.holds]
    page.title(f"{len(facts) - len(wrong)} of {len(facts)} observations are as they should be")
    for fact in wrong:
        page.line("FAILED", fact.text, style="bold red")
    sys.exit(1 if wrong else 0)
