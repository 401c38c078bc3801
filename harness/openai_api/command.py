"""`python -m harness simulate-openai`."""

from __future__ import annotations

from pathlib import Path

import click
import trio

from harness.openai_api.api import KEY, MODEL, WIRES, Wire
from harness.openai_api.faults import FAULTS
from harness.openai_api.simulator import OpenAISimulator
from harness.simulator.command import serve_until_interrupted, writing_to


@click.command("simulate-openai")
@click.option(
    "--wire", type=click.Choice(WIRES), default="chat", show_default=True, help="What it speaks."
)
@click.option("--port", default=0, show_default=True, help="TCP port; 0 takes a free one.")
@click.option(
    "--key",
    default=KEY,
    show_default=True,
    help="The API key that every request must carry; empty: none may carry one.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    default=(MODEL,),
    show_default=True,
    help="A model that it has; may be repeated.",
)
@click.option(
    "--pace-ms",
    type=click.FloatRange(min=0),
    default=20.0,
    show_default=True,
    help="Milliseconds between two deltas; 0 sends each answer in one burst.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    type=click.Choice(sorted(FAULTS)),
    metavar="NAME",
    help="Spoil the next main request; given several times, one request each. "
    f"Names: {', '.join(sorted(FAULTS))}.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The wire log: append each request as a line of JSON, without secrets.",
)
def simulate_openai(
    wire: Wire,
    port: int,
    key: str,
    models: tuple[str, ...],
    pace_ms: float,
    faults: tuple[str, ...],
    record: Path | None,
) -> None:
    """Serve a strict OpenAI-compatible API on 127.0.0.1 until interrupted.

    Its base URL ends with /v1. While it runs: POST /_sim/faults ["eof", ...]; GET /_sim/seen.
    """
    simulator = OpenAISimulator(
        wire=wire,
        key=key or None,
        models=models,
        pace_s=pace_ms / 1000,
        port=port,
        on_ended=writing_to(record),
    )
    simulator.queue_faults(*faults)
    trio.run(serve_until_interrupted, simulator)
