"""What the relay took when this was last noted, and how much more a change may make of it.

To be noted anew, from a run of `python -m benchmarks.gate` on a quiet machine, by whoever makes the
relay cheaper, or dearer for a reason.
"""

from __future__ import annotations

from typing import Final

#: Measurement -> calls for each request or event, of the main thread. Of one version of Python:
#: others call other things.
CALLS: Final = {"first-event": 1500.0, "chat": 1820.0, "burst": 1.1, "chat-burst": 2.0}
CALLS_PYTHON: Final = (3, 11)
#: For requests they hardly vary from run to run. For events they do: a call is for a whole block,
#: and how much a block holds is for the machine to say.
CALLS_TELL_AT: Final = 1.1
CALLS_FAIL_AT: Final = {"first-event": 1.25, "chat": 1.25, "burst": 2.5, "chat-burst": 2.5}

#: Measurement -> CPU for each request or event, divided by that of bare trio in the same run.
CPU_RATIOS: Final = {"first-event": 8.8, "burst": 3.8, "200x50": 1.1}
#: Neighbours on a busy machine move the ratio too, so a third more is told of and only twice as
#: much is a failure.
CPU_TELL_AT: Final = 1.3
CPU_FAIL_AT: Final = 2.0
