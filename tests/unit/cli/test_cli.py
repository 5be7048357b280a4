"""`carto-auth` without a server: how it chooses the account, what it prints, what it never prints, how it fails."""

from __future__ import annotations

import inspect
import json
import logging
import os
import pty
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner, Result

from carto_auth_integrations import CredentialsError, ServiceUnavailable, __version__
from carto_auth_integrations.account.secret import Secret
from carto_auth_integrations.auth import CartoAuth
from carto_auth_integrations.checks import CheckResult
from carto_auth_integrations.cli.commands import carto_auth
from carto_auth_integrations.cli.spelling import as_options
from carto_auth_integrations.tokens.source import TokenSource
from carto_auth_integrations.tokens.token import Entry, Failure, Token
from carto_auth_integrations.warehouse import CartoWarehouse, LoadOptions, LoadResult
from carto_auth_integrations.warehouse.options import BadRows, ColumnNames, Edges, FileFormat, SourceKeywords

API = "https://gcp-us-east1.api.carto.com"
SECRET = "the-client-secret"
CLI = [sys.executable, "-m", "carto_auth_integrations.cli"]
ANSI = re.compile(r"\x1b\[")


@pytest.fixture(autouse=True)
def empty_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [name for name in os.environ if name.startswith("CARTO_") or name in ("NO_COLOR", "FORCE_COLOR")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def m2m_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CartoAuth:
    monkeypatch.setenv("CARTO_API_BASE_URL", API)
    monkeypatch.setenv("CARTO_CLIENT_ID", "env-client")
    monkeypatch.setenv("CARTO_CLIENT_SECRET", SECRET)
    monkeypatch.setenv("CARTO_TOKEN_STORE", str(tmp_path / "tokens.json"))
    return CartoAuth.from_env()


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(carto_auth, arguments, **options)


def token_for(lifetime: float, value: str = "an-access-token", **details: str) -> Token:
    return Token.issued(Secret(value), started_at=time.time(), lifetime=lifetime, details=details)


def credentials_file(path: Path, **changes: str) -> Path:
    path.write_text(json.dumps({"api_base_url": API, "client_id": "file-client", "client_secret": SECRET, **changes}))
    path.chmod(0o600)
    return path


def reports(*arguments: str) -> list[dict[str, Any]]:
    result = run("status", "--json", *arguments)
    assert result.exit_code == 0, result.output
    content: list[dict[str, Any]] = json.loads(result.stdout)
    return content


# The account


def test_without_any_account_the_error_names_all_three_kinds() -> None:
    for command in ("token", "check", "status", "logout"):
        result = run(command)

        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr.startswith("Error: No CARTO account is set up here.")
        for kind in ("--credentials FILE", "CARTO_CLIENT_SECRET", "`carto-auth login`"):
            assert kind in result.stderr


def test_a_credentials_file_comes_before_the_environment(m2m_environment: CartoAuth, tmp_path: Path) -> None:
    file = credentials_file(tmp_path / "carto.json")

    (report,) = reports("--credentials", str(file))

    assert report["client_id"] == "file-client"
    assert report["origin"] == f"file:{file}"


def test_the_environment_comes_before_the_stored_login(m2m_environment: CartoAuth) -> None:
    CartoAuth.from_oauth().access_tokens.source.adopt(token_for(3600, "login-token"))
    m2m_environment.access_tokens.source.adopt(token_for(3600, "env-token"))

    assert run("token").stdout == "env-token\n"
    assert run("token", "--oauth").stdout == "login-token\n"


def test_the_stored_login_is_used_if_the_environment_has_no_account() -> None:
    CartoAuth.from_oauth().access_tokens.source.adopt(token_for(3600, "login-token"))

    assert run("token").stdout == "login-token\n"


def test_a_login_made_with_an_organization_is_found_with_it() -> None:
    CartoAuth.from_oauth(org="org_abc").access_tokens.source.adopt(token_for(3600, "org-token"))

    assert run("token", "--oauth").exit_code == 1
    assert run("token", "--org", "org_abc").stdout == "org-token\n"


def test_an_incomplete_environment_is_an_error_that_names_the_missing_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CARTO_CLIENT_ID", "env-client")
    monkeypatch.setenv("CARTO_API_BASE_URL", API)

    result = run("token")

    assert result.exit_code == 1
    assert "CARTO_CLIENT_SECRET" in result.stderr


@pytest.mark.parametrize(
    "options", [("--oauth", "--prompt-secret"), ("--credentials", "x", "--oauth"), ("--credentials", "x", "--org", "y")]
)
def test_two_accounts_at_once_are_a_usage_error(options: tuple[str, ...]) -> None:
    result = run("status", *options)

    assert result.exit_code == 2
    assert "Choose one account" in result.stderr


def test_a_secret_typed_at_the_prompt_completes_the_environment_and_is_not_echoed(
    m2m_environment: CartoAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    m2m_environment.access_tokens.source.adopt(token_for(3600, "env-token"))
    monkeypatch.delenv("CARTO_CLIENT_SECRET")

    result = run("token", "--prompt-secret", input=f"{SECRET}\n")

    assert result.stdout == "env-token\n"
    assert SECRET not in result.output


def test_no_command_takes_a_secret_as_an_argument() -> None:
    commands: list[click.Command] = [carto_auth, *carto_auth.commands.values()]
    for command in commands:
        for parameter in command.params:
            if isinstance(parameter, click.Argument):
                assert parameter.name in ("sql", "source", "file", "destination", "table"), parameter.name
            elif not parameter.is_flag:
                assert not re.search("secret|token|password", " ".join(parameter.opts)), parameter.opts
        text = run(*([] if command is carto_auth else [command.name or ""]), "--help").stdout
        assert not re.search(r"--(client-secret|access-token|token|secret)\b", text)


# Help and version


@pytest.mark.parametrize("command", ["login", "logout", "status", "token", "check", "query", "load", "sandbox"])
def test_each_command_shows_an_example(command: str) -> None:
    result = run(command, "--help")

    assert result.exit_code == 0
    assert "Example:\n" in result.stdout
    assert f"carto-auth {command}" in result.stdout


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").stdout.strip() == f"carto-auth, version {__version__}"


# The options of load


def test_the_options_of_load_are_options_of_the_warehouse() -> None:
    own = {"source", "destination", "as_json", "dry_run"}
    account = {parameter.name for parameter in carto_auth.commands["logout"].params}

    offered = {parameter.name for parameter in carto_auth.commands["load"].params} - own - account

    assert offered - {"idempotency_key"} <= {field.name for field in fields(LoadOptions)}
    assert offered <= set(inspect.signature(CartoWarehouse.load).parameters)
    assert set(SourceKeywords.__annotations__) - offered == {"schema", "make_valid"}, "make_valid is --repair"


@pytest.mark.parametrize(
    ("name", "choices"),
    [("format", FileFormat), ("edges", Edges), ("bad_rows", BadRows), ("column_names", ColumnNames)],
)
def test_the_choices_of_load_are_those_of_the_warehouse(name: str, choices: Any) -> None:
    (option,) = (each for each in carto_auth.commands["load"].params if each.name == name)

    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == get_args(choices)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), LoadOptions()),
        (("--replace",), LoadOptions(write_disposition="WRITE_TRUNCATE")),
        (("--format", "geojson"), LoadOptions(format="GEOJSON")),
        (
            ("--geometry", "a", "--geometry", "b", "--crs", "EPSG:3857"),
            LoadOptions(geometry=("a", "b"), crs="EPSG:3857"),
        ),
        (("--create-dataset",), LoadOptions(create_dataset=True)),
        (("--lon", "x", "--lat", "y", "--edges", "spherical"), LoadOptions(lon="x", lat="y", edges="spherical")),
        (("--repair",), LoadOptions(invalid_geometry="repair")),
        (("--bad-rows", "quarantine"), LoadOptions(bad_rows="quarantine")),
        (("--column-names", "sanitize"), LoadOptions(column_names="sanitize")),
        (
            ("--column-type", "zip=STRING", "--column-type", "a=b=NUMERIC(10, 2)"),
            LoadOptions(column_types={"zip": "STRING", "a=b": "NUMERIC(10, 2)"}),
        ),
        (("--layer", "shops"), LoadOptions(layer="shops")),
        (
            ("--delimiter", ";", "--encoding", "latin-1", "--quote", "'", "--null-marker", "NA"),
            LoadOptions(delimiter=";", encoding="latin-1", quote="'", null_marker="NA"),
        ),
        (("--skip-rows", "2", "--no-header"), LoadOptions(skip_rows=2, header=False)),
    ],
)
def test_load_passes_its_options_to_the_warehouse(
    m2m_environment: CartoAuth, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], options: LoadOptions
) -> None:
    seen: dict[str, Any] = {}

    def record(_: CartoWarehouse, source: str, destination: str, **keywords: Any) -> LoadResult:
        seen.update(keywords, source=source, destination=destination)
        return LoadResult("carto_1", "US", "p.d.t", rows=2, bytes=1234, reattached=False)

    monkeypatch.setattr(CartoWarehouse, "load", record)

    result = run("load", "stores.csv", "d.t", "--key", "the key", *arguments)

    assert result.stdout == "2 rows loaded into p.d.t: 1.2 kB, job carto_1.\n"
    assert (seen.pop("source"), seen.pop("destination"), seen.pop("idempotency_key")) == (
        "stores.csv",
        "d.t",
        "the key",
    )
    seen.pop("on_progress")
    assert LoadOptions(**seen) == options


def test_load_takes_several_files(m2m_environment: CartoAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def record(_: CartoWarehouse, source: Any, destination: str, **__: Any) -> LoadResult:
        seen.extend((source, destination))
        return LoadResult("carto_1", "US", "p.d.t", rows=2, bytes=1234, reattached=False)

    monkeypatch.setattr(CartoWarehouse, "load", record)

    run("load", "a.csv", "b.csv", "c.csv", "d.t")

    assert seen == [["a.csv", "b.csv", "c.csv"], "d.t"]


def test_load_says_what_was_rejected_and_repaired(m2m_environment: CartoAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    result = LoadResult(
        "carto_1",
        "US",
        "p.d.t",
        2000,
        1234,
        False,
        rejected=1,
        rejected_table="p.d.t__rejected",
        repaired=2,
        area_change=4567,
    )
    monkeypatch.setattr(CartoWarehouse, "load", lambda *_, **__: result)

    assert run("load", "a.csv", "d.t").stdout.splitlines() == [
        "2,000 rows loaded into p.d.t: 1.2 kB, job carto_1.",
        "1 row did not fit, and went to p.d.t__rejected with the reasons.",
        "2 geometries repaired; areas changed by 4,567 m².",
    ]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("-", "d.t"), "give --format"),
        (("-", "a.csv", "d.t", "--format", "csv"), "by itself"),
        (("a.csv",), "Missing argument"),
        (("a.csv", "d.t", "--column-type", "zip"), "'zip' is not COLUMN=TYPE"),
        (("a.csv", "d.t", "--column-type", "=STRING"), "'=STRING' is not COLUMN=TYPE"),
        (("a.csv", "d.t", "--column-type", "a=STRING", "--column-type", "a=INT64"), "a is given twice"),
        (("a.csv", "d.t", "--edges", "curved"), "'curved' is not one of"),
        (("a.csv", "d.t", "--skip-rows", "-1"), "-1"),
    ],
)
def test_a_load_that_makes_no_sense_is_a_usage_error(arguments: tuple[str, ...], part: str) -> None:
    result = run("load", *arguments)

    assert result.exit_code == 2
    assert part in result.stderr


# A dry run of load

STORES = """\
id;name;zip;x;y;size
1;"Köln; Dom";01067;6.958;50.941;1.5
2;León;24001;-5.567;42.599;
3;a very long name that does not fit beside the others in a line of eighty characters;1;2;3;4
"""


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("stores.csv").write_text(STORES, encoding="utf-8")
    return "stores.csv"


def test_a_dry_run_needs_no_account_and_shows_what_would_be_loaded(stores: str) -> None:
    result = run("load", stores, "d.t", "--dry-run", "--lon", "x", "--lat", "y")

    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    head, identity, name, zip_code, *_ = lines
    assert head.split() == ["column", "type", "row", "1", "row", "2", "row", "3"]
    assert identity.split() == ["id", "INTEGER", "1", "2", "3"]
    assert name.split()[:4] == ["name", "STRING", "Köln;", "Dom"]
    assert "…" in name
    assert zip_code.split() == ["zip", "STRING", "01067", "24001", "1"]
    assert [line.index("INTEGER") for line in lines if "INTEGER" in line] == [head.index("type")]
    facts = dict(re.split(r": +", line, maxsplit=1) for line in lines if re.match(r"[a-z ]+: ", line))
    assert facts == {
        "format": "CSV",
        "delimiter": '";"',
        "encoding": "utf-8",
        "compression": "none",
        "header": "yes",
        "rows": "3",
        "geometry": "geom: longitude and latitude, planar edges",
        "bounds": "west -5.567, south 3, east 6.958, north 50.941",
    }
    assert lines[-1] == "Nothing was loaded."


def test_a_dry_run_makes_no_request(stores: str, m2m_environment: CartoAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a request was made")

    monkeypatch.setattr("carto_auth_integrations.http.call", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)

    assert run("load", stores, "d.t", "--dry-run").exit_code == 0


def test_a_dry_run_in_json_is_one_object_with_every_value_whole(stores: str) -> None:
    result = run("load", stores, "d.t", "--dry-run", "--json", "--column-type", "size=NUMERIC")

    content = json.loads(result.stdout)
    assert content["columns"] == {
        "id": "INTEGER",
        "name": "STRING",
        "zip": "STRING",
        "x": "FLOAT",
        "y": "FLOAT",
        "size": "NUMERIC",
    }
    assert content["rows"] == 3
    assert content["first_rows"][0]["size"] == "1.500000000"
    assert content["first_rows"][2]["name"].endswith("eighty characters")
    assert (content["rejected"], content["reasons"], content["bounds"]) == (0, [], None)
    assert content["found"]["delimiter"] == ";"


def test_a_dry_run_tells_what_does_not_fit_and_what_would_be_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("shapes.csv")
    bowtie, short = "POLYGON ((0 0, 1 1, 1 0, 0 1, 0 0))", "LINESTRING (1 1)"
    file.write_text("id,geom\n" + "".join(f'{n},"{short}"\n' for n in range(12)) + f'12,"{bowtie}"\n13,"POINT (1 2)"\n')

    result = run("load", str(file), "d.t", "--dry-run", "--geometry", "geom", "--bad-rows", "quarantine", "--repair")

    lines = result.stdout.splitlines()
    assert "rows:          2" in lines
    assert "rejected:      12 rows would go to d.t__rejected" in lines
    assert len([line for line in lines if "shapes.csv: row " in line]) == 10
    (repaired,) = (line for line in lines if line.startswith("repaired:"))
    assert re.fullmatch(r"repaired: +1 geometry; areas would change by [\d,]+ m²", repaired)


def test_a_dry_run_reads_standard_input(stores: str) -> None:
    result = run("load", "-", "d.t", "--dry-run", "--format", "csv", input="a|b\n1|x\n2|y\n")

    assert result.exit_code == 0, result.stderr
    assert "rows:          2" in result.stdout.splitlines()
    assert 'delimiter:     "|"' in result.stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("no.csv", "d.t"), "There is no file no.csv"),
        (("stores.csv", "d.t", "--lon", "x"), "--lon and --lat name the columns of a point together: give both"),
        (("stores.csv", "d.t", "--column-type", "name=INT64"), "stores.csv: row 1"),
        (("stores.csv", "d.t", "--format", "parquet"), "is not PARQUET"),
        (("gs://bucket/a.csv", "d.t"), "BigQuery reads gs://bucket/a.csv by itself"),
    ],
)
def test_a_dry_run_that_finds_a_fault_is_one_line(stores: str, arguments: tuple[str, ...], part: str) -> None:
    result = run("load", *arguments, "--dry-run")

    assert (result.exit_code, result.stdout) == (1, "")
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert part in error


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('pass format="JSON" to load', "pass --format JSON to load"),
        ("name one with layer=, one of a, b", "name one with --layer, one of a, b"),
        ('pass column_types={"a b": "INTERVAL"}, or', "pass --column-type a b=INTERVAL, or"),
        ("give the type with column_types= or schema=.", "give the type with --column-type."),
        ('invalid_geometry="repair" mends it', "--repair mends it"),
        ("pass header=False or skip_rows=.", "pass --no-header or --skip-rows."),
        (
            "There is no file https://a.example/b?format=csv&layer=3",
            "There is no file https://a.example/b?format=csv&layer=3",
        ),
    ],
)
def test_a_message_names_options_instead_of_keywords(said: str, shown: str) -> None:
    assert as_options(said) == shown


# token


def test_the_token_alone_goes_to_standard_output(m2m_environment: CartoAuth) -> None:
    m2m_environment.access_tokens.source.adopt(token_for(3600))

    result = run("token")

    assert (result.stdout, result.stderr, result.exit_code) == ("an-access-token\n", "", 0)


def test_the_dw_token_is_printed_on_request(m2m_environment: CartoAuth) -> None:
    m2m_environment.dw_tokens.source.adopt(token_for(3600, "a-dw-token", project_id="carto-dw-ac-x"))

    assert run("token", "--dw").stdout == "a-dw-token\n"


def test_a_token_on_a_terminal_is_printed_with_a_warning(m2m_environment: CartoAuth) -> None:
    m2m_environment.access_tokens.source.adopt(token_for(3600))

    shown = on_a_terminal("token")

    assert "an-access-token" in shown
    assert "Warning: the token is visible on this screen" in shown


def test_token_never_opens_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url, **_: opened.append(url))
    monkeypatch.setattr("carto_auth_integrations.oauth.login.is_person_there", lambda: True)

    result = run("token", "--oauth")

    assert result.exit_code == 1
    assert "run `carto-auth login` in a terminal" in result.stderr
    assert opened == []


# status


def test_status_without_tokens_says_none(m2m_environment: CartoAuth) -> None:
    result = run("status")

    assert result.exit_code == 0
    assert "account:       environment (m2m)\n" in result.stdout
    assert "client id:     env-client\n" in result.stdout
    assert "access token:  none\n" in result.stdout
    assert "DW token:      none\n" in result.stdout


@pytest.mark.parametrize(
    ("age", "state", "line"),
    [
        (0, "FRESH", "23 hours and 59 minutes left"),
        (86400 - 330, "STALE", "5 minutes and 29 seconds left"),
        (86400 - 30, "STALE", "29 seconds left"),
        (86400 - 4, "STALE", "3 seconds left"),
        (86400 + 9, "EXPIRED", ""),
    ],
)
def test_status_shows_the_state_of_the_token_and_the_time_left(
    m2m_environment: CartoAuth, age: float, state: str, line: str
) -> None:
    now = time.time()
    token = Token("x", obtained_at=now - age, expires_at=now - age + 86400, stale_at=now - age + 86400 - 900)
    m2m_environment.access_tokens.source.adopt(token)

    assert reports()[0]["access_token"]["state"] == state
    assert f"access token:  {state}{line and f', {line}'}" in run("status").stdout


def test_status_names_the_warehouse_and_the_store(m2m_environment: CartoAuth, tmp_path: Path) -> None:
    m2m_environment.dw_tokens.source.adopt(token_for(1800, "a-dw-token", project_id="carto-dw-ac-x"))

    (report,) = reports()

    assert report["dw_token"]["project_id"] == "carto-dw-ac-x"
    assert report["token_store"] == str(tmp_path / "tokens.json")
    assert 1790 < report["dw_token"]["expires_in"] <= 1800


def test_status_shows_the_environment_and_the_login_one_after_the_other(m2m_environment: CartoAuth) -> None:
    CartoAuth.from_oauth().access_tokens.source.adopt(token_for(3600))

    assert [(report["origin"], report["mode"]) for report in reports()] == [("environment", "m2m"), ("login", "oauth")]


def test_status_without_an_account_is_an_empty_list_in_json() -> None:
    assert reports() == []


def test_status_shows_the_failure_that_keeps_all_processes_from_a_request(m2m_environment: CartoAuth) -> None:
    now, source = time.time(), m2m_environment.access_tokens.source
    failure = Failure(ServiceUnavailable("The endpoint is down."), failed_at=now, until=now + 100)
    source.store.write(source.key, Entry(None, failure))

    assert (
        "last failure:  The endpoint is down. Not requested again for 1 minute and 39 seconds." in run("status").stdout
    )
    assert reports()[0]["failures"][0]["kind"] == "ServiceUnavailable"


def test_status_of_an_api_access_token_without_an_api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARTO_ACCESS_TOKEN", "api-token")
    monkeypatch.setenv("CARTO_AUTH_MODE", "token")

    result = run("status")

    assert "access token:  FRESH, no known expiry\n" in result.stdout
    assert "api-token" not in result.output
    assert json.loads(run("status", "--json").stdout)[0]["access_token"]["expires_in"] is None


def test_status_makes_no_request(m2m_environment: CartoAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a request was made")

    monkeypatch.setattr("carto_auth_integrations.http.call", refuse)

    assert run("status").exit_code == 0


def test_status_shows_no_secret_and_no_token(m2m_environment: CartoAuth) -> None:
    m2m_environment.access_tokens.source.adopt(token_for(3600))
    m2m_environment.dw_tokens.source.adopt(token_for(1800, "a-dw-token", project_id="p"))

    for result in (run("status"), run("status", "--json")):
        assert not any(secret in result.output for secret in (SECRET, "an-access-token", "a-dw-token"))


# logout


def test_logout_deletes_both_tokens_of_this_credential_alone(m2m_environment: CartoAuth, tmp_path: Path) -> None:
    other = CartoAuth.from_m2m(credentials_file(tmp_path / "carto.json"))
    for auth in (m2m_environment, other):
        auth.access_tokens.source.adopt(token_for(3600))
        auth.dw_tokens.source.adopt(token_for(1800, project_id="p"))

    result = run("logout")

    assert result.stdout == f"Deleted the tokens of env-client in {tmp_path / 'tokens.json'}.\n"
    (mine,), (others,) = reports(), reports("--credentials", str(tmp_path / "carto.json"))
    assert (mine["access_token"]["state"], mine["dw_token"]["state"]) == ("none", "none")
    assert (others["access_token"]["state"], others["dw_token"]["state"]) == ("FRESH", "FRESH")


# check


def checks(monkeypatch: pytest.MonkeyPatch, *results: CheckResult) -> None:
    monkeypatch.setattr(CartoAuth, "check", lambda auth, *, timeout: iter(results))


PASSED = CheckResult("credentials", True, 0.1, "the token of x is valid until 2026-11-26 09:00 UTC")
STOPPED = CheckResult("CARTO API", False, 1.2, "https://[::1]/api [red]refused[/red]", CredentialsError("refused"))


def test_check_prints_a_line_per_stage_and_ends_with_the_failing_one(
    m2m_environment: CartoAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks(monkeypatch, PASSED, STOPPED)

    result = run("check")

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "✓ credentials   0.10 s  the token of x is valid until 2026-11-26 09:00 UTC",
        "✗ CARTO API     1.20 s  https://[::1]/api [red]refused[/red]",
    ]
    assert result.stderr == "Error: The check stopped at CARTO API.\n"


def test_check_that_passes_ends_with_zero(m2m_environment: CartoAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    checks(monkeypatch, PASSED)

    result = run("check")

    assert (result.exit_code, result.stderr) == (0, "")


def test_check_in_json_is_one_object(m2m_environment: CartoAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    checks(monkeypatch, PASSED, STOPPED)

    result = run("check", "--json")

    content = json.loads(result.stdout)
    assert result.exit_code == 1
    assert content["ok"] is False
    assert [stage["name"] for stage in content["stages"]] == ["credentials", "CARTO API"]
    assert content["stages"][1]["error"] == "CredentialsError"


def test_a_terminal_without_unicode_gets_words(m2m_environment: CartoAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    checks(monkeypatch, PASSED, STOPPED)

    result = CliRunner(charset="ascii").invoke(carto_auth, ["check"])

    assert [line.split()[0] for line in result.stdout.splitlines()] == ["ok", "failed"]


# Errors, colours, logs


def test_an_error_of_the_package_is_one_line_without_traceback(tmp_path: Path) -> None:
    done = in_a_process("token", "--credentials", str(tmp_path / "nowhere.json"))

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: Cannot open the credentials file")
    assert len(done.stderr.splitlines()) == 1


def test_piped_output_has_no_colour_and_a_terminal_has_it(tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere.json")

    assert not ANSI.search(in_a_process("token", "--credentials", missing).stderr)
    assert ANSI.search(on_a_terminal("token", "--credentials", missing))
    assert not ANSI.search(on_a_terminal("token", "--credentials", missing, NO_COLOR="1"))


def test_warnings_are_always_logged_and_requests_only_with_verbose(
    m2m_environment: CartoAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(source: TokenSource, **_: object) -> Token:
        logging.getLogger("carto_auth_integrations.tokens.source").info("fetched")
        logging.getLogger("carto_auth_integrations.tokens.stores").warning("cannot be written")
        return token_for(60)

    monkeypatch.setattr(TokenSource, "get", get)

    assert run("token").stderr == "WARNING: cannot be written\n"
    for arguments in (("-v", "token"), ("token", "-v"), ("token", "--verbose")):
        result = run(*arguments)
        assert result.stderr == "INFO: fetched\nWARNING: cannot be written\n"
        assert result.stdout == "an-access-token\n"
    assert run("token").stderr == "WARNING: cannot be written\n"  # the level of one command does not stay for the next


def test_a_bug_shows_a_traceback_without_local_variables(m2m_environment: CartoAuth, tmp_path: Path) -> None:
    code = (
        "from carto_auth_integrations.tokens.source import TokenSource\n"
        "def broken(self, **_):\n"
        "    token = 'a-secret-token'\n"
        "    raise RuntimeError('a bug')\n"
        "TokenSource.get = broken\n"
        "from carto_auth_integrations.cli import main\n"
        "main()\n"
    )
    (tmp_path / "script.py").write_text(code)

    done = run_process([sys.executable, "-c", f"exec(open({str(tmp_path / 'script.py')!r}).read())", "token"])

    assert done.returncode == 1
    assert "RuntimeError: a bug" in done.stderr
    assert "a-secret-token" not in done.stderr


@pytest.mark.parametrize("missing", ["click", "humanize", "rich"])
def test_without_the_extra_the_command_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from carto_auth_integrations.cli import main; main()"

    done = run_process([sys.executable, "-c", code, "status"])

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f'Error: carto-auth needs {missing}, which is not installed: pip install "carto-auth-integrations[cli]"'
    ]


@pytest.mark.parametrize("missing", ["flask", "authlib"])
def test_without_its_extra_the_sandbox_says_what_to_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; from carto_auth_integrations.cli import main; main()"

    done = run_process([sys.executable, "-c", code, "sandbox"])

    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "carto-auth-integrations[sandbox]" in done.stderr


def test_a_token_is_printed_without_importing_google(m2m_environment: CartoAuth) -> None:
    m2m_environment.access_tokens.source.adopt(token_for(3600))
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(sorted({'google', 'flask', 'pandas'} & set(sys.modules)), file=sys.stderr))\n"
        "from carto_auth_integrations.cli import main; main()"
    )

    assert run_process([sys.executable, "-c", code, "token"]).stderr == "[]\n"


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_process([*CLI, *arguments])


def run_process(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """Run a command on a pseudo-terminal and return what it prints there."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*CLI, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", **environment},
        )
        os.close(theirs)
        seen = read_all(ours)
        process.wait(60)
    finally:
        os.close(ours)
    return seen.decode()


def read_all(descriptor: int) -> bytes:
    seen = b""
    while True:
        try:
            block = os.read(descriptor, 4096)
        except OSError:  # the other end has closed
            return seen
        if not block:
            return seen
        seen += block
