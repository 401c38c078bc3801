from __future__ import annotations

import json
import stat
import sys
from typing import TYPE_CHECKING

import attrs
import orjson
import pytest

from codexrelay.accounts.account import Credentials
from codexrelay.accounts.enrol import (
    BrokenAccountError,
    EnrolError,
    NotImportableError,
    OlderTokensError,
    OtherIdentityError,
    UnknownAccountError,
    UnusableIdError,
    UnusableStoreError,
    check_store,
    enrol,
    imported,
    renew,
    usable_id,
)
from codexrelay.accounts.login.signed_in import SignedIn, read_signed_in
from codexrelay.accounts.store import AccountStore
from codexrelay.protocol.raw import get_text
from tests.fakes.login import tokens
from tests.fakes.tokens import write_account
from tests.fakes.wall_clock import NOW_UNIX_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from codexrelay.accounts.account import Account
    from codexrelay.protocol.raw import Json, JsonObject

WORKSPACE = "11111111-2222-4333-8444-555555555555"


def a_sign_in(
    *,
    email: str | None = "jane.doe@example.com",
    workspace_id: str | None = "workspace-1",
    user_id: str | None = "user-1",
    plan: str | None = "plus",
    serial: int = 1,
) -> SignedIn:
    """Return what a sign-in has brought; `serial` is in its tokens."""
    given = tokens(
        email=email, workspace_id=workspace_id, user_id=user_id, plan=plan, serial=serial
    )
    access, refresh = get_text(given, "access_token"), get_text(given, "refresh_token")
    assert access is not None
    credentials = Credentials(
        access_token=access, refresh_token=refresh, id_token=get_text(given, "id_token")
    )
    return read_signed_in(credentials, scope="openid")


@attrs.frozen
class Desk:
    """A store, and sign-ins that come to it."""

    store: AccountStore

    def enrol(self, signed_in: SignedIn, account_id: str | None = None) -> tuple[str, bool]:
        """Return the account's id, and whether it is new."""
        enrolled = enrol(self.store, signed_in, account_id=account_id, now_unix_s=NOW_UNIX_S)
        return enrolled.account.id, enrolled.created

    def renew(self, account_id: str, signed_in: SignedIn, *, force: bool = False) -> Account:
        return renew(self.store, account_id, signed_in, force=force, now_unix_s=NOW_UNIX_S)

    def refresh_tokens(self) -> dict[str, str | None]:
        """Return the stored refresh token of each account."""
        return {a.id: a.credentials.refresh_token for a in self.store.load().accounts}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(AccountStore(tmp_path / "accounts"))


def test_a_first_sign_in_is_stored_under_the_name_in_the_email(desk: Desk) -> None:
    assert desk.enrol(a_sign_in()) == ("jane-doe", True)
    [account] = desk.store.load().accounts
    assert (account.workspace_id, account.user_id) == ("workspace-1", "user-1")
    assert (account.email, account.plan_type) == ("jane.doe@example.com", "plus")
    assert account.credentials.expires_at_unix_s == NOW_UNIX_S + 3600
    assert account.credentials.id_token is not None


@pytest.mark.skipif(sys.platform == "win32", reason="modes are Unix")
def test_what_is_stored_is_the_owner_s_alone(desk: Desk) -> None:
    desk.enrol(a_sign_in())
    folder = desk.store.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "jane-doe.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("email", "name"),
    [
        ("jane.doe+work@example.com", "jane-doe-work"),
        ("JANE_Doe@example.com", "jane_doe"),
        ("jürgen@example.com", "jurgen"),
        ("__x..@example.com", "x"),
        ("a" * 100 + "@example.com", "a" * 64),
        ("木村@example.com", "codex"),
        ("@example.com", "codex"),
        ("", "codex"),
        (None, "codex"),
        ("../../etc/passwd@example.com", "etc-passwd"),
    ],
)
def test_an_email_becomes_a_usable_name(desk: Desk, email: str | None, name: str) -> None:
    assert desk.enrol(a_sign_in(email=email)) == (name, True)
    assert usable_id(name)


def test_a_name_may_be_asked_for(desk: Desk) -> None:
    assert desk.enrol(a_sign_in(), "work") == ("work", True)


@pytest.mark.parametrize("name", ["", "-a", "_a", "a.b", "a b", "../a", "a" * 65, "ä", "a\n"])
def test_a_name_that_no_account_can_have_is_refused(desk: Desk, name: str) -> None:
    assert not usable_id(name)
    with pytest.raises(UnusableIdError):
        desk.enrol(a_sign_in(), name)
    assert not desk.store.load().found


@pytest.mark.parametrize("asked_for", [None, "jane-doe", "other-name"])
def test_signing_in_again_renews_the_account_in_place(desk: Desk, asked_for: str | None) -> None:
    desk.enrol(a_sign_in(serial=1))
    assert desk.enrol(a_sign_in(serial=2), asked_for) == ("jane-doe", False)
    assert desk.refresh_tokens() == {"jane-doe": "rt_2"}


def test_signing_in_again_ends_the_need_to(desk: Desk) -> None:
    desk.enrol(a_sign_in(serial=1))
    desk.store.mark_needs_reauth("jane-doe", "refresh_token_reused", refresh_token="rt_1")
    desk.enrol(a_sign_in(serial=2))
    [account] = desk.store.load().accounts
    assert account.needs_reauth is None


def test_two_workspaces_of_one_user_never_overwrite_each_other(desk: Desk) -> None:
    ids = [
        desk.enrol(a_sign_in(workspace_id="w-1", serial=1))[0],
        desk.enrol(a_sign_in(workspace_id="w-2", plan="team", serial=2))[0],
        desk.enrol(a_sign_in(workspace_id=WORKSPACE, plan="team", serial=3))[0],
        desk.enrol(a_sign_in(workspace_id="11111111-other", plan="team", serial=4))[0],
        desk.enrol(a_sign_in(workspace_id="11111111-third", plan="team", serial=5))[0],
    ]
    assert ids == ["jane-doe", "jane-doe-team", "jane-doe-11111111", "jane-doe-2", "jane-doe-3"]
    assert list(desk.refresh_tokens().values()) != []
    assert {desk.refresh_tokens()[name] for name in ids} == {f"rt_{n}" for n in range(1, 6)}


def test_two_users_of_one_workspace_never_overwrite_each_other(desk: Desk) -> None:
    assert desk.enrol(a_sign_in(user_id="u-1", serial=1), "work") == ("work", True)
    assert desk.enrol(a_sign_in(user_id="u-2", serial=2), "work") == ("work-plus", True)
    assert desk.refresh_tokens() == {"work": "rt_1", "work-plus": "rt_2"}


def test_a_long_name_leaves_room_for_its_ending(desk: Desk) -> None:
    name = "n" * 64
    desk.enrol(a_sign_in(user_id="u-1"), name)
    second, _ = desk.enrol(a_sign_in(user_id="u-2", serial=2), name)
    assert second == "n" * 59 + "-plus"
    assert usable_id(second)


def test_a_name_that_differs_in_case_only_is_taken(desk: Desk) -> None:
    desk.enrol(a_sign_in(user_id="u-1"), "Jane-Doe")
    assert desk.enrol(a_sign_in(user_id="u-2", serial=2)) == ("jane-doe-plus", True)
    assert desk.enrol(a_sign_in(user_id="u-3", serial=3), "JANE-DOE") == ("JANE-DOE-workspac", True)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"access_token": 7}'])
def test_a_broken_file_is_never_overwritten(desk: Desk, content: bytes) -> None:
    desk.store.folder.mkdir()
    path = desk.store.folder / "jane-doe.json"
    path.write_bytes(content)
    assert desk.enrol(a_sign_in()) == ("jane-doe-plus", True)
    with pytest.raises(BrokenAccountError):
        desk.renew("jane-doe", a_sign_in(), force=True)
    assert path.read_bytes() == content


def test_a_name_that_another_program_takes_meanwhile_is_left_to_it(desk: Desk) -> None:
    class Late(AccountStore):
        """Shows no account until one was refused."""

        def load(self):  # noqa: ANN202
            loaded = super().load()
            return loaded if refused else attrs.evolve(loaded, accounts=())

        def create(self, account_id, credentials, **facts):  # noqa: ANN001, ANN003, ANN202
            try:
                return super().create(account_id, credentials, **facts)
            except FileExistsError:
                refused.append(account_id)
                raise

    refused: list[str] = []
    desk.enrol(a_sign_in(user_id="u-1", serial=1))
    late = Desk(Late(desk.store.folder))
    assert late.enrol(a_sign_in(user_id="u-2", serial=2)) == ("jane-doe-plus", True)
    refused.clear()
    # This time it is the same identity that the other program has stored.
    assert late.enrol(a_sign_in(user_id="u-1", serial=3)) == ("jane-doe", False)
    assert desk.refresh_tokens() == {"jane-doe": "rt_3", "jane-doe-plus": "rt_2"}


@pytest.mark.parametrize(
    ("stored", "same"),
    [
        pytest.param({"email": "Jane.Doe@Example.com"}, True, id="same e-mail"),
        pytest.param({"email": "john@example.com"}, False, id="another e-mail"),
        pytest.param({"email": None}, False, id="no e-mail"),
        pytest.param(
            {"email": "jane.doe@example.com", "chatgpt_account_id": "w-9"}, False, id="workspace"
        ),
        pytest.param(
            {"email": "jane.doe@example.com", "chatgpt_account_id": None}, False, id="no workspace"
        ),
    ],
)
def test_an_account_whose_tokens_do_not_say_is_known_by_workspace_and_email(
    desk: Desk, stored: dict[str, Json], same: bool
) -> None:
    credentials = Credentials(access_token="opaque", refresh_token="rt_0")
    facts: dict[str, Json] = {"chatgpt_account_id": "workspace-1"} | stored
    write_account(desk.store.folder, "old", credentials, **facts)
    assert desk.enrol(a_sign_in()) == (("old", False) if same else ("jane-doe", True))


def test_an_account_is_renewed(desk: Desk) -> None:
    desk.enrol(a_sign_in(serial=1), "work")
    assert desk.renew("work", a_sign_in(serial=2)).credentials.refresh_token == "rt_2"
    assert desk.refresh_tokens() == {"work": "rt_2"}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"workspace_id": "w-2"}, id="another workspace"),
        pytest.param({"user_id": "u-2", "email": "jane.doe@example.com"}, id="another user"),
        pytest.param({"user_id": None, "email": "john@example.com"}, id="another e-mail"),
    ],
)
def test_another_identity_renews_an_account_only_when_forced(
    desk: Desk, other: dict[str, str | None]
) -> None:
    desk.enrol(a_sign_in(serial=1), "work")
    stranger = a_sign_in(serial=2, **other)
    with pytest.raises(OtherIdentityError) as caught:
        desk.renew("work", stranger)
    assert desk.refresh_tokens() == {"work": "rt_1"}
    told = str(caught.value)
    assert "--force" in told
    assert "jane.doe@example.com" in told
    assert (stranger.email or "?") in told
    assert desk.renew("work", stranger, force=True).email == stranger.email
    assert desk.refresh_tokens() == {"work": "rt_2"}


def test_an_account_that_does_not_say_whose_it_is_may_be_renewed(desk: Desk) -> None:
    write_account(desk.store.folder, "old", Credentials(access_token="a", refresh_token="r"))
    assert desk.renew("old", a_sign_in()).email == "jane.doe@example.com"


@pytest.mark.parametrize("name", ["nobody", "../nobody", ""])
def test_an_account_that_is_not_there_cannot_be_renewed(desk: Desk, name: str) -> None:
    with pytest.raises(UnknownAccountError):
        desk.renew(name, a_sign_in(), force=True)
    assert not desk.store.folder.exists()


GIVEN = tokens()
ACCESS, REFRESH, IDENTITY = (GIVEN[f"{kind}_token"] for kind in ("access", "refresh", "id"))
FILES: dict[str, JsonObject] = {
    "Codex CLI": {
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": None,
        "tokens": {
            "id_token": IDENTITY,
            "access_token": ACCESS,
            "refresh_token": REFRESH,
            "account_id": "from-file",
        },
        "last_refresh": "2026-11-22T11:32:18.666896772Z",
    },
    "Codex CLI with an API key beside": {
        "OPENAI_API_KEY": "sk-1",
        "tokens": {"access_token": ACCESS, "refresh_token": REFRESH, "id_token": IDENTITY},
        "user": {"account_id": "from-file"},
    },
    "CLIProxyAPI": {
        "type": "codex",
        "id_token": IDENTITY,
        "access_token": ACCESS,
        "refresh_token": REFRESH,
        "account_id": "from-file",
        "email": "jane.doe@example.com",
        "expired": "2026-12-01T00:00:00Z",
    },
    "codex-lb": {
        "tokens": {
            "idToken": IDENTITY,
            "accessToken": ACCESS,
            "refreshToken": REFRESH,
            "accountId": "from-file",
        },
        "lastRefreshAt": "2026-11-22T11:32:18Z",
    },
}


@pytest.mark.parametrize("name", FILES)
def test_the_files_of_other_programs_are_read(name: str) -> None:
    signed_in = imported(orjson.dumps(FILES[name]))
    assert signed_in.credentials == Credentials(
        access_token=str(ACCESS),
        refresh_token=str(REFRESH),
        id_token=str(IDENTITY),
        expires_at_unix_s=NOW_UNIX_S + 3600,
    )
    assert (signed_in.workspace_id, signed_in.user_id) == ("from-file", "user-1")
    assert (signed_in.email, signed_in.plan_type) == ("jane.doe@example.com", "plus")


def test_a_file_that_does_not_name_the_workspace_leaves_it_to_the_tokens() -> None:
    raw = {"tokens": {"access_token": ACCESS, "refresh_token": REFRESH, "account_id": None}}
    assert imported(orjson.dumps(raw)).workspace_id == "workspace-1"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"", "not a JSON object", id="empty"),
        pytest.param(b'{"tokens": {"access_token": "secret', "not a JSON object", id="cut"),
        pytest.param(b'["secret"]', "not a JSON object", id="list"),
        pytest.param(b'{"OPENAI_API_KEY": "secret"}', "API key only", id="API key"),
        pytest.param(b'{"type": "claude", "access_token": "secret"}', "another service", id="type"),
        pytest.param(b'{"auth_mode": "agentIdentity"}', "an agent identity", id="mode"),
        pytest.param(
            b'{"access_token": "at-secret", "refresh_token": "secret"}',
            "personal access token",
            id="personal access token",
        ),
        pytest.param(b'{"access_token": "secret"}', "no refresh token", id="no refresh token"),
        pytest.param(
            b'{"tokens": {"access_token": "sec\\nret", "refresh_token": "r"}}',
            "tokens.access_token must be",
            id="no token",
        ),
        pytest.param(
            b'{"access_token": "secret", "refresh_token": "r", "account_id": "sec ret"}',
            "account_id must be",
            id="no id",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_says_why_and_keeps_its_secrets(
    data: bytes, why: str
) -> None:
    with pytest.raises(NotImportableError) as caught:
        imported(data)
    told = f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    assert why in told
    assert "accounts add" in told
    assert "secret" not in told
    assert not any(half in told for half in ("sec ret", "sec\\nret", "sec\nret"))


def a_file(*, serial: int, expires_in_s: float) -> SignedIn:
    given = tokens(serial=serial, expires_at_unix_s=NOW_UNIX_S + expires_in_s)
    return imported(json.dumps({"tokens": given}).encode())


def test_an_imported_file_becomes_an_account(desk: Desk) -> None:
    assert desk.enrol(a_file(serial=1, expires_in_s=60)) == ("jane-doe", True)


def test_an_imported_file_does_not_bring_spent_tokens_back(desk: Desk) -> None:
    desk.enrol(a_file(serial=2, expires_in_s=3600))
    with pytest.raises(OlderTokensError, match="jane-doe"):
        desk.enrol(a_file(serial=1, expires_in_s=60))
    assert desk.refresh_tokens() == {"jane-doe": "rt_2"}


def test_an_imported_file_with_newer_tokens_renews_the_account(desk: Desk) -> None:
    desk.enrol(a_file(serial=1, expires_in_s=60))
    assert desk.enrol(a_file(serial=2, expires_in_s=3600)) == ("jane-doe", False)
    assert desk.refresh_tokens() == {"jane-doe": "rt_2"}


def test_tokens_that_do_not_say_whose_they_are_make_one_account_only(desk: Desk) -> None:
    nameless = imported(b'{"access_token": "opaque", "refresh_token": "rt"}')
    assert desk.enrol(nameless) == ("codex", True)
    before = (desk.store.folder / "codex.json").read_bytes()
    again = enrol(desk.store, nameless, account_id="other", now_unix_s=NOW_UNIX_S + 1)
    assert (again.account.id, again.created, again.unchanged) == ("codex", False, True)
    assert (desk.store.folder / "codex.json").read_bytes() == before
    assert desk.refresh_tokens() == {"codex": "rt"}


def test_a_refresh_token_tells_its_account_whatever_its_file_says_of_the_owner(desk: Desk) -> None:
    held = Credentials(access_token="a", refresh_token="rt_1", expires_at_unix_s=NOW_UNIX_S + 60)
    facts: JsonObject = {"chatgpt_account_id": "another", "email": "other@example.com"}
    write_account(desk.store.folder, "mine", held, **facts)
    assert desk.enrol(a_file(serial=1, expires_in_s=3600)) == ("mine", False)
    assert desk.refresh_tokens() == {"mine": "rt_1"}
    [account] = desk.store.load().accounts
    assert (account.workspace_id, account.email) == ("workspace-1", "jane.doe@example.com")


@pytest.mark.parametrize("known", [{"expiry_date": 1795000000000}, {"chatgpt_account_id": "ws"}])
def test_a_managed_file_s_own_name_is_no_workspace(known: JsonObject) -> None:
    raw: JsonObject = {"account_id": "sim-1", "access_token": "opaque", "refresh_token": "rt"}
    signed_in = imported(orjson.dumps(raw | known))
    assert signed_in.workspace_id == known.get("chatgpt_account_id")
    expiry = 1795000000 if "expiry_date" in known else None
    assert signed_in.credentials.expires_at_unix_s == expiry


def test_an_account_imported_from_its_own_file_stays_one(desk: Desk) -> None:
    desk.enrol(a_sign_in())
    desk.enrol(a_sign_in(user_id="user-2", serial=2), "second")
    data = (desk.store.folder / "jane-doe.json").read_bytes()
    assert imported(data).workspace_id == "workspace-1"
    assert desk.enrol(imported(data)) == ("jane-doe", False)
    assert desk.refresh_tokens() == {"jane-doe": "rt_1", "second": "rt_2"}


def test_a_token_s_own_end_beats_that_of_a_managed_file() -> None:
    raw = tokens(expires_at_unix_s=NOW_UNIX_S + 60) | {"expiry_date": 1_000}
    assert imported(orjson.dumps(raw)).credentials.expires_at_unix_s == NOW_UNIX_S + 60


@pytest.mark.parametrize("act", [check_store, lambda store: Desk(store).enrol(a_sign_in())])
@pytest.mark.parametrize(
    "kind",
    [
        "file",
        pytest.param(
            "dangling link",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege"),
        ),
        "below a file",
    ],
)
def test_a_place_that_is_no_folder_is_said_at_once(
    tmp_path: Path, kind: str, act: Callable[[AccountStore], object]
) -> None:
    path = tmp_path / "accounts"
    if kind == "dangling link":
        path.symlink_to(tmp_path / "nowhere" / "at all")
    else:
        path.write_text("mine")
    store = AccountStore(path / "below" if kind == "below a file" else path)
    with pytest.raises(UnusableStoreError, match="no account can be stored in"):
        act(store)
    assert kind == "dangling link" or path.read_text() == "mine"


def test_a_store_that_can_be_written_to_is_there_afterwards(desk: Desk) -> None:
    check_store(desk.store)
    assert desk.store.folder.is_dir()
    assert not desk.store.load().found


def test_an_account_that_must_sign_in_again_takes_any_file(desk: Desk) -> None:
    desk.enrol(a_file(serial=2, expires_in_s=3600))
    desk.store.mark_needs_reauth("jane-doe", "refresh_token_reused", refresh_token="rt_2")
    desk.enrol(a_file(serial=1, expires_in_s=60))
    assert desk.refresh_tokens() == {"jane-doe": "rt_1"}


def test_a_fresh_sign_in_counts_whatever_its_life(desk: Desk) -> None:
    desk.enrol(a_file(serial=1, expires_in_s=1e6))
    desk.enrol(a_sign_in(serial=2))
    assert desk.refresh_tokens() == {"jane-doe": "rt_2"}


def test_all_refusals_are_one_kind() -> None:
    for kind in (UnusableIdError, UnknownAccountError, BrokenAccountError, OtherIdentityError):
        assert issubclass(kind, EnrolError)
