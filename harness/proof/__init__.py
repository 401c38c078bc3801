"""The proof: a whole relay, cut, delayed and cancelled at every place, in virtual time.

Client socket, relay, upstream socket, all of it the real thing, but the sockets are pairs in this
process and the clock jumps. What stands where:

| module | what it is |
| --- | --- |
| `virtual` | time that jumps only while nothing is in flight, and tasks in a fixed order |
| `wires` | sockets without a network, and what their ends see |
| `streams` | answers that are played: small ones, written there |
| `answers` | all of them by name: small, long, and from files |
| `frames` | frames of WebSockets, written and read here by means of their own |
| `plays` | what is done in answer: bytes, when, and how the connection goes on |
| `asked` | one request to the backend, and the playing of its answer |
| `talk` | one WebSocket at the backend |
| `upstream` | the backend, which plays what it is told and counts what was accepted |
| `client` | a client that notes each byte and when it came, over HTTP or a WebSocket |
| `bridges` | the four ways through the relay, and what is asked on them |
| `stage` | the whole relay between the two, and what it must be afterwards |
| `truth` | a reader of its own for HTTP/1.1, event streams and messages |
| `oracle` | what a client may be told, worked out from what was sent upstream |
| `loss` | the cases of the loss property |
| `mishaps` | several faults in one turn: refusals, retries, faults of cassettes, drawn by a seed |
| `stories` | many turns on one relay, with what happens between them |
| `sweep` | the cases of the cancellation sweep |
| `running` | cases on relays, one after the other, in several processes |
"""
