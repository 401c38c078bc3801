"""The wire formats, without I/O: SSE, Responses, Chat, both translations, limits, model ids.

Everything here is a function of its arguments: no clock, no socket, no log. Bytes go in, bytes and
values come out.
"""
