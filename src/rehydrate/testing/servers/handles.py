"""What a test does with any server that it has: end it, kill it, let it stand still, put older data below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

from rehydrate.testing.servers.process import ServerProcess


class OneServer:
    """A server that is one process, with those that this starts."""

    _process: ServerProcess

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.runs

    def start(self) -> None:
        """Start it, on the same port and data as before, and wait until it can be used."""
        raise NotImplementedError

    def stop(self) -> None:
        """Shut it down in good order: what it leads it hands over, and what was stored is there after the start."""
        self._process.stop()

    def kill(self) -> None:
        """Kill it with all of its processes (`kill -9`), in the middle of whatever it does."""
        self._process.kill()

    def restart(self) -> None:
        """Stop it if it runs, and start it on the same port and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let all of its processes stand still (SIGSTOP): connections stay open, and nothing answers."""
        self._process.pause()

    def resume(self) -> None:
        self._process.resume()

    def discard(self) -> None:
        """End it, never to be started again."""
        raise NotImplementedError

    def save_data(self) -> Path:
        """A copy of its data, taken while it is stopped."""
        raise NotImplementedError

    def restore_data(self, saved: Path) -> None:
        """Put such a copy in the place of its data while it is stopped."""
        raise NotImplementedError

    def _is_stopped(self) -> None:
        if self._process.runs:
            raise RuntimeError("stop the server first: a copy of data that is written to is none")


M = TypeVar("M", bound=OneServer)


class ServersTogether(Generic[M]):
    """Several servers that are one to those who use them, and the same for all of them at once."""

    _all: Sequence[M]

    def start(self) -> None:
        """Start those that do not run, on the same ports and data, and wait until they can be used together."""
        for server in self._all:
            if not server.runs:
                server.start()
        self._wait_until_usable()

    def _wait_until_usable(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        """Shut all down in good order."""
        for server in self._all:
            server.stop()

    def kill(self) -> None:
        """Kill all (`kill -9`)."""
        for server in self._all:
            server.kill()

    def restart(self) -> None:
        """Stop what runs, and start all on the same ports and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let all stand still (SIGSTOP)."""
        for server in self._all:
            server.pause()

    def resume(self) -> None:
        for server in self._all:
            server.resume()

    def discard(self) -> None:
        """End all, never to be started again."""
        for server in self._all:
            server.discard()

    def save_data(self) -> Sequence[Path]:
        """Copies of the data of all, taken while they are stopped."""
        return [server.save_data() for server in self._all]

    def restore_data(self, saved: Sequence[Path]) -> None:
        """Put such copies in the place of the data while all are stopped: what is stored goes back in time."""
        for server, its_data in zip(self._all, saved, strict=True):
            server.restore_data(its_data)
