"""What may be imported where, as far as the import contracts cannot see it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
#: There only on Unix; a fast path may use them behind a guard.
UNIX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "posix_ipc", "syslog")
CORE = ("protocol", "profiles", "compaction", "accounts/pool", "accounts/strategies", "errors")
#: The places that may catch whatever comes, each for a reason that stands beside it.
BORDERS = {
    "cli/doctor/__init__": 1,  # the check border: the findings of the other checks are told
    "compaction/compress": 1,  # the compressor border: that output stays as it is
    "relay/reactors/reactor": 1,  # the reactor border: its call is refused, the turn goes on
    "relay/pump": 1,  # the stream's border: what its answer raises ends that stream only
    "relay/turn": 2,  # the request border, and its task that shows life: the turn ends properly
    "server/asgi": 1,  # the request border, once the head is out
    "server/hot_routes": 1,  # the same below quart
    "server/lightening": 2,
    "server/session_file": 1,  # the disk border: turns go on without what is kept
    "server/tcp": 2,  # the request border below the web framework: one request, one connection
    "server/websocket": 1,  # the request border of a message: the WebSocket goes on
    "sessions/actor": 2,  # task border: a session actor, in its own task and in its asker's
    "accounts/refresh": 1,  # task border: a token refresh
    "config/live": 1,  # task border: the configuration is read again
    "backends/codex/sockets/connection": 1,  # task border: a WebSocket
    "backends/codex/catalogue": 1,  # task border: the model list is asked for behind the scenes
}


def modules(*below: str) -> list[str]:
    names = []
    for path in sorted(SOURCE.rglob("*.py")):
        relative = path.relative_to(SOURCE).with_suffix("")
        inside = relative.relative_to("codexrelay").as_posix()
        if not below or any(inside == part or inside.startswith(f"{part}/") for part in below):
            parts = relative.parts[:-1] if relative.name == "__init__" else relative.parts
            names.append(".".join(parts))
    return names


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_the_core_brings_in_neither_trio_nor_httpx_nor_quart() -> None:
    result = run(
        "import importlib, sys\n"
        f"for name in {modules(*CORE)!r}: importlib.import_module(name)\n"
        "print(sorted({'trio', 'httpx', 'quart', 'hypercorn', 'anyio'} & set(sys.modules)))"
    )
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_every_module_imports_where_unix_modules_are_missing() -> None:
    every = [name for name in modules() if not name.endswith("__main__")]
    result = run(
        "import importlib, sys\n"
        # The libraries bring their own guards: they are loaded as this machine has them.
        "import hypercorn.trio, quart_trio, httpx, filelock, click, structlog, rich.console, trio\n"
        f"for name in {UNIX_ONLY!r}: sys.modules[name] = None\n"
        "import select; [delattr(select, n) for n in ('epoll', 'poll') if hasattr(select, n)]\n"
        f"for name in {every!r}: importlib.import_module(name)\n"
        "print('fine')"
    )
    assert result.stdout.strip() == "fine", result.stderr


def broad_handlers(path: Path) -> list[int]:
    def is_broad(kind: ast.expr | None) -> bool:
        match kind:
            case None:
                return True
            case ast.Name(id=name):
                return name in ("Exception", "BaseException")
            case ast.Tuple(elts=kinds):
                return any(is_broad(each) for each in kinds)
            case _:
                return False

    tree = ast.parse(path.read_text(encoding="utf-8"))
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    return [handler.lineno for handler in handlers if is_broad(handler.type)]


def test_only_the_borders_catch_whatever_comes() -> None:
    found = {
        path.relative_to(SOURCE / "codexrelay").with_suffix("").as_posix(): len(lines)
        for path in SOURCE.rglob("*.py")
        if (lines := broad_handlers(path))
    }
    assert found == BORDERS


@pytest.mark.parametrize("package", ["codexrelay", "harness"])
def test_every_package_says_what_lives_there(package: str) -> None:
    root = SOURCE / package if package == "codexrelay" else ROOT / package
    for init in root.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))), init
