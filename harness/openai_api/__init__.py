"""A strict OpenAI-compatible API on loopback: what `backends.<name>` of type `openai` talks to.

It speaks one *wire*, `chat` or `responses`, and refuses everything that a careful server would
refuse, and what belongs to Codex alone: so that a relay which lets such a thing through is caught.

`api` is its state, `endpoints` finds who answers, `chat_checks` and `responses_checks` refuse,
`as_input` shows the script of the Codex simulator a chat as it knows conversations, `chat_stream`
writes what it says as chunks, `faults` spoils the steps. Sockets, steps, scripts and records are
those of `harness.simulator`.
"""

from harness.openai_api.api import Wire
from harness.openai_api.faults import FAULTS
from harness.openai_api.simulator import OpenAISimulator

__all__ = ["FAULTS", "OpenAISimulator", "Wire"]
