"""What `--json` says of an account. No token is in it, nor anything made of one.

Programs rely on these names. Instants stand twice: as ISO 8601 text, and in Unix seconds under the
same name with `_unix_s`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from codexrelay.cli.accounts.words import iso

if TYPE_CHECKING:
    from codexrelay.accounts.account import Account
    from codexrelay.cli.accounts.instance import Instance
    from codexrelay.errors import Problem
    from codexrelay.protocol.limits import Limits, Window
    from codexrelay.protocol.raw import Json, JsonObject


def instant(name: str, at_unix_s: float | None) -> JsonObject:
    """Return both forms of an instant; None in both for None."""
    return {
        name: None if at_unix_s is None else iso(at_unix_s),
        f"{name}_unix_s": at_unix_s,
    }


def account_facts(account: Account, instance: Instance, *, now_unix_s: float) -> JsonObject:
    """Return what there is to say of an account now."""
    file, about = account.file, account.attention
    path = instance.file_of(account)
    unused = instance.why_unused(account)
    attention: JsonObject | None = None
    if about is not None:
        attention = {"code": about.code, "message": about.message}
        attention |= instant("since", about.since_unix_s)
    return {
        "id": account.id,
        "instance": instance.name,
        "state": account.status(now_unix_s=now_unix_s).value,
        "reason": account.needs_reauth,
        "attention": attention,
        "used_by_relay": unused is None,
        "unused_reason": unused,
        "origin": account.origin,
        "file": None if path is None else str(path),
        "email": account.email,
        "plan": account.plan_type,
        "user_id": account.user_id,
        "workspace_id": account.workspace_id,
        "fedramp": account.fedramp,
        "refreshable": account.credentials.refresh_token is not None,
        **instant("expires_at", account.credentials.expires_at_unix_s),
        **instant("rate_limited_until", account.rate_limited_until_unix_s),
        **instant("last_used", account.last_used_unix_s),
        "created_at": None if file is None else file.created_at,
        "updated_at": None if file is None else file.updated_at,
        "scope": None if file is None else file.scope,
        "limits": None if account.limits is None else limits_facts(account.limits),
    }


def broken_facts(account_id: str, problem: Problem, instance: Instance) -> JsonObject:
    """Return what there is to say of a file that cannot be used."""
    return {
        "id": account_id,
        "instance": instance.name,
        "state": "invalid",
        "reason": str(problem),
        "file": str(instance.store.folder / f"{account_id}.json"),
    }


def limits_facts(limits: Limits) -> JsonObject:
    """Return a quota; `windows` has those that there are, the short one first."""
    families: list[Json] = [
        {
            "id": family.id,
            "name": family.name,
            "windows": _windows(family.primary, family.secondary),
        }
        for family in limits.families
    ]
    paid = limits.credits
    return {
        **instant("observed_at", limits.observed_unix_s),
        "plan": limits.plan_type,
        "exhausted": limits.exhausted,
        "reached": limits.reached,
        "reached_type": limits.reached_type,
        "windows": _windows(limits.primary, limits.secondary),
        "credits": None
        if paid is None
        else {
            "has_credits": paid.has_credits,
            "unlimited": paid.unlimited,
            "balance": paid.balance,
        },
        "families": families,
    }


def _windows(primary: Window | None, secondary: Window | None) -> list[Json]:
    told = (("primary", primary), ("secondary", secondary))
    return [
        {
            "name": name,
            "used_percent": window.used_percent,
            "length_s": window.length_s,
            **instant("resets_at", window.resets_at_unix_s),
        }
        for name, window in told
        if window is not None
    ]
