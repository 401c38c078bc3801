"""`codexrelay explain`: how a turn came to the account that served it, or why to none."""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click
import orjson

from codexrelay.accounts.files import BrokenFileError
from codexrelay.cli.accounts.words import visible
from codexrelay.config.loading import load
from codexrelay.errors import ConfigError
from codexrelay.protocol.raw import get_list, get_number, get_object, get_text, is_object
from codexrelay.server import journal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from codexrelay.protocol.raw import JsonObject

#: What `chosen_by` says, as the end of "chosen".
_BY: Final = {
    "strategy": "by the strategy",
    "binding": "because the session is bound to it",
    "claim": "because it made what the request holds, or began this user turn",
    "again": "to ask the same account once more",
    "aside": "for a question of the relay's own",
}


@click.command()
@click.argument("request_id")
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration file of the relay; CODEXRELAY_CONFIG may name it too.",
)
@click.option(
    "--state-path",
    metavar="DIR",
    help="Folder of the relay's state, instead of the configured one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def explain(
    request_id: str, config_path: Path | None, state_path: str | None, *, as_json: bool
) -> None:
    """Tell how a turn went through the accounts: which were asked, which were passed over, and why.

    REQUEST_ID is the answer's header x-codexrelay-request-id, which the log shows as request=; the
    response's id will do too, and `last` means the latest turn. The relay need not run.
    """
    folder = _state_folder(config_path, state_path)
    try:
        turn = journal.find(folder, request_id)
    except BrokenFileError as error:
        _fail(str(error))
    if turn is None:
        _fail(
            f"{folder} knows no turn {request_id}. It keeps some ten thousand turns; a relay with "
            "another configuration writes elsewhere (--config, --state-path)"
        )
    if as_json:
        click.echo(orjson.dumps(turn, option=orjson.OPT_INDENT_2))
        return
    for line in in_words(turn):
        click.echo(visible(line))


def _state_folder(config_path: Path | None, state_path: str | None) -> Path:
    try:
        loaded = load(
            config_path=config_path,
            environ=os.environ,
            flags={"sessions.state_path": state_path},
        )
    except ConfigError as error:
        _fail(*map(str, error.problems), status=2)
    return Path(loaded.settings.sessions.state_path)


def _fail(*messages: str, status: int = 1) -> NoReturn:
    for message in messages:
        click.echo(f"codexrelay: {message}", err=True)
    sys.exit(status)


def in_words(turn: JsonObject) -> Iterator[str]:
    """Yield a turn of the journal as lines of text."""
    at = datetime.datetime.fromtimestamp(get_number(turn, "at_unix_s") or 0.0).astimezone()
    client, total_ms = get_text(turn, "client"), get_number(turn, "total_ms")
    yield (
        f"{get_text(turn, 'request')}  {get_text(turn, 'model')}, {get_text(turn, 'protocol')}"
        f"{f', from {client}' if client else ''}, {at:%Y-%m-%d %H:%M:%S%z}"
    )
    took = "" if total_ms is None else f" after {total_ms / 1000:.2f} s"
    account = get_text(turn, "account")
    served = f", served by {account}" if account else ""
    yield f"{get_text(turn, 'state')}{took}{served}"
    yield from _saved(turn)
    if why := get_text(turn, "why"):
        yield f"    {why}"
    bound = None
    attempts = _objects(turn, "attempts")
    differ = len({get_text(attempt, "model") for attempt in attempts}) > 1
    for number, attempt in enumerate(attempts, 1):
        bound = get_text(attempt, "bound") or bound
        yield from _attempt(number, attempt, names_model=differ)
    if put_off := get_list(turn, "put_off"):
        yield f"asked later, as another backend was free: {', '.join(map(str, put_off))}"
    for refused in _objects(turn, "refused"):
        message = get_text(refused, "message")
        yield f"{get_text(refused, 'instance')} had no account" + (
            "" if message == get_text(turn, "why") else f": {message}"
        )
        yield from _passed_over(_objects(refused, "passed_over"))
    if waiting := _objects(turn, "waiting_for"):
        yield "it waits in line for an account:"
    yield from _passed_over(waiting)
    if bound is not None:
        yield f"the session is bound to {bound}"


def _saved(turn: JsonObject) -> Iterator[str]:
    """Say by how much the request became smaller, where it did."""
    for kind, what in (
        ("compaction", "stale tool results were left out"),
        ("compression", "tool outputs were shortened"),
    ):
        if saved_bytes := get_number(turn, f"{kind}_saved_bytes"):
            saved_tokens = get_number(turn, f"{kind}_saved_tokens") or 0
            yield f"    {what}: {saved_bytes:.0f} bytes, some {saved_tokens:.0f} tokens less"


def _attempt(number: int, attempt: JsonObject, *, names_model: bool) -> Iterator[str]:
    fault, took_s = get_object(attempt, "fault"), get_number(attempt, "took_s")
    model = f" ({get_text(attempt, 'model')})" if names_model else ""
    yield f"{number}. {get_text(attempt, 'account')}{model}: {_came_of(attempt, fault)}" + (
        "" if took_s is None else f" ({took_s:.2f} s)"
    )
    by = get_text(attempt, "chosen_by") or ""
    among = ", ".join(map(str, get_list(attempt, "candidates")))
    yield f"    chosen {_BY.get(by, by)}{f', among {among}' if ',' in among else ''}"
    if waited_s := get_number(attempt, "waited_s"):
        yield f"    waited {waited_s:.2f} s in line for it"
    if attempt.get("refreshed") is True:
        yield "    its token was refreshed first"
    if stripped := get_number(attempt, "reasoning_stripped"):
        yield f"    {stripped:.0f} reasoning items were left out: another account made them"
    yield from _passed_over(_objects(attempt, "passed_over"))


def _came_of(attempt: JsonObject, fault: JsonObject) -> str:
    served = attempt.get("served") is True
    if not fault:
        return "served" if served else "left by the client"
    code = get_text(fault, "code") or get_text(fault, "type") or get_text(fault, "kind")
    status = get_number(fault, "status") or 0
    told = f"{status:.0f} {code}: {get_text(fault, 'message')}"
    if served:
        return f"failed after its first output: {told}"
    return f"{told} (request {get_text(attempt, 'reached')})"


def _objects(value: JsonObject, key: str) -> list[JsonObject]:
    return [each for each in get_list(value, key) if is_object(each)]


def _passed_over(passed: list[JsonObject]) -> Iterator[str]:
    for each in passed:
        yield f"    passed over: {get_text(each, 'told')}"
