"""Where folders are on this machine."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from codexrelay.config import Settings, legacy_folders, load
from codexrelay.config.folders import absolute

AUTH_PATH = "backends.openai_codex.auth_path"
ROOT = Path("/").absolute()


def settings(auth_path: str | None = None) -> Settings:
    return load(config_path=None, environ={}, flags={AUTH_PATH: auth_path}).settings


HOME = {"HOME": str(ROOT / "home")}


@pytest.mark.parametrize(
    ("auth_path", "environ", "folders"),
    [
        (None, {}, ()),
        (None, HOME, (ROOT / "home/.codex",)),
        (None, {**HOME, "CODEX_HOME": ""}, (ROOT / "home/.codex",)),
        (None, {**HOME, "USERPROFILE": str(ROOT / "me")}, (ROOT / "home/.codex",)),
        (
            None,
            {**HOME, "CODEX_HOME": str(ROOT / "codex")},
            (ROOT / "codex", ROOT / "home/.codex"),
        ),
        (
            str(ROOT / "auth"),
            {**HOME, "CODEX_HOME": str(ROOT / "codex")},
            (ROOT / "auth", ROOT / "codex", ROOT / "home/.codex"),
        ),
        (
            str(ROOT / "codex"),
            {**HOME, "CODEX_HOME": str(ROOT / "codex")},
            (ROOT / "codex", ROOT / "home/.codex"),
        ),
        (None, {"CODEX_HOME": "relative"}, (Path.cwd() / "relative",)),
    ],
)
def test_auth_path_comes_before_codex_home_and_codex_home_before_the_home_folder(
    auth_path: str | None, environ: dict[str, str], folders: tuple[Path, ...]
) -> None:
    assert legacy_folders(settings(auth_path), environ, windows=False) == folders


def test_on_windows_the_user_profile_comes_before_the_home_folder() -> None:
    environ = {**HOME, "USERPROFILE": str(ROOT / "me")}
    expected = (ROOT / "me/.codex", ROOT / "home/.codex")
    assert legacy_folders(settings(), environ, windows=True) == expected


def test_a_further_instance_has_its_own_folder_and_none_that_the_environment_names() -> None:
    beside = load(config_path=None, environ={}, flags={}).settings.backends
    further = attrs.evolve(beside.openai_codex, auth_path=str(ROOT / "two"))
    family = Settings(backends=attrs.evolve(beside, further=(("openai-codex.2", further),)))
    environ = {**HOME, "CODEX_HOME": str(ROOT / "codex")}
    assert legacy_folders(family, environ, instance="openai-codex.2") == (ROOT / "two",)
    assert legacy_folders(family, environ) == (ROOT / "codex", ROOT / "home/.codex")
    with pytest.raises(KeyError):
        legacy_folders(family, environ, instance="openai-codex.3")


def test_a_tilde_is_the_home_folder() -> None:
    def place(text: str) -> Path:
        return absolute(text, folder=ROOT / "etc", environ=HOME, windows=False)

    assert place("~") == ROOT / "home"
    assert place("~/.codex") == ROOT / "home/.codex"
    assert place("~other/x") == ROOT / "etc/~other/x"
    assert place(str(ROOT / "x")) == ROOT / "x"


def test_a_dot_is_the_folder_itself() -> None:
    assert absolute(".", folder=ROOT / "etc", environ=HOME, windows=False) == ROOT / "etc"
