"""What a run plays on: simulated backend, books, doors, files, and the programs that share them."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import httpx
import trio

from codexrelay.accounts.files import replace_json
from codexrelay.protocol.raw import get_object, get_text, parse_object
from harness.relay_process import relay_settings
from harness.simulator import Simulator
from harness.simulator.accounts import SimulatedAccount, some_accounts, write_account_file
from harness.stress.books import Books
from harness.stress.door import Door
from harness.stress.participants import Fourth, Relay, auth_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from codexrelay.protocol.raw import JsonObject
    from harness.stress.books import Call

Hook: TypeAlias = "Callable[[Call], Awaitable[None]]"

#: A managed relay meets both accounts in two requests of round-robin.
_REQUESTS: Final = 2
_UNIX: Final = os.name != "nt"


@attrs.frozen(kw_only=True)
class Delays:
    """How the sign-in service is slow: before it looks at a token, and before it answers."""

    before: Hook
    after: Hook


@attrs.define(eq=False, kw_only=True)
class Stage:
    """Everything that a run needs, while it is served."""

    simulator: Simulator
    books: Books
    #: Where the account files are.
    folder: Path
    relays: list[Relay]
    #: The program beside the relays; None: there is none.
    fourth: Fourth | None
    nursery: trio.Nursery
    #: Whether `folder` is Codex CLI's.
    legacy: bool

    @property
    def accounts(self) -> tuple[str, ...]:
        """The names of the accounts that are shared."""
        return tuple(account.name for account in self.simulator.accounts)

    @property
    def participants(self) -> tuple[Relay | Fourth, ...]:
        """All programs."""
        return (*self.relays, *((self.fourth,) if self.fourth is not None else ()))

    def expire(self) -> None:
        """Let the backend reject every access token there is."""
        self.simulator.seen.clear()  # a run is long
        for account in self.accounts:
            self.simulator.expire(account)

    def sign_in(self, name: str) -> None:
        """Do what the owner does when an account must sign in again."""
        account = self.simulator.account(name)
        now_unix_s = self.simulator.wall_clock()
        pair = self.simulator.issuer.sign_in(account, now_unix_s=now_unix_s)
        self.books.sign_in(name, pair.refresh_token)
        if self.legacy:
            tokens: JsonObject = {
                "access_token": pair.access_token,
                "refresh_token": pair.refresh_token,
            }
            auth = self.stored(name)
            replace_json(
                self.folder / "auth.json", auth | {"tokens": get_object(auth, "tokens") | tokens}
            )
            return
        write_account_file(
            self.folder,
            account,
            access_token=pair.access_token,
            refresh_token=pair.refresh_token,
            expires_unix_s=pair.expires_unix_s,
            now_unix_s=now_unix_s,
        )

    def stored(self, name: str) -> JsonObject:
        """Return what is stored of an account.

        Raises:
            ValueError: the file is not whole.
        """
        file = "auth.json" if self.legacy else f"{name}.json"
        return parse_object((self.folder / file).read_bytes())

    def has_newest(self, name: str) -> bool:
        """Tell whether the newest pair of an account is on disk."""
        stored = self.stored(name)
        tokens = get_object(stored, "tokens") if self.legacy else stored
        return get_text(tokens, "refresh_token") == self.books.newest[name]

    def must_sign_in(self, name: str) -> bool:
        """Tell whether an account is marked so in its file; Codex CLI's never is."""
        return self.stored(name).get("needs_reauth") is True

    def left_over(self) -> int:
        """Count files of writes that were cut short."""
        return sum(path.name.endswith(".tmp") for path in self.folder.iterdir())

    def file_problems(self) -> list[str]:
        """Say what is wrong with the files themselves."""
        problems = []
        for path in sorted(self.folder.iterdir()):
            if path.suffix == ".lock":
                continue  # empty, and some are another program's
            if _UNIX and stat.S_IMODE(path.stat().st_mode) & 0o077:
                problems.append(f"{path.name} can be read by others")
            if path.suffix == ".json":
                try:
                    parse_object(path.read_bytes())
                except ValueError:
                    problems.append(f"{path.name} is not whole")
        return problems


@contextlib.asynccontextmanager
async def managed_stage(
    folder: Path, *, relays: int, delays: Delays, with_fourth: bool, accounts: int = 2
) -> AsyncIterator[Stage]:
    """Relays over one folder of managed accounts, and a program that uses the relay's library.

    Raises (inside a group):
        RelayStartError: a relay did not start.
    """
    simulator = Simulator(accounts=some_accounts(accounts))
    async with _stage(folder, simulator, legacy=False) as (stage, doors):
        simulator.write_store(stage.folder)
        for number in range(1, relays + 1):
            name = f"relay-{number}"
            settings = relay_settings(
                api_base_url=simulator.api_base_url,
                issuer_url=await doors(name, delays),
                store=stage.folder,
            )
            stage.relays.append(_relay(name, folder, settings, requests=_REQUESTS))
        if with_fourth:
            issuer_url = await doors("library", delays)
            stage.fourth = Fourth(
                name="library",
                script="account_user.py",
                folder=folder / "library",
                arguments=(str(stage.folder), simulator.api_base_url, issuer_url),
            )
        await _start(stage)
        yield stage


@contextlib.asynccontextmanager
async def legacy_stage(folder: Path, *, relays: int, delays: Delays) -> AsyncIterator[Stage]:
    """Relays without accounts of their own, and a program like Codex CLI, whose account they use.

    Raises (inside a group):
        RelayStartError: a relay did not start.
    """
    (account,) = some_accounts(1)
    simulator = Simulator(accounts=[account])
    async with _stage(folder, simulator, legacy=True) as (stage, doors):
        _write_auth_json(stage, account)
        for number in range(1, relays + 1):
            name = f"relay-{number}"
            settings = relay_settings(
                api_base_url=simulator.api_base_url,
                issuer_url=await doors(name, delays),
                store=folder / "no-accounts",
            )
            block = settings["backends"]["openai_codex"]  # type: ignore[index]  # built above
            block["auth_path"] = str(stage.folder)
            block["extra"]["codex"]["managed_oauth"]["allow_legacy_fallback"] = True
            stage.relays.append(_relay(name, folder, settings, requests=1))
        issuer_url = await doors("codex-like", delays)
        stage.fourth = Fourth(
            name="codex-like",
            script="codex_like.py",
            folder=folder / "codex-like",
            arguments=(str(stage.folder), simulator.api_base_url, issuer_url),
        )
        await _start(stage)
        yield stage


@contextlib.asynccontextmanager
async def _stage(
    folder: Path, simulator: Simulator, *, legacy: bool
) -> AsyncIterator[tuple[Stage, Callable[[str, Delays], Awaitable[str]]]]:
    """Serve the simulator; the second value opens a door for a program and returns its URL."""
    async with (
        trio.open_nursery() as nursery,
        httpx.AsyncClient(trust_env=False, timeout=None) as http,
    ):
        await nursery.start(simulator.serve)
        books = Books()
        for account in simulator.accounts:
            books.sign_in(account.name, simulator.tokens(account.name).refresh_token)

        async def open_door(by: str, delays: Delays) -> str:
            door = Door(
                by=by,
                books=books,
                issuer_url=simulator.issuer_url,
                http=http,
                before=delays.before,
                after=delays.after,
            )
            url: str = await nursery.start(door.serve)
            return url

        stage = Stage(
            simulator=simulator,
            books=books,
            folder=folder / ("codex" if legacy else "accounts"),
            relays=[],
            fourth=None,
            nursery=nursery,
            legacy=legacy,
        )
        stage.folder.mkdir(mode=0o700)
        yield stage, open_door
        nursery.cancel_scope.cancel()


async def _start(stage: Stage) -> None:
    """Start all programs at once."""
    async with trio.open_nursery() as starting:
        for participant in stage.participants:
            starting.start_soon(partial(stage.nursery.start, participant.run))


def _relay(name: str, folder: Path, settings: Mapping[str, object], *, requests: int) -> Relay:
    return Relay(name=name, folder=folder / name, settings=settings, requests=requests)


def _write_auth_json(stage: Stage, account: SimulatedAccount) -> None:
    pair = stage.simulator.tokens(account.name)
    data: JsonObject = auth_json(
        access_token=pair.access_token,
        refresh_token=pair.refresh_token,
        account_id=account.account_id,
    )
    path = stage.folder / "auth.json"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
        json.dump(data, file, indent=2)
