"""Turns over WebSockets to a Codex backend: the pool, its connections, and one turn's attempt.

- `pool.Sockets`: the WebSockets of one instance, at most one for each account and session.
- `connection.Connection`: one of them, with the task that owns it; a turn borrows it alone.
- `attempt.SocketAttempt`: one turn's attempt, which falls back to HTTP where it must.
- `message`: what a request is in a WebSocket message.

Who dials is a seam (`backends/websocket.py`); nothing here opens a socket.
"""
