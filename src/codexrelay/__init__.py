"""codexrelay: a local relay between coding agents and the OpenAI Codex backend.

The rooms, top first; each may use those below it and never those above:

- `cli`: the commands.
- `server`: the HTTP side that clients see.
- `config`: the only reader of YAML, environment and flags.
- `sessions`: conversations of clients and the actor that owns each one's state.
- `relay`: one turn, from plan to terminal event.
- `backends`: what is spoken to upstream, and the transports that carry it.
- `accounts`: the owner's accounts: stored, refreshed, lent to turns.
- `profiles`: what is known of each client program.
- `compaction`: shortening of histories and tool outputs.
- `protocol`: the wire formats, without I/O.
- `errors`: what can go wrong, as a tree.

`ARCHITECTURE.md` follows one request through them.
"""

from typing import Final

__version__: Final = "0.1.0"
