"""What the browser shows when it comes back."""

from __future__ import annotations

import html
from typing import Final

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>codexrelay: {title}</title>
<style>body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 34rem; margin: 20vh auto; \
padding: 0 1rem; color-scheme: light dark }}</style>
</head>
<body>
<h1>{title}</h1>
<p>{text}</p>
</body>
</html>
"""
_REASONS: Final = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found"}


def page(status: int, *, title: str, text: str) -> bytes:
    """Return a whole HTTP answer that shows `text`, which may be anybody's."""
    shown = _PAGE.format(title=html.escape(title), text=html.escape(text))
    body = shown.encode(errors="replace")
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        "content-type: text/html; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\n"
        "connection: close\r\n"
        # The address of this page holds the code: it goes into no cache and to no other site.
        "cache-control: no-store\r\n"
        "referrer-policy: no-referrer\r\n"
        "x-content-type-options: nosniff\r\n"
        "content-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
        "\r\n"
    )
    return head.encode("ascii") + body
