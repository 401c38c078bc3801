"""`codexrelay doctor` over what is on the disk; nothing is asked here but the port."""

from __future__ import annotations

import json
import os
import stat
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Final, cast

import attrs
import orjson
import pytest
import trio
from click.testing import CliRunner, Result
from filelock import FileLock, Timeout

from codexrelay.accounts.account import Attention, Credentials
from codexrelay.accounts.sent_mark import SentMark
from codexrelay.accounts.state import AccountState
from codexrelay.accounts.store import AccountStore
from codexrelay.cli.accounts.call import Call
from codexrelay.cli.accounts.world import World
from codexrelay.cli.doctor import doctor
from codexrelay.cli.doctor.finding import Level
from codexrelay.cli.doctor.folders import (
    look_at,
    own_uid,
    why_no_locks,
    why_not_made,
    why_not_writable,
)
from codexrelay.config.proxies import Named
from codexrelay.protocol.raw import JsonObject, is_object
from tests.fakes.live_server import PATIENCE_S
from tests.fakes.tokens import jwt, write_account
from tests.fakes.wall_clock import NOW_UNIX_S as NOW
from tests.fakes.wall_clock import WallClock

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR: Final = 3600.0
MANAGED: Final = "backends.openai_codex.extra.codex.managed_oauth"
REFRESH: Final = "rt_that_nobody_may_see"
#: Where nobody listens, for what is not asked anyway.
NOWHERE: Final = "http://127.0.0.1:9"


def token(*, expires_in_s: float = HOUR, issued_s_ago: float = HOUR, **claims: float) -> str:
    """Return an access token whose claims speak of now."""
    auth = {"chatgpt_account_id": "workspace-1", "chatgpt_plan_type": "plus"}
    return jwt(
        {
            "exp": NOW + expires_in_s,
            "iat": NOW - issued_s_ago,
            "https://api.openai.com/auth": auth,  # type: ignore[dict-item]
            **claims,
        }
    )


@attrs.define(eq=False, kw_only=True)
class Patient:
    """A machine with a configuration, a store and somebody's home."""

    folder: Path
    config: JsonObject = attrs.field(factory=dict)
    proxy: Named | None = None
    #: Everything that was printed.
    said: str = ""

    @property
    def store(self) -> Path:
        return self.folder / "accounts"

    @property
    def codex_home(self) -> Path:
        return self.folder / "home" / ".codex"

    @property
    def config_path(self) -> Path:
        return self.folder / "config.yaml"

    def add(
        self, name: str = "work", *, access: str | None = None, refresh: str | None = REFRESH
    ) -> Path:
        """Store an account."""
        tokens = Credentials(access_token=access or token(), refresh_token=refresh)
        return write_account(self.store, name, tokens)

    def learn(self, name: str, state: AccountState) -> None:
        """Store what turns have learnt of an account."""
        AccountStore(self.store).save_state(
            name, state, before=AccountState(), now_unix_s=NOW - HOUR
        )

    def sign_in_to_codex(self, **more: object) -> Path:
        """Write Codex CLI's `auth.json`."""
        self.codex_home.mkdir(parents=True, exist_ok=True)
        path = self.codex_home / "auth.json"
        record = {
            "auth_mode": "chatgpt",
            "OPENAI_API_KEY": None,
            "tokens": {"access_token": token(), "refresh_token": REFRESH},
            **more,
        }
        path.write_bytes(orjson.dumps(record))
        path.chmod(0o600)
        return path

    def write_config(self) -> Path:
        """Write a configuration that leads nowhere, unless `config` says otherwise."""
        codex: JsonObject = {
            "oauth_issuer": NOWHERE,
            "managed_oauth": {"storage_path": str(self.store)},
        }
        first: JsonObject = {"api_base_url": f"{NOWHERE}/codex", "extra": {"codex": codex}}
        whole: JsonObject = {
            "server": {"port": 0},
            "sessions": {"state_path": str(self.folder / "state")},
            "backends": {"openai_codex": first},
        }
        self.config_path.write_bytes(orjson.dumps(_merged(whole, self.config)))
        self.config_path.chmod(0o600)
        return self.config_path

    def run(self, *words: str) -> Result:
        """Run the command as it is typed."""
        world = World(
            environ={"HOME": str(self.folder / "home"), "USERPROFILE": str(self.folder / "home")},
            wall_clock=WallClock(),
            proxy_for=lambda _: self.proxy,
            configure_logs=lambda: None,
        )
        result = CliRunner().invoke(doctor, words, obj=Call(world=world))
        self.said += result.output
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def findings(self, *words: str) -> list[tuple[str, str, str, str | None]]:
        """Return level, subject, text and remedy of each finding."""
        result = self.run("--config", str(self.write_config()), "--json", *words)
        told = json.loads(result.stdout)
        assert result.exit_code == (1 if told["broken"] else 0)
        return [(f["level"], f["about"], f["what"], f["mend"]) for f in told["findings"]]

    def about(self, subject: str) -> list[tuple[str, str, str | None]]:
        """Return what is found of one subject without asking anybody."""
        found = self.findings("--offline")
        return [(level, what, mend) for level, about, what, mend in found if about == subject]

    async def ask(self, subject: str) -> list[tuple[str, str, str | None]]:
        """Return what is found of one subject, beside servers that this process runs."""
        with trio.fail_after(PATIENCE_S):
            found = await trio.to_thread.run_sync(self.findings)
        return [(level, what, mend) for level, about, what, mend in found if about == subject]

    def command(self, words: str) -> str:
        """Return a command as this configuration needs it."""
        return f"codexrelay accounts {words} --config {self.config_path}"


def _merged(one: JsonObject, other: JsonObject) -> JsonObject:
    merged = dict(one)
    for key, value in other.items():
        before = merged.get(key)
        both = is_object(before) and is_object(value)
        merged[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return merged


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(folder=tmp_path)


# The command.


def test_a_healthy_relay_is_told_so_line_by_line(patient: Patient) -> None:
    patient.add()
    result = patient.run("--config", str(patient.write_config()), "--offline")
    assert result.exit_code == 0
    *lines, summary = result.stdout.splitlines()
    assert lines[0] == f"ok      configuration: {patient.config_path} can be used"
    assert f"ok      store: {patient.store} can be read and written by you alone" in lines
    assert "ok      account work (plus): valid; its token runs out in 1 h" in lines
    assert "ok      port: server.port is 0: the relay takes a free one" in lines
    assert {line.split()[0] for line in lines} == {"ok", "warn"}
    warned = [line for line in lines if line.startswith("warn")]
    assert len(warned) == 2  # nowhere is not where tokens should go
    assert summary == f"0 broken, 2 to look at, {len(lines) - 2} good"


def test_what_is_broken_makes_the_command_fail_and_comes_with_its_remedy(
    patient: Patient,
) -> None:
    result = patient.run("--config", str(patient.write_config()), "--offline")
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("broken")]
    assert line.endswith(f" -> {patient.command('add')} (or codex login)")
    assert result.stdout.splitlines()[-1].startswith("1 broken, ")


def test_wrong_usage_is_something_else(patient: Patient) -> None:
    assert patient.run("--what").exit_code == 2


def test_no_token_is_ever_shown(patient: Patient) -> None:
    access = token()
    patient.add(access=access)
    patient.add("other", access=token(expires_in_s=-HOUR), refresh=None)
    patient.sign_in_to_codex()
    (patient.store / "broken.json").write_text(f'{{"access_token": "{access}"', "utf-8")
    config = str(patient.write_config())
    patient.run("--config", config, "--offline")
    patient.run("--config", config, "--offline", "--json")
    for secret in (access, access.split(".")[1], REFRESH):
        assert secret not in patient.said


def test_it_leaves_everything_as_it_was(patient: Patient) -> None:
    patient.add()
    patient.sign_in_to_codex()
    (patient.folder / "state").mkdir(mode=0o700)
    patient.write_config()

    def everything() -> list[tuple[str, int]]:
        return sorted((str(p), p.stat().st_mtime_ns) for p in patient.folder.rglob("*.*"))

    before = everything()
    patient.run("--config", str(patient.config_path), "--offline")
    assert everything() == before


# The configuration.


def test_every_problem_of_a_configuration_is_told_and_nothing_else_is_guessed(
    patient: Patient,
) -> None:
    patient.config = {"server": {"port": "x", "prot": 1}}
    found = patient.findings("--offline")
    assert [level for level, *_ in found] == ["broken", "broken", "warn"]
    assert any("did you mean server.port?" in what for _, _, what, _ in found)
    assert found[0][3] == f"correct it; then: codexrelay config check {patient.config_path}"
    assert found[-1][2].startswith("nothing else was looked at")


def test_a_missing_configuration_file_is_broken(patient: Patient) -> None:
    result = patient.run("--config", str(patient.folder / "none.yaml"), "--offline")
    assert result.exit_code == 1
    assert "cannot be read" in result.stdout


def test_a_configuration_that_is_no_file_is_a_finding_for_programs_too(patient: Patient) -> None:
    result = patient.run("--config", str(patient.folder), "--offline", "--json")
    assert result.exit_code == 1
    first, *_ = json.loads(result.stdout)["findings"]
    assert first["what"] == f"--config {patient.folder}: cannot be read: Is a directory"


def test_without_a_file_the_defaults_are_looked_at(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(patient.folder)  # the default store is below the working directory
    result = patient.run("--offline", "--json")
    first, second, *_ = json.loads(result.stdout)["findings"]
    assert first["what"] == "no file is named, so defaults and the environment count"
    assert second["what"].startswith(str(patient.folder / "var" / "openai_codex_oauth_accounts"))


def test_where_tokens_would_go_instead_is_told(patient: Patient) -> None:
    warned = [what for level, what, _ in patient.about("configuration") if level == "warn"]
    assert any(f"access tokens go to {NOWHERE}" in what for what in warned)
    assert any(f"refresh tokens go to {NOWHERE}" in what for what in warned)


def test_client_keys_in_a_file_for_everybody_are_told(patient: Patient) -> None:
    patient.config = {"server": {"client_keys": ["k" * 20]}}
    config = patient.write_config()
    config.chmod(0o644)
    result = patient.run("--config", str(config), "--offline")
    assert (
        f"warn    configuration: {config} holds client keys and can be read by others "
        f"-> chmod 600 {config}" in result.stdout
    )


def test_secrets_of_another_backend_in_a_file_for_everybody_are_told(patient: Patient) -> None:
    block = {
        "type": "openai",
        "api_base_url": "http://me:hidden@127.0.0.1:9/v1",
        "headers": {"x-key": "hidden"},
    }
    patient.config = {"backends": {"local": block}}
    config = patient.write_config()
    config.chmod(0o644)
    result = patient.run("--config", str(config), "--offline")
    assert (
        "holds headers (backends.local.headers) and a password (backends.local.api_base_url) and "
        "can be read by others" in result.stdout
    )
    assert "hidden" not in result.stdout


def test_a_proxys_password_in_a_file_for_everybody_is_told(patient: Patient) -> None:
    patient.config = {"backends": {"openai_codex": {"proxy": "http://me:hidden@127.0.0.1:9"}}}
    config = patient.write_config()
    config.chmod(0o644)
    result = patient.run("--config", str(config), "--offline")
    assert (
        f"warn    configuration: {config} holds a proxy's password (backends.openai_codex.proxy) "
        f"and can be read by others -> chmod 600 {config}" in result.stdout
    )
    assert "hidden" not in patient.said


# What fails.


def test_a_check_that_fails_costs_no_other_its_findings(patient: Patient) -> None:
    def fails(url: str) -> Named | None:
        raise UnicodeError(f"no name: {url}")

    patient.add()
    config = str(patient.write_config())
    world = World(
        environ={"HOME": str(patient.folder)},
        wall_clock=WallClock(),
        proxy_for=fails,
        configure_logs=lambda: None,
    )
    result = CliRunner().invoke(
        doctor, ["--config", config, "--json", "--offline"], obj=Call(world=world)
    )
    assert result.exit_code == 1
    found = json.loads(result.stdout)["findings"]
    (failed,) = [one for one in found if one["level"] == "broken"]
    assert failed["about"] == "proxy"
    assert failed["what"] == f"could not be checked: UnicodeError: no name: {NOWHERE}/codex"
    assert {"store", "account work (plus)", "models", "port"} <= {one["about"] for one in found}


def test_all_that_is_not_good_has_a_remedy(patient: Patient) -> None:
    patient.sign_in_to_codex().chmod(0o644)
    (patient.folder / "state").touch()
    patient.store.touch()
    patient.config = _managed(accounts=["nobody"])
    found = patient.findings("--offline")
    assert [one for one in found if one[0] != "ok" and not one[3]] == []


# The store.


def test_a_store_that_is_a_link_to_nothing_is_told_once(patient: Patient) -> None:
    patient.store.symlink_to(patient.folder / "gone")
    found = [one for one in patient.findings("--offline") if str(patient.store) in one[2]]
    assert found == [
        (
            "broken",
            "store",
            f"{patient.store} is a link that leads nowhere",
            f"mkdir -m 700 -p {patient.folder / 'gone'}, or: rm {patient.store}",
        )
    ]


def test_a_store_that_cannot_be_listed_is_told_once(patient: Patient) -> None:
    patient.store.touch()  # which this cannot be, whoever runs the tests
    found = [one for one in patient.findings("--offline") if one[0] == "broken"]
    assert [(about, mend) for _, about, _, mend in found] == [
        ("store", f"mv {patient.store} {patient.store}.old")
    ]


def test_a_drive_that_is_not_there_is_told() -> None:
    folder = cast("Path", PureWindowsPath("Q:/relay/accounts"))
    assert why_not_made(folder) == "there is no Q:\\"


def test_a_store_that_is_not_there_yet_is_fine(patient: Patient) -> None:
    assert patient.about("store") == [
        ("ok", f"{patient.store} is not there yet; `codexrelay accounts add` makes it", None)
    ]


def test_a_store_that_others_may_read_is_told(patient: Patient) -> None:
    path = patient.add()
    patient.store.chmod(0o755)
    path.chmod(0o644)
    assert patient.about("store") == [
        ("warn", f"{patient.store} can be read by others", f"chmod 700 {patient.store}"),
        ("warn", f"{path} can be read by others", f"chmod 600 {path}"),
    ]


def test_a_store_that_is_a_file_is_broken(patient: Patient) -> None:
    patient.store.touch()
    (found,) = [f for f in patient.about("store") if f[1].endswith("is no folder")]
    assert found[0] == "broken"


def test_a_store_that_can_never_be_made_is_broken(patient: Patient) -> None:
    (patient.folder / "file").touch()
    store = patient.folder / "file" / "below"
    patient.config = _stored_at(store)
    assert patient.about("store") == [
        (
            "broken",
            f"{store} is not there and cannot be made: {patient.folder / 'file'} is no folder",
            f"{MANAGED}.storage_path: FOLDER, one that can be made",
        )
    ]


def _stored_at(folder: Path) -> JsonObject:
    managed: JsonObject = {"storage_path": str(folder)}
    return {"backends": {"openai_codex": {"extra": {"codex": {"managed_oauth": managed}}}}}


def test_somebody_elses_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    mine = own_uid()
    assert mine is not None
    assert list(look_at(tmp_path, "store", key="k", uid=mine)) == []
    (found,) = look_at(tmp_path, "store", key="k", uid=mine + 1)
    assert (found.level, found.what) == (Level.WARN, f"{tmp_path} belongs to another user")
    assert found.mend is not None
    assert "chown" in found.mend


def test_whether_a_folder_takes_a_file_is_tried(tmp_path: Path) -> None:
    assert why_not_writable(tmp_path) is None
    assert os.listdir(tmp_path) == []
    assert why_not_writable(tmp_path / "none") == "No such file or directory"


@attrs.define(eq=False)
class StrangeLock:
    """The lock of a file system on which locks do nothing, or fail."""

    path: Path
    error: Exception | None = None

    def acquire(self, *, blocking: bool) -> None:
        if self.error is not None:
            raise self.error

    def release(self) -> None:
        pass


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (StrangeLock, "two programs can hold one lock file at once"),
        (
            partial(StrangeLock, error=OSError(38, "Function not implemented")),
            "lock files cannot be used ([Errno 38] Function not implemented)",
        ),
        (
            partial(StrangeLock, error=NotImplementedError("no flock here")),
            "lock files cannot be used (no flock here)",
        ),
        (partial(StrangeLock, error=Timeout("x")), None),
        (FileLock, None),
    ],
    ids=["no effect", "an error", "not supported", "held by another doctor", "in order"],
)
def test_whether_locks_keep_others_out_is_tried(
    make: Callable[[Path], StrangeLock], why: str | None, tmp_path: Path
) -> None:
    assert why_no_locks(tmp_path, make=make) == why
    assert os.listdir(tmp_path) == []


# The accounts.


@pytest.mark.parametrize(
    ("access", "refresh", "level", "what", "mend"),
    [
        (token(), REFRESH, "ok", "valid; its token runs out in 1 h", None),
        (
            token(expires_in_s=-2 * HOUR),
            REFRESH,
            "ok",
            "its token ran out 2 h ago; the next turn renews it",
            None,
        ),
        (
            token(),
            None,
            "warn",
            "its token runs out in 1 h, and there is no refresh token",
            "update work",
        ),
        (
            token(expires_in_s=-2 * HOUR),
            None,
            "broken",
            "its token ran out 2 h ago, and there is no refresh token",
            "update work",
        ),
    ],
    ids=["valid", "expired", "without a refresh token", "expired without one"],
)
def test_how_an_account_stands_by_its_tokens(
    access: str, refresh: str | None, level: str, what: str, mend: str | None, patient: Patient
) -> None:
    patient.add(access=access, refresh=refresh)
    (found,) = patient.about("account work (plus)")
    assert found == (level, what, None if mend is None else patient.command(mend))


def test_an_account_that_must_sign_in_again_is_broken(patient: Patient) -> None:
    path = patient.add()
    record = orjson.loads(path.read_bytes())
    path.write_bytes(
        orjson.dumps(record | {"needs_reauth": True, "needs_reauth_reason": "refresh_token_reused"})
    )
    assert patient.about("account work (plus)") == [
        ("broken", "must sign in again (refresh_token_reused)", patient.command("update work"))
    ]


def test_an_account_whose_quota_is_spent_says_until_when(patient: Patient) -> None:
    patient.add()
    patient.learn("work", AccountState(rate_limited_until_unix_s=NOW + 2 * HOUR))
    assert patient.about("account work (plus)") == [
        (
            "warn",
            "its quota is spent; it is free again in 2 h",
            f"wait, or if you know better: {patient.command('clear work')}",
        )
    ]


def test_an_account_that_the_backend_turned_away_says_what_it_was_told(patient: Patient) -> None:
    patient.add()
    told = Attention(
        code="deactivated_workspace", message="Your workspace is closed.", since_unix_s=NOW - 600
    )
    patient.learn("work", AccountState(attention=told))
    _, found = patient.about("account work (plus)")
    assert found == (
        "warn",
        "turned away 10 min ago: Your workspace is closed. (deactivated_workspace)",
        f"once that is mended: {patient.command('clear-reauth work')}",
    )


def test_a_refresh_without_an_answer_is_told(patient: Patient) -> None:
    patient.add()
    SentMark.beside(AccountStore(patient.store).flight_lock("work")).make(REFRESH)
    _, (level, what, mend) = patient.about("account work (plus)")
    assert (level, what.partition(":")[0]) == (
        "warn",
        "its refresh token was sent and no answer is stored",
    )
    assert mend == f"if turns are refused: {patient.command('update work')}"


def test_a_file_that_cannot_be_used_is_broken(patient: Patient) -> None:
    patient.add()
    (patient.store / "spare.json").write_text("{", "utf-8")
    (patient.store / "spare.json").chmod(0o600)
    ((level, what, mend),) = patient.about("account spare")
    assert level == "broken"
    assert "spare.json: file: is not a JSON object" in what
    remove, add = patient.command("remove spare"), patient.command("add")
    assert mend == f"mend the file, or {remove}; then {add}"


def test_accounts_that_the_configuration_leaves_out_are_no_accounts(patient: Patient) -> None:
    patient.add()
    patient.config = _managed(accounts=["somebody"])
    key = f"{MANAGED}.accounts: all, or some of [work]"
    assert patient.about("account work (plus)") == [
        ("ok", "not used: managed_oauth.accounts does not name it", None)
    ]
    assert patient.about("accounts") == [
        ("warn", "managed_oauth.accounts: somebody: no stored account has this id", key),
        ("broken", "there is none that may be used", key),
    ]


def test_a_store_for_everybody_hides_nothing_of_its_accounts(patient: Patient) -> None:
    patient.add()
    patient.store.chmod(0o755)
    patient.config = _managed(accounts=["somebody"])
    assert "broken" in [level for level, _, _ in patient.about("accounts")]


def test_where_a_list_leaves_everybody_out_what_is_added_must_be_named(patient: Patient) -> None:
    patient.config = _managed(accounts=["somebody"], allow_legacy_fallback=False)
    (_, _, mend) = patient.about("accounts")[-1]
    assert mend == f"{patient.command('add')}, and name it in {MANAGED}.accounts"


def test_where_managed_accounts_are_off_none_is_to_be_added(patient: Patient) -> None:
    patient.add()
    patient.config = _managed(enabled=False)
    ((level, what, mend),) = patient.about("accounts")
    assert (level, what) == ("broken", "there is none that may be used")
    assert mend == f"{MANAGED}.enabled: true"
    ((level, _, mend),) = patient.about("auth.json")
    assert level == "broken"
    assert mend == f"codex login (or {MANAGED}.enabled: true, then {patient.command('add')})"


@pytest.mark.parametrize("further", [False, True], ids=["in one store", "across blocks"])
def test_two_accounts_with_one_refresh_token_are_told(further: bool, patient: Patient) -> None:
    patient.add()
    spare = Credentials(access_token=token(), refresh_token=REFRESH)
    if further:
        patient.config = {"backends": {"openai_codex.2": {}}}
    write_account(patient.folder / ("accounts.2" if further else "accounts"), "zero", spare)
    about = "openai-codex.2: account zero" if further else "account zero"
    ((level, what, mend),) = patient.about(about)
    assert level == "warn"
    assert what.startswith("has the same refresh token as account work: it is good for one refresh")
    assert mend is not None
    assert mend.startswith("codexrelay accounts update zero")
    assert REFRESH not in patient.said


def test_a_link_to_an_account_of_another_block_is_fine(patient: Patient) -> None:
    path = patient.add()
    patient.config = {"backends": {"openai_codex.2": {}}}
    (patient.folder / "accounts.2").mkdir(mode=0o700)
    (patient.folder / "accounts.2" / "work.json").symlink_to(path)
    assert patient.about("openai-codex.2: account work") == []
    assert len(patient.about("openai-codex.2: account work (plus)")) == 1


def test_no_account_and_no_way_to_fall_back_is_broken(patient: Patient) -> None:
    patient.config = _managed(allow_legacy_fallback=False)
    assert patient.about("accounts") == [
        ("broken", f"there is none: no account file in {patient.store}", patient.command("add"))
    ]
    assert patient.about("auth.json") == []


def test_the_accounts_of_a_further_block_are_told_with_its_name(patient: Patient) -> None:
    patient.add()
    patient.config = {"backends": {"openai_codex.2": {}}}
    write_account(
        patient.folder / "accounts.2",
        "spare",
        Credentials(access_token=token(expires_in_s=-HOUR), refresh_token=None),
    )
    ((level, _, mend),) = patient.about("openai-codex.2: account spare (plus)")
    assert level == "broken"
    config = patient.config_path
    assert mend == (f"codexrelay accounts update spare --instance openai-codex.2 --config {config}")


def _managed(**settings: object) -> JsonObject:
    managed: JsonObject = {**settings}  # type: ignore[dict-item]
    return {"backends": {"openai_codex": {"extra": {"codex": {"managed_oauth": managed}}}}}


# Codex CLI's auth.json.


def test_a_missing_auth_json_is_broken_where_it_would_be_used(patient: Patient) -> None:
    ((level, what, mend),) = patient.about("auth.json")
    assert level == "broken"
    assert what == (
        "without accounts of its own the relay uses Codex CLI's sign-in, and there is no "
        f"{patient.codex_home / 'auth.json'}"
    )
    assert mend == f"{patient.command('add')} (or codex login)"


def test_an_auth_json_that_cannot_be_looked_at_is_not_called_missing(patient: Patient) -> None:
    patient.codex_home.parent.mkdir()
    patient.codex_home.symlink_to(patient.codex_home)  # in a circle, which stops root as well
    ((level, what, mend),) = patient.about("auth.json")
    assert level == "broken"
    assert what.startswith(f"{patient.codex_home / 'auth.json'} cannot be looked at (")
    assert mend == f"chmod u+rx {patient.codex_home}"


def test_auth_json_does_not_matter_while_there_are_accounts(patient: Patient) -> None:
    patient.add()
    assert patient.about("auth.json") == []


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "is not a JSON object"),
        ('{"OPENAI_API_KEY": "sk-1"}', "there is an API key only"),
        ("{}", "there is no access token"),
    ],
)
def test_an_auth_json_that_cannot_be_used_is_broken(
    content: str, what: str, patient: Patient
) -> None:
    path = patient.sign_in_to_codex()
    path.write_text(content, "utf-8")
    ((level, told, mend),) = patient.about("auth.json")
    assert level == "broken"
    assert str(path) in told
    assert what in told
    assert mend == f"codex login (or {patient.command('add')})"


def test_an_auth_json_in_use_is_told_with_its_age(patient: Patient) -> None:
    path = patient.sign_in_to_codex(last_refresh="2026-11-22T10:00:00.5Z")
    ((level, what, mend),) = patient.about("auth.json")
    assert (level, mend) == ("ok", None)
    assert what.startswith(f"{path} is used, renewed last ")
    assert "Codex CLI uses it too" in what
    ((level, _, _),) = patient.about("account codex-cli (plus)")
    assert level == "ok"


def test_an_auth_json_for_everybody_is_told(patient: Patient) -> None:
    path = patient.sign_in_to_codex()
    path.chmod(0o644)
    assert patient.about("auth.json")[0] == (
        "warn",
        f"{path} can be read by others",
        f"chmod 600 {path}",
    )


@pytest.mark.parametrize("name", ["auth.lock", "auth.json.lock"])
def test_another_program_that_refreshes_auth_json_is_told(name: str, patient: Patient) -> None:
    path = patient.sign_in_to_codex()
    assert [level for level, _, _ in patient.about("auth.json")] == ["ok"]
    with FileLock(path.with_name(name)):
        ((level, what, _),) = patient.about("auth.json")
    assert level == "warn"
    assert what == f"another program refreshes {path} at this moment (it holds {name})"
    # The lock file stays behind and is nobody's now.
    assert [level for level, _, _ in patient.about("auth.json")] == ["ok"]


def test_no_lock_file_is_made_beside_auth_json(patient: Patient) -> None:
    path = patient.sign_in_to_codex()
    patient.about("auth.json")
    assert os.listdir(path.parent) == ["auth.json"]


def test_an_account_that_shares_its_token_with_codex_cli_is_told(patient: Patient) -> None:
    patient.add()
    path = patient.sign_in_to_codex()
    assert patient.about("account work") == [
        (
            "warn",
            f"has the same refresh token as {path}: it is good for one refresh, and whichever "
            "program comes second is signed out",
            patient.command("update work"),
        )
    ]


# The clock.


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_from_the_future_means_that_the_clock_is_slow(claim: str, patient: Patient) -> None:
    patient.add()
    assert patient.about("clock") == [("ok", "no token was issued in the future", None)]
    patient.add("other", access=token(**{claim: NOW + 600}))
    ((level, what, mend),) = patient.about("clock")
    assert level == "broken"
    assert what == "it is slow: the token of account other was issued 10 min from now"
    assert mend is not None
    assert "timedatectl" in mend


# The state.


def test_the_folder_of_the_state(patient: Patient) -> None:
    state = patient.folder / "state"
    assert patient.about("state") == [("ok", f"{state} is not there yet; the relay makes it", None)]
    state.mkdir(mode=0o755)
    assert patient.about("state") == [
        ("warn", f"{state} can be read by others", f"chmod 700 {state}")
    ]
    state.chmod(0o700)
    assert patient.about("state") == [("ok", f"{state} can be written to", None)]
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    state.rmdir()
    state.touch()
    ((level, what, _),) = patient.about("state")
    assert (level, what) == ("broken", f"{state} is no folder")


# The models.


def test_the_list_of_models_is_told_with_where_it_is_from(patient: Patient) -> None:
    ((level, what, _),) = patient.about("models")
    assert level == "ok"
    assert what.startswith("the list that comes with codexrelay is used until")
    (patient.folder / "state").mkdir(mode=0o700)
    (patient.folder / "state" / "models.json").write_text("{", "utf-8")
    (level, what, mend), (_, used, _) = patient.about("models")
    assert (level, mend) == ("warn", "correct the file, or delete it")
    assert "models.json: file: is no JSON object" in what
    assert used.startswith("the list that comes with codexrelay")


# Proxies.


def test_a_proxy_on_the_way_is_named_without_its_password(patient: Patient) -> None:
    assert patient.about("proxy") == [("ok", "none is on the way", None)]
    patient.proxy = Named("http://me:hidden@127.0.0.1:3128", "HTTPS_PROXY")
    ((level, what, _),) = patient.about("proxy")
    assert level == "ok"
    assert "127.0.0.1:3128 (HTTPS_PROXY) for http://127.0.0.1:9" in what
    assert "hidden" not in patient.said


def test_a_proxy_that_does_not_work_is_broken(patient: Patient) -> None:
    patient.proxy = Named("socks5://127.0.0.1:1080", "ALL_PROXY")
    found = patient.about("proxy")
    assert found[0][0] == "broken"
    assert found[0][1].startswith("ALL_PROXY: SOCKS proxies do not work here")
    assert found[0][2] == "backends.openai_codex.proxy: none, or one that works"
    assert len(found) == 1


def test_a_way_without_encryption_is_broken(patient: Patient) -> None:
    patient.config = {"backends": {"openai_codex": {"api_base_url": "http://relay.example/codex"}}}
    ((level, what, mend),) = patient.about("backend")
    assert level == "broken"
    assert what == "tokens would go to http://relay.example without encryption"
    assert mend == "backends.openai_codex.api_base_url: https://…"
