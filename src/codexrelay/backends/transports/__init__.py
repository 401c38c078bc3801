"""How bytes reach a backend: implementations of `httpx.AsyncBaseTransport`, and WebSockets.

`direct` is the relay's own (a `connection` under `tls`, an `exchange` on it, `idle` ones kept), and
`stock` is httpx's. Attempts go a `way`: the first one's, or through whatever httpx can use. Both
transports go through a `proxy` where one is on the way, the first by a `tunnel` that it makes
itself, and trust whom `trust` says. `progress` is what both tell of a request under way.
`dialling` opens the first's connections, and those of `websocket`, where a `wire` is shared between
trio-websocket and whoever reads the messages out of the `server_frames`.
"""
