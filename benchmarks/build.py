"""The two C programs, compiled anew for each run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from benchmarks.subject import MeasurementError

_HERE: Final = Path(__file__).resolve().parent


def build(folder: Path) -> None:
    """Compile the stub and the load generator into `folder`.

    Raises:
        MeasurementError: there is no C compiler, or it failed and has said why.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        raise MeasurementError("a C compiler is needed (cc or gcc)")
    for name in ("stub", "load"):
        source, program = _HERE / f"{name}.c", folder / name
        done = subprocess.run([compiler, "-O2", "-o", program, source], check=False)
        if done.returncode:
            raise MeasurementError(f"{source.name} does not compile")
