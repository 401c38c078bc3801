"""`python -m harness scan`."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

import click

from codexrelay.accounts.settings import DEFAULT_STORAGE_PATH
from harness.secrecy.scanning import scan_path
from harness.secrecy.secrets import Secrets

_STORE_VARIABLE: Final = "OPENAI_CODEX_MANAGED_OAUTH_STORAGE_PATH"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@click.command()
@click.argument(
    "paths",
    metavar="PATH...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, path_type=Path),
)
@click.option(
    "--store",
    "stores",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A folder of account files, or an auth.json, whose secrets are looked for.",
)
@click.option(
    "--value-file",
    "value_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of further secrets, one a line.",
)
@click.option("--no-person", is_flag=True, help="Do not look for login, home, host and e-mail.")
@click.option(
    "--allow",
    "allow_files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of SHA-256 digests, one a line, of values that may be there.",
)
def scan(
    *,
    paths: tuple[Path, ...],
    stores: tuple[Path, ...],
    value_files: tuple[Path, ...],
    no_person: bool,
    allow_files: tuple[Path, ...],
) -> None:
    """Look for secrets in files of any kind, and in all files below folders.

    Finds the exact values of the account files in --store (without one, of the relay's own store,
    if there is one), of --value-file, and of who is logged in; and what looks like a token, a key,
    a JWT, a private key, an e-mail address, a home folder or encrypted content. All that in plain,
    escaped for JSON or URLs, in base64, in hexadecimal, in gzip and zstd, in what YAML holds, and
    in pieces over the events of a stream. The recorder's stand-ins are no secrets, nor are values
    that are plainly made up.

    One line for each: file, place, kind; never the secret or a part of it. Folders of caches and of
    version control are left out. Exit status 0: nothing was found; 1: something was; 2: there is no
    such path, or it cannot be read.

    Before each commit, as .git/hooks/pre-commit:

    \b
    git diff --cached --name-only --diff-filter=d -z |
        xargs -0 -r python -m harness scan
    """  # noqa: D301  (click wants the character, not two that mean it)
    secrets = Secrets() if no_person else Secrets.of_person()
    own = Path(os.environ.get(_STORE_VARIABLE) or DEFAULT_STORAGE_PATH)
    for store in stores or ((own,) if own.is_dir() else ()):
        secrets.add_store(store)
    try:
        for path in value_files:
            for line in path.read_text("utf-8").splitlines():
                secrets.add(line, "value")
        allowed = frozenset(
            line[:64]
            for path in allow_files
            for line in path.read_text("utf-8").splitlines()
            if _DIGEST.match(line)
        )
        found = False
        for path in dict.fromkeys(paths):
            for file, finding in scan_path(path, secrets, allowed=allowed):
                found = True
                click.echo(f"{file}: {finding.place}: {finding.kind}")
    except OSError as error:
        raise click.UsageError(f"{error.filename}: {error.strerror}") from None
    sys.exit(1 if found else 0)
