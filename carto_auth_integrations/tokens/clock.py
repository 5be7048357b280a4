"""The clocks of this package: wall-clock time for what is stored, the monotonic clock for pauses inside a process."""

from __future__ import annotations

import time as system


class Clock:
    """The system's clocks. Tests pass their own.

    Attributes:
        time: Returns UTC epoch seconds.
        monotonic: Returns seconds that never go backwards.
    """

    time = staticmethod(system.time)
    monotonic = staticmethod(system.monotonic)


SYSTEM = Clock()
