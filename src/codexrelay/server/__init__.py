"""The HTTP side that clients see: routes, request decoding, error bodies, streams.

Quart owns routing and error handling; `asgi` and `tcp` mend what its server lacks for long streams.
A route decodes a request, builds a turn and hands it to `relay`; nothing here decides about
accounts, attempts or events.
"""
