"""What a sandbox is made of: its client, its user, its warehouse and how long its tokens live."""

from __future__ import annotations

from dataclasses import dataclass, field

# CARTO's audience for API tokens, and the public client of its Python library.
CARTO_AUDIENCE = "carto-cloud-native-api"
CARTO_LOGIN_CLIENT_ID = "0dxb8HR3ATXCxJiPOJVHsLoHoAtbRX6u"

# Seen in CARTO's replies: a day for its own tokens; Google's default of an hour for the warehouse's.
CARTO_TOKEN_LIFETIME = 86400
DW_TOKEN_LIFETIME = 3600

# In which form the warehouse exchange can tell an expiry: seconds left, epoch seconds, or RFC 3339 in UTC.
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
    """How a sandbox behaves from its start; lifetimes and faults can be changed while it runs.

    Attributes:
        port: Port on 127.0.0.1; 0 lets the operating system choose.
        client_id: The machine-to-machine client.
        client_secret: Its secret.
        login_client_id: The public client for browser logins and refresh tokens.
        api_access_token: A permanent token that is accepted as Bearer wherever a CARTO token is.
        user: E-mail address of the one user there is; a login is answered as theirs at once.
        audience: The audience a token request must name.
        scope: The scope of a token whose request named none.
        project_id: BigQuery project of the Data Warehouse.
        datasets: Datasets that exist from the start.
        carto_token_lifetime: Seconds a CARTO access token lives.
        dw_token_lifetime: Seconds a Data Warehouse token lives.
        dw_expiry_field: Name of an expiry field in the exchange's reply, one of `DW_EXPIRY_FORMS`; None, like
            the real one, sends none.
        reuse_dw_token: The exchange hands out the same Data Warehouse token while it lives, part-used.
        user_has_dw: False makes the exchange answer 404.
        grant_refresh_tokens: False ignores the scope `offline_access`.
        deny_login: True answers each login with `access_denied`.
        eager_emulator: True starts the BigQuery emulator with the sandbox instead of on the first request.
        emulator_url: A `local-bigquery` that runs already, to be used instead of one of our own.
        emulator_start_timeout: Seconds an emulator may take to start; 60 covers a cold disk.
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

    def __post_init__(self) -> None:
        if self.dw_expiry_field is not None and self.dw_expiry_field not in DW_EXPIRY_FORMS:
            raise ValueError(f"dw_expiry_field must be one of {', '.join(DW_EXPIRY_FORMS)}, or None")
