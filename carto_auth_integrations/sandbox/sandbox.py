"""`Sandbox`: a whole local CARTO as one object."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .errors import SandboxError
from .faults import Fault
from .options import SandboxOptions
from .state import SandboxState, SandboxStats, TokenKind

if TYPE_CHECKING:
    from .emulator import Emulator
    from .listener import Listener

_FILE_FIELDS = (
    "api_base_url",
    "client_id",
    "client_secret",
    "auth_url",
    "accounts_url",
    "audience",
    "bigquery_endpoint",
)


class Sandbox:
    """A local CARTO on 127.0.0.1: login, API and BigQuery on one port. Use it as a context manager.

    Args:
        options: How it behaves.
        clock: The time by which tokens expire, UTC epoch seconds; tests may pass their own.
    """

    def __init__(self, options: SandboxOptions | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.options = options or SandboxOptions()
        self._state = SandboxState(self.options, clock)
        self._listener: Listener | None = None
        self._emulator: Emulator | None = None

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Sandbox {self._state.url or 'not started'}>"

    def start(self) -> None:
        """Starts to serve; the BigQuery emulator waits for its first request, unless it is to be eager.

        Raises:
            SandboxError: It was started before, its packages are missing, or the emulator does not start.
            OSError: The port is taken.
        """
        if self._listener is not None:
            raise SandboxError("This sandbox was started before; make a new one")
        try:
            from .app import make_app
            from .emulator import Emulator
            from .listener import Listener
        except ModuleNotFoundError as error:
            raise SandboxError(
                f"The sandbox needs {error.name}: pip install 'carto-auth-integrations[sandbox]'"
            ) from error
        options = self.options
        self._emulator = Emulator(
            options.project_id,
            options.datasets,
            url=options.emulator_url,
            start_timeout=options.emulator_start_timeout,
        )
        self._listener = Listener(make_app(self._state, self._emulator), options.port)
        self._state.url = self._listener.start()
        if not options.eager_emulator:
            return
        try:
            self.start_emulator()
        except BaseException:  # Ctrl-C too: the server must not stay behind
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server and the emulator and removes what they wrote; safe to call twice."""
        self._state.stopping.set()
        if self._listener is not None:
            self._listener.stop()
        if self._emulator is not None:
            self._emulator.stop()

    def start_emulator(self) -> None:
        """Starts the BigQuery emulator now; makes its environment on the first use on this machine.

        Raises:
            SandboxError: It does not start; shows the end of its log, or says what to install.
        """
        if self._emulator is None:
            raise SandboxError("Start the sandbox first")
        self._emulator.start()

    @property
    def emulator_pid(self) -> int | None:
        """Process id of the emulator while the sandbox runs one of its own."""
        return None if self._emulator is None else self._emulator.pid

    @property
    def url(self) -> str:
        """Where everything answers.

        Raises:
            SandboxError: The sandbox has not been started.
        """
        if not self._state.url:
            raise SandboxError("The sandbox has not been started")
        return self._state.url

    @property
    def account(self) -> dict[str, str]:
        """The account's fields under the names that `CartoAuth` gives them, the client secret among them."""
        return {
            "auth_mode": "m2m",
            "api_base_url": self.url,
            "auth_url": self.url,
            "accounts_url": self.url,
            "audience": self.options.audience,
            "client_id": self.options.client_id,
            "client_secret": self.options.client_secret,
            "bigquery_endpoint": self.url,
        }

    def environment(self) -> dict[str, str]:
        """The account as environment variables, the client secret among them."""
        return {f"CARTO_{name.upper()}": value for name, value in self.account.items()}

    def write_credentials(self, path: str | os.PathLike[str]) -> Path:
        """Writes a credentials file that `CartoAuth.from_m2m` reads, for its owner's eyes only.

        Args:
            path: A file that does not exist yet.

        Raises:
            FileExistsError: There is a file already; credentials of another account are not overwritten.
        """
        account = self.account
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({name: account[name] for name in _FILE_FIELDS}, file, indent=2)
            file.write("\n")
        return Path(path)

    def stats(self) -> SandboxStats:
        """What the sandbox did since it started or was last reset."""
        return self._state.stats.snapshot()

    def fault(self, endpoint: str, **fields: Any) -> None:
        """Makes an endpoint misbehave.

        Args:
            endpoint: One of `faults.ENDPOINTS`.
            **fields: The other attributes of `Fault`.
        """
        self._state.faults.add(Fault(endpoint, **fields))

    def clear_faults(self) -> None:
        """Ends all faults."""
        self._state.faults.clear()

    def set_lifetimes(self, *, carto: float | None = None, dw: float | None = None) -> None:
        """Changes how long tokens live that are issued from now on.

        Args:
            carto: Seconds for CARTO access tokens; None leaves them.
            dw: Seconds for Data Warehouse tokens; None leaves them.
        """
        self._state.set_lifetimes(carto=carto, dw=dw)

    def revoke(self, what: TokenKind) -> int:
        """Ends all tokens of a kind issued so far.

        Args:
            what: `carto`, `dw` or `refresh`.

        Returns:
            How many there were, expired ones among them.
        """
        return self._state.tokens.revoke(what)

    def reset(self) -> None:
        """Forgets counts and faults and takes lifetimes back to the options'; tokens and tables stay."""
        self._state.reset()
