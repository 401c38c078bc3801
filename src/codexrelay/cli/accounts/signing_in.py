"""The sign-in behind `add` and `update`: which way it takes, and what the person sees of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import attrs
import click
import trio

from codexrelay.accounts.login.browser import browser_login
from codexrelay.accounts.login.device import device_login
from codexrelay.accounts.login.errors import timed_out
from codexrelay.accounts.login.ports import CALLBACK_PORT
from codexrelay.cli.accounts.display import why_no_display
from codexrelay.cli.accounts.pasting import PastedLines
from codexrelay.cli.accounts.running import run, way_out
from codexrelay.cli.accounts.screen import print_json_line, tell
from codexrelay.errors import in_words

if TYPE_CHECKING:
    import httpx

    from codexrelay.accounts.login.device import DevicePrompt
    from codexrelay.accounts.login.signed_in import SignedIn
    from codexrelay.cli.accounts.call import Call
    from codexrelay.cli.accounts.instance import Instance

#: With the browser of this machine; with any that shows a printed address; with a typed code.
Way = Literal["browser", "paste", "device"]

_TIMEOUTS_S: Final[dict[Way, float]] = {"browser": 180.0, "paste": 180.0, "device": 900.0}

_Command = TypeVar("_Command", bound=Callable[..., object])


def _check_seconds(
    _ctx: click.Context, _param: click.Parameter, value: float | None
) -> float | None:
    # No number is larger or smaller than "nan", hence no range keeps it out.
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value} is no number of seconds")
    return value


def takes_sign_in_options(command: _Command) -> _Command:
    """Give a command the options that say how to sign in, as the argument `how`."""
    for option in (
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=CALLBACK_PORT,
            show_default=True,
            help="Where the browser comes back to. OpenAI's sign-in knows the default only.",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            metavar="S",
            callback=_check_seconds,
            help="Seconds to sign in within.  [default: 180; with --device 900]",
        ),
        click.option(
            "--device",
            is_flag=True,
            help="Sign in with a code typed into a browser on any machine. "
            "The default where there is no display.",
        ),
        click.option(
            "--no-browser",
            is_flag=True,
            help="Print the address instead of opening it; "
            "the address that the browser ends at can be pasted here.",
        ),
    ):
        command = option(command)
    return command


@attrs.frozen(kw_only=True)
class HowToSignIn:
    """What the sign-in options say."""

    way: Way
    timeout_s: float
    port: int


def how_to_sign_in(
    call: Call, *, no_browser: bool, device: bool, timeout: float | None, port: int
) -> HowToSignIn:
    """Return which way to take; says so where the person did not choose it.

    Raises:
        click.UsageError: two ways were chosen.
    """
    if no_browser and device:
        raise click.UsageError("--no-browser and --device are two ways to sign in: choose one")
    way: Way = "device" if device else "paste" if no_browser else "browser"
    if way == "browser":
        why = why_no_display(call.world.environ, platform=call.world.platform)
        if why is not None:
            tell(f"Signing in with a code, as {why}. `--no-browser` prints an address instead.")
            way = "device"
    return HowToSignIn(
        way=way, timeout_s=_TIMEOUTS_S[way] if timeout is None else timeout, port=port
    )


def sign_in(
    call: Call, instance: Instance, how: HowToSignIn, *, login_hint: str | None = None
) -> SignedIn:
    """Let the owner sign in, and return what that brought; nothing is stored yet.

    Raises:
        FailureError: it failed or took too long.
        click.Abort: the person pressed Ctrl-C.
    """

    async def main() -> SignedIn:
        with trio.move_on_after(how.timeout_s):
            async with way_out(call, instance) as transport:
                if how.way == "device":
                    return await _with_a_code(call, instance, transport)
                return await _with_a_browser(call, instance, transport, how, login_hint)
        raise timed_out(how.timeout_s)

    return run(call, main)


async def _with_a_code(
    call: Call, instance: Instance, transport: httpx.AsyncBaseTransport
) -> SignedIn:
    def show(prompt: DevicePrompt) -> None:
        if call.as_json:
            print_json_line(
                {
                    "event": "enter_code",
                    "url": prompt.url,
                    "user_code": prompt.user_code,
                    "expires_in_s": prompt.expires_in_s,
                }
            )
            return
        click.echo(f"Open    {prompt.url}\nEnter   {prompt.user_code}")
        tell(
            f"The code is good for {in_words(prompt.expires_in_s)}. "
            "Never enter a code that somebody else has sent you."
        )

    return await device_login(
        issuer_url=instance.issuer_url,
        transport=transport,
        wall_clock=call.world.wall_clock,
        show=show,
        tell=tell,
    )


async def _with_a_browser(
    call: Call,
    instance: Instance,
    transport: httpx.AsyncBaseTransport,
    how: HowToSignIn,
    login_hint: str | None,
) -> SignedIn:
    opened_here = how.way == "browser"

    def show_url(url: str) -> None:
        if call.as_json:
            print_json_line({"event": "open_url", "url": url})
            return
        tell("Sign in at this address:" if not opened_here else "Opening the browser at")
        click.echo(url)
        if not opened_here:
            tell(
                "If the browser is on another machine, it ends at an address that it cannot open "
                "(127.0.0.1 or localhost): paste that address here."
            )

    return await browser_login(
        issuer_url=instance.issuer_url,
        transport=transport,
        wall_clock=call.world.wall_clock,
        random_bytes=call.world.random_bytes,
        show_url=show_url,
        tell=tell,
        open_browser=call.world.open_browser if opened_here else None,
        read_pasted=None if opened_here else PastedLines(call.world.read_input).next,
        port=how.port,
        login_hint=login_hint,
    )
