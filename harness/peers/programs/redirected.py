"""Starts a program in whose modules some addresses are constants, with others in their place.

`redirected.py TOLD ARGUMENT…`, run by the program's own interpreter; TOLD is a JSON object:
`modules` are imported first, `constants` are set wherever these and their neighbours hold them,
`entry` (`module:function`) is called with the arguments. A constant that is nowhere to be found
ends it: the program would talk to the real service.
"""

from __future__ import annotations

import importlib
import json
import sys


def main() -> None:
    """Do what the first argument tells, with the others."""
    told = json.loads(sys.argv[1])
    package = told["entry"].partition(".")[0].partition(":")[0]
    for name in told["modules"]:
        importlib.import_module(name)
    packages = {package, *(name.partition(".")[0] for name in told["modules"])}
    for constant, value in told["constants"].items():
        holders = [
            vars(module)
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] in packages and constant in vars(module)
        ]
        if not holders:
            sys.exit(f"no module has a constant {constant}")
        for names in holders:
            names[constant] = value
    module, _, function = told["entry"].partition(":")
    sys.argv[:2] = [package]
    getattr(importlib.import_module(module), function)()


if __name__ == "__main__":
    main()
