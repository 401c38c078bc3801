"""A Codex backend on loopback that answers by rules.

Nouns: a *script* is what the simulated model says to one request; a *step* is one thing done to the
client's connection (headers, a chunk, a pause, a reset); an *answer* is the steps in order; a
*fault* is a way in which an answer goes wrong; a *condition* is what an account is in until it is
lifted; *chance* chooses faults for soak tests.

Over a WebSocket the same rules answer: each event of a stream is one text message, and a refusal
is one error message.

Rules decide and touch no socket: `endpoints` finds who answers, `checks` refuses, `script` chooses
the words, `stream` writes it as events, `faults` and `conditions` spoil them. `backend` is the
state behind them, `messages` what one WebSocket adds to it. `connection` performs the steps, for a
WebSocket `websocket` does; both decide nothing. `simulator` listens, on loopback only.
"""

from harness.simulator.accounts import SimulatedAccount
from harness.simulator.chance import Dice
from harness.simulator.conditions import CONDITIONS
from harness.simulator.faults import FAULTS
from harness.simulator.seen import Seen, SeenSocket
from harness.simulator.simulator import Simulator

__all__ = ["CONDITIONS", "FAULTS", "Dice", "Seen", "SeenSocket", "SimulatedAccount", "Simulator"]
