"""Signing in with a browser: its page comes back to a listener here, or its address is pasted."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import trio

from codexrelay.accounts.login.authorize import authorize_url, redirect_uri
from codexrelay.accounts.login.callback import serve_callback
from codexrelay.accounts.login.errors import LoginError
from codexrelay.accounts.login.exchange import Exchange
from codexrelay.accounts.login.pkce import new_pkce, new_state
from codexrelay.accounts.login.ports import CALLBACK_PORT, callback_port
from codexrelay.accounts.login.redirect import Code, NotOurs
from codexrelay.accounts.login.redirect import read_pasted as meaning_of
from codexrelay.accounts.login.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import httpx

    from codexrelay.accounts.login.signed_in import SignedIn

#: How long a browser may take to fetch its page when the sign-in has ended.
_PAGE_S: Final = 2.0


async def browser_login(
    *,
    issuer_url: str,
    transport: httpx.AsyncBaseTransport,
    wall_clock: Callable[[], float],
    random_bytes: Callable[[int], bytes],
    show_url: Callable[[str], None],
    tell: Callable[[str], None],
    open_browser: Callable[[str], bool] | None,
    read_pasted: Callable[[], Awaitable[str | None]] | None = None,
    port: int = CALLBACK_PORT,
    login_hint: str | None = None,
) -> SignedIn:
    """Let the owner sign in, and return what that brought. Waits without an end: the caller's.

    Cancelled at any point, it leaves no listener and no task; a browser that is being opened is
    opened all the same.

    Args:
        issuer_url: the sign-in service.
        transport: for the one call to it; the caller's to close.
        wall_clock: Unix seconds.
        random_bytes: secure ones, so many.
        show_url: given the address to open, once.
        tell: given lines for the person.
        open_browser: opens an address and returns whether it could; may block. None: nobody's.
        read_pasted: returns the next line that the person has pasted, None at the end of the
            input; called again after one that cannot be used. None: nothing can be pasted, so that
            a taken port is the end.
        port: where the browser comes back to. The real issuer knows the default only; 0 takes one
            that the system chooses.
        login_hint: the e-mail that the issuer's page begins with.

    Raises:
        LoginError: there are no tokens; says why and what to do.
    """
    async with contextlib.AsyncExitStack() as stack:
        try:
            listeners = await stack.enter_async_context(callback_port(port))
        except LoginError:
            if read_pasted is None:
                raise
            listeners = ()
            tell(
                f"Port {port} is not free, so the browser will end at a page that does not load: "
                "paste the address of that page here."
            )
        return_port = listeners[0].socket.getsockname()[1] if listeners else port or CALLBACK_PORT
        pkce, waiting = new_pkce(random_bytes), Waiting(new_state(random_bytes))
        url = authorize_url(
            issuer_url, port=return_port, pkce=pkce, state=waiting.state, login_hint=login_hint
        )
        show_url(url)
        # What goes wrong is a value in here: out of a nursery it would come as a group.
        async with trio.open_nursery() as nursery:
            if listeners:
                nursery.start_soon(serve_callback, listeners, waiting)
            if read_pasted is not None:
                nursery.start_soon(_take_pasted, waiting, read_pasted, tell, listeners)
            if open_browser is not None:
                nursery.start_soon(_open, url, open_browser, tell)
            ending: SignedIn | LoginError
            match await waiting.answer():
                case LoginError() as error:
                    ending = error
                case Code(code):
                    exchange = Exchange(
                        code=code,
                        verifier=pkce.verifier,
                        redirect_uri=redirect_uri(return_port),
                    )
                    ending = await exchange.perform(transport, issuer_url, now_unix_s=wall_clock())
            waiting.end(ending)
            with trio.move_on_after(_PAGE_S):
                await waiting.all_told()
            nursery.cancel_scope.cancel()
    if isinstance(ending, LoginError):
        raise ending
    return ending


async def _open(url: str, open_browser: Callable[[str], bool], tell: Callable[[str], None]) -> None:
    # A browser in the terminal blocks until it is left: the sign-in must not wait for that.
    if not await trio.to_thread.run_sync(open_browser, url, abandon_on_cancel=True):
        tell("No browser could be opened here: open the address above in one.")


async def _take_pasted(
    waiting: Waiting,
    read_pasted: Callable[[], Awaitable[str | None]],
    tell: Callable[[str], None],
    listeners: Sequence[trio.SocketListener],
) -> None:
    while (text := await read_pasted()) is not None:
        if not text.strip():
            continue
        answer = meaning_of(text, state=waiting.state)
        if not isinstance(answer, NotOurs):
            return waiting.offer(answer)
        tell(f"That cannot be used: {answer.why}. Paste the address that the browser ended at.")
    if not listeners:
        waiting.offer(LoginError("the input has ended, and nothing was pasted. Try `--device`"))
    return None
