"""The `Sandbox` class, which runs a local CARTO."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from .errors import SandboxError
from .faults import Cut, Fault
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
    """A local CARTO on 127.0.0.1, with the OAuth server, the API and BigQuery on one port.

    Use it as a context manager:

        with Sandbox() as sandbox:
            auth = CartoAuth.from_mapping(sandbox.account)

    Args:
        options: The options; None for the defaults.
        clock: Returns the time by which tokens expire, in UTC epoch seconds; tests may pass their own.
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
        """Start the server. The BigQuery emulator starts on its first request, or now with `eager_emulator`.

        Raises:
            SandboxError: If the sandbox was started before, packages are missing, or the emulator does not start.
            OSError: If the port is taken.
        """
        if self._listener is not None:
            raise SandboxError("A sandbox can be started only once; create a new one")
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
            strict=options.strict,
        )
        self._listener = Listener(make_app(self._state, self._emulator), options.port)
        self._state.url = self._listener.start()
        if not options.eager_emulator:
            return
        try:
            self.start_emulator()
        except BaseException:  # also KeyboardInterrupt: the server must not keep running
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and the emulator and remove their files. Can be called more than once."""
        self._state.stopping.set()
        if self._listener is not None:
            self._listener.stop()
        if self._emulator is not None:
            self._emulator.stop()

    def start_emulator(self) -> None:
        """Start the BigQuery emulator now. The first start on a machine creates its Python environment.

        Raises:
            SandboxError: If the emulator does not start; the message has the end of its log, or says what to install.
        """
        if self._emulator is None:
            raise SandboxError("Start the sandbox first")
        self._emulator.start()

    @property
    def emulator_pid(self) -> int | None:
        """Process id of the emulator that the sandbox started; None while there is none."""
        return None if self._emulator is None else self._emulator.pid

    @property
    def url(self) -> str:
        """The URL of the OAuth server, the API and BigQuery.

        Raises:
            SandboxError: If the sandbox has not been started.
        """
        if not self._state.url:
            raise SandboxError("The sandbox has not been started")
        return self._state.url

    @property
    def account(self) -> dict[str, str]:
        """The fields for `CartoAuth.from_mapping`, including the client secret."""
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
        """Return the fields of `account` as `CARTO_…` environment variables, including the client secret."""
        return {f"CARTO_{name.upper()}": value for name, value in self.account.items()}

    def write_credentials(self, path: str | os.PathLike[str]) -> Path:
        """Write a credentials file for `CartoAuth.from_m2m`, readable only by its owner.

        Args:
            path: Where to write it.

        Returns:
            The path of the file.

        Raises:
            FileExistsError: If the file exists already: it may hold the credentials of another account.
        """
        account = self.account
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({name: account[name] for name in _FILE_FIELDS}, file, indent=2)
            file.write("\n")
        return Path(path)

    def stats(self) -> SandboxStats:
        """Return the counts since the start or the last reset."""
        return self._state.stats.snapshot()

    def fault(
        self,
        endpoint: str,
        *,
        delay: float = 0,
        status: int | None = None,
        body: str | bytes | Mapping[str, object] | None = None,
        content_type: str = "application/json",
        retry_after: float | str | datetime | None = None,
        cut: Cut | None = None,
        count: int | None = None,
        skip: int = 0,
        match: str | None = None,
    ) -> None:
        """Add a fault to an endpoint; the arguments are the attributes of `Fault`.

        With this, the next two token requests get a 503:

            sandbox.fault("token", status=503, count=2)

        Raises:
            ValueError: If a value is invalid, or the fault would change nothing.
        """
        self._state.faults.add(
            Fault(
                endpoint,
                delay=delay,
                status=status,
                body=body,
                content_type=content_type,
                retry_after=retry_after,
                cut=cut,
                count=count,
                skip=skip,
                match=match,
            )
        )

    def clear_faults(self) -> None:
        """Deactivate all faults."""
        self._state.faults.clear()

    def set_lifetimes(self, *, carto: float | None = None, dw: float | None = None) -> None:
        """Change the lifetimes of tokens that are issued from now on.

        Args:
            carto: Seconds for CARTO access tokens; None for no change.
            dw: Seconds for Data Warehouse tokens; None for no change.
        """
        self._state.set_lifetimes(carto=carto, dw=dw)

    def revoke(self, what: TokenKind) -> int:
        """Revoke all tokens of a kind that were issued so far.

        Args:
            what: The kind: `carto`, `dw` or `refresh`.

        Returns:
            The number of revoked tokens, including expired ones.
        """
        return self._state.tokens.revoke(what)

    def reset(self) -> None:
        """Clear counts and faults and restore the lifetimes of the options. Tokens and tables stay."""
        self._state.reset()
