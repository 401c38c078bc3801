from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from harness.secrecy.redaction import Redactor
from harness.secrecy.secrets import Secrets
from harness.simulator.accounts import SimulatedAccount, access_token, write_account_file

if TYPE_CHECKING:
    from pathlib import Path


def test_a_store_gives_its_tokens_and_what_they_say_of_their_owner(tmp_path: Path) -> None:
    account = SimulatedAccount("work")
    token = access_token(account, token_id="t", issued_unix_s=0, expires_unix_s=9)
    write_account_file(
        tmp_path,
        account,
        access_token=token,
        refresh_token="rt_Ab3dEf6hIj9l",
        expires_unix_s=9,
        now_unix_s=0,
    )
    secrets = Secrets.of_store(tmp_path)
    assert secrets.exact[token.encode()] == "token"
    assert secrets.exact[b"rt_Ab3dEf6hIj9l"] == "token"
    assert secrets.exact[account.account_id.encode()] == "account-id"
    assert secrets.exact[account.user_id.encode()] == "user-id"
    assert secrets.folded == {account.email.encode(): "e-mail"}
    assert b"work" not in secrets.exact  # the owner's own name for it


def test_codex_clis_file_is_read_as_well_and_a_broken_one_for_its_tokens(tmp_path: Path) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"email": "jane@corp-7.io"}).encode())
    jwt = f"eyJhbGciOiJIUzI1NiJ9.{claims.rstrip(b'=').decode()}.c2lnbmF0dXJl"
    tokens = {"access_token": "Ab3dEf6hIj9l", "account_id": "acct-81726354"}
    (tmp_path / "auth.json").write_text(json.dumps({"OPENAI_API_KEY": "sk-12ab", "tokens": tokens}))
    (tmp_path / "broken.json").write_text(f'{{"access_token": "{jwt}", ')
    secrets = Secrets.of_store(tmp_path)
    assert set(secrets.exact) == {b"Ab3dEf6hIj9l", b"acct-81726354", jwt.encode()}
    assert set(secrets.folded) == {b"jane@corp-7.io"}


def test_names_are_words_and_what_everybody_is_called_is_no_name(tmp_path: Path) -> None:
    home = tmp_path / "kim"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\n\temail = Kim@Corp-7.io\n")
    secrets = Secrets()
    secrets.add_person(home, {"USER": "kim", "LOGNAME": "root"}, host="janes-laptop.lan")
    text = b"kim asked kim@x /kim/a janes-laptop janes-laptops KIM@corp-7.IO root localhost"
    clean = Redactor(secrets).data(text)
    assert clean.split() == [
        b"kim",
        b"asked",
        b"xx1@x",
        b"/xx1/a",
        b"xxxxx-xxxxx2",
        b"janes-laptops",
        b"xxx@xxxx-x.x3",
        b"root",
        b"localhost",
    ]


def test_what_is_short_or_a_stand_in_is_not_looked_for() -> None:
    secrets = Secrets()
    for value in ("short", "", "xxxxxxxxxxxx12", "sk-proj-xxxxxxxxxxx3"):
        secrets.add(value, "token")
    assert not secrets.exact


def test_its_representation_tells_nothing() -> None:
    secrets = Secrets()
    secrets.add("Ab3dEf6hIj9l", "token")
    assert "Ab3d" not in repr(secrets)
