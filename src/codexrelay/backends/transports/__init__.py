"""How bytes reach a backend: implementations of `httpx.AsyncBaseTransport`."""
