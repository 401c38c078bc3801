"""A program that uses Codex CLI's `auth.json` as Codex CLI does (wire notes 1.2, 1.6).

Told `turn` on a line of its standard input, it sends one model request: with the tokens of the
file; after a 401 with those that stand in it then; and if those are the same, it takes `auth.lock`
and `auth.json.lock`, looks again, refreshes, and writes the file back in one piece with all that it
does not know. It answers with a line of JSON. Knows nothing of the relay.

    python codex_like.py CODEX_HOME API_BASE_URL ISSUER_URL
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import httpx
from filelock import FileLock

CLIENT_ID = "app_EMoamEEZ73f0CkXaXp7hrann"
LOCK_S = 60.0
#: With the tokens as they were, as somebody else or oneself has renewed them, and once more if they
#: have expired again in between.
TRIES = 3


@attrs.define(eq=False)
class Session:
    """What the program does with one file."""

    home: Path
    api_base_url: str
    issuer_url: str
    http: httpx.Client
    statuses: list[int] = attrs.field(factory=list)
    refreshed: int = 0
    adopted: int = 0
    refused: list[str] = attrs.field(factory=list)

    def turn(self) -> None:
        """Send one model request, whatever it takes."""
        auth = self.read()
        status = 0
        for _ in range(TRIES):
            status = self.ask(auth["tokens"])
            if status != 401:
                break
            auth = self.renewed(auth["tokens"]["access_token"])
        self.statuses.append(status)

    def ask(self, tokens: dict[str, Any]) -> int:
        """Send the request with these tokens."""
        said = {"role": "user", "content": [{"type": "input_text", "text": "hello"}]}
        answer = self.http.post(
            f"{self.api_base_url}/responses",
            json={
                "model": "gpt-5.5",
                "store": False,
                "stream": True,
                "input": [{"type": "message", **said}],
            },
            headers={
                "authorization": f"Bearer {tokens['access_token']}",
                "chatgpt-account-id": tokens["account_id"],
            },
        )
        return answer.status_code

    def renewed(self, rejected: str) -> dict[str, Any]:
        """Return what stands in the file once its access token is another than `rejected`."""
        auth = self.read()
        if auth["tokens"]["access_token"] != rejected:
            self.adopted += 1
            return auth
        with (
            FileLock(self.home / "auth.lock", timeout=LOCK_S),
            FileLock(self.home / "auth.json.lock", timeout=LOCK_S),
        ):
            auth = self.read()
            if auth["tokens"]["access_token"] != rejected:
                self.adopted += 1
                return auth
            answer = self.http.post(
                f"{self.issuer_url}/oauth/token",
                json={
                    "client_id": CLIENT_ID,
                    "grant_type": "refresh_token",
                    "refresh_reason": "unauthorized_recovery",
                    "refresh_token": auth["tokens"]["refresh_token"],
                },
            )
            if answer.status_code != 200:
                self.refused.append(str(answer.status_code))
                return auth
            new = answer.json()
            auth["tokens"] |= {
                name: new[name]
                for name in ("id_token", "access_token", "refresh_token")
                if new.get(name)
            }
            auth["last_refresh"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            self.write(auth)
            self.refreshed += 1
            return auth

    def read(self) -> dict[str, Any]:
        """Return the file."""
        auth: dict[str, Any] = json.loads((self.home / "auth.json").read_bytes())
        return auth

    def write(self, auth: dict[str, Any]) -> None:
        """Replace the file; whoever reads it sees the old one or the new one."""
        descriptor, name = tempfile.mkstemp(dir=self.home, prefix=".auth.")
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(auth, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, self.home / "auth.json")

    def told(self) -> dict[str, Any]:
        """Return what has happened since it was last asked."""
        told = {
            "statuses": self.statuses,
            "refreshed": self.refreshed,
            "adopted": self.adopted,
            "refused": self.refused,
        }
        self.statuses, self.refused, self.refreshed, self.adopted = [], [], 0, 0
        return told


def main() -> None:
    """Take turns until the input ends."""
    home, api_base_url, issuer_url = sys.argv[1:]
    with httpx.Client(trust_env=False, timeout=LOCK_S) as http:
        session = Session(Path(home), api_base_url, issuer_url, http)
        print("ready", flush=True)
        for _ in sys.stdin:
            session.turn()
            print(json.dumps(session.told()), flush=True)


if __name__ == "__main__":
    main()
