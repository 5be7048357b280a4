"""Options of a sandbox: its clients, its user, its Data Warehouse and the lifetimes of its tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

# The audience of CARTO's API tokens, and the client id of CARTO's Python library, a public client.
CARTO_AUDIENCE = "carto-cloud-native-api"
CARTO_LOGIN_CLIENT_ID = "0dxb8HR3ATXCxJiPOJVHsLoHoAtbRX6u"

# Seconds, as seen in CARTO's responses: a day for its own tokens, and Google's default of an hour for the warehouse.
CARTO_TOKEN_LIFETIME = 86400
DW_TOKEN_LIFETIME = 3600

# Formats of the expiry by the name of its field in the response with a Data Warehouse token: seconds left, UTC epoch
# seconds, or RFC 3339 in UTC.
DW_EXPIRY_FORMS = {
    "expires_in": "seconds",
    "expiresIn": "seconds",
    "expires_at": "epoch",
    "expiresAt": "rfc3339",
    "expireTime": "rfc3339",
    "expiry": "rfc3339",
}


@dataclass(frozen=True)
class SandboxOptions:
    """Options with which a sandbox starts; lifetimes and faults can be changed while it runs.

    Attributes:
        port: Port on 127.0.0.1; 0 lets the operating system choose.
        client_id: Client id for machine-to-machine tokens (client credentials).
        client_secret: The secret of that client.
        login_client_id: Client id for browser logins and refresh tokens; a public client, without a secret.
        api_access_token: An API access token without expiry, accepted wherever a CARTO access token is.
        user: E-mail address of the only user; logins succeed as this user at once, without a form.
        audience: The audience that token requests and logins must name.
        scope: The scope of tokens whose request names none.
        project_id: The BigQuery project of the Data Warehouse.
        datasets: The datasets that exist from the start.
        carto_token_lifetime: Lifetime of CARTO access tokens, in seconds.
        dw_token_lifetime: Lifetime of Data Warehouse tokens, in seconds.
        dw_expiry_field: Name of the expiry field in responses with a Data Warehouse token, one of `DW_EXPIRY_FORMS`;
            None to send no expiry, like CARTO.
        reuse_dw_token: Whether to return the same Data Warehouse token until it expires, with its remaining lifetime.
        user_has_dw: Whether the user has a Data Warehouse; if not, requests for its token get a 404.
        grant_refresh_tokens: Whether to honour the scope `offline_access`.
        deny_login: Whether to answer each login with `access_denied`.
        eager_emulator: Whether to start the BigQuery emulator with the sandbox instead of on the first request.
        emulator_url: URL of a `local-bigquery` that runs already; None to start one.
        strict: Whether the emulator that the sandbox starts refuses what BigQuery refuses; docs/testing.md lists the
            rules.
        emulator_start_timeout: Seconds that the emulator may take to start; 60 are enough for a cold disk.

    Raises:
        ValueError: If `dw_expiry_field` is unknown.
    """

    port: int = 0
    client_id: str = "carto-sandbox-client"
    client_secret: str = field(default="carto-sandbox-client-secret", repr=False)
    login_client_id: str = CARTO_LOGIN_CLIENT_ID
    api_access_token: str = field(default="carto-sandbox-api-access-token", repr=False)
    user: str = "user@carto-sandbox.example"
    audience: str = CARTO_AUDIENCE
    scope: str = "read:current_user"
    project_id: str = "carto-dw-ac-sandbox"
    datasets: tuple[str, ...] = ("shared", "private_sandbox")
    carto_token_lifetime: float = CARTO_TOKEN_LIFETIME
    dw_token_lifetime: float = DW_TOKEN_LIFETIME
    dw_expiry_field: str | None = None
    reuse_dw_token: bool = False
    user_has_dw: bool = True
    grant_refresh_tokens: bool = True
    deny_login: bool = False
    eager_emulator: bool = False
    emulator_url: str | None = None
    emulator_start_timeout: float = 60
    strict: bool = True

    def __post_init__(self) -> None:
        if self.dw_expiry_field is not None and self.dw_expiry_field not in DW_EXPIRY_FORMS:
            raise ValueError(f"dw_expiry_field must be one of {', '.join(DW_EXPIRY_FORMS)}, or None")
