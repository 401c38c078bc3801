"""Where a browser that is opened is also seen."""

from __future__ import annotations

import pytest

from codexrelay.cli.accounts.display import why_no_display


@pytest.mark.parametrize(
    ("platform", "environ", "told"),
    [
        ("linux", {"DISPLAY": ":0"}, None),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, None),
        ("linux", {"DISPLAY": "localhost:10.0", "SSH_TTY": "/dev/pts/1"}, None),
        ("linux", {}, "no display"),
        ("linux", {"DISPLAY": ""}, "no display"),
        ("linux", {"SSH_CONNECTION": "x"}, "SSH"),
        ("darwin", {}, None),
        ("darwin", {"SSH_CONNECTION": "x"}, "SSH"),
        ("win32", {}, None),
    ],
)
def test_a_browser_is_opened_only_where_its_window_is_seen(
    platform: str, environ: dict[str, str], told: str | None
) -> None:
    why = why_no_display(environ, platform=platform)
    assert (why is None) if told is None else (why is not None and told in why)
