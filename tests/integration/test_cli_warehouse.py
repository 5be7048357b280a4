"""`carto-auth query` and `carto-auth load` as a user runs them, in processes of their own, against the sandbox."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.warehouse.options import QueryKeywords
from tests.support.accounts import auth_for

CLI = [sys.executable, "-m", "carto_auth_integrations.cli"]
INTERRUPTIBLE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell's background job ignores it
    "from carto_auth_integrations.cli import main; main()"
)
ANSI = re.compile(r"\x1b")
ENDLESS = """
    SELECT COUNT(*) AS n FROM UNNEST(GENERATE_ARRAY(1, 30000)) AS a CROSS JOIN UNNEST(GENERATE_ARRAY(1, 30000)) AS b
    WHERE MOD(a * b, 7) > MOD(a + b, 5)
    """
"""A query of many seconds."""


class Shell:
    """An environment for the command: the sandbox's account and a token store."""

    def __init__(self, sandbox: Sandbox, home: Path) -> None:
        self.sandbox, self.home = sandbox, home
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CARTO_")}
        self.environment = {
            **kept,
            **sandbox.environment(),
            "CARTO_TOKEN_STORE": str(home / "tokens.json"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        for name in ("NO_COLOR", "FORCE_COLOR"):
            self.environment.pop(name, None)

    def run(self, *arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *arguments],
            env={**self.environment, **environment},
            input=given,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def rows(self, sql: str, *arguments: str) -> list[dict[str, Any]]:
        done = self.run("query", sql, "--json", *arguments)
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
        return rows

    def interrupted(self, *arguments: str, when: Callable[[], bool]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", INTERRUPTIBLE, *arguments]
        process = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not when():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
        return subprocess.CompletedProcess(command, process.returncode, out, errors)

    def on_a_terminal(self, *arguments: str, **environment: str) -> str:
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*CLI, *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**self.environment, "TERM": "xterm", **environment},
        )
        os.close(theirs)
        seen = b""
        try:
            while block := os.read(ours, 4096):
                seen += block
        except OSError:  # the other end has closed
            pass
        finally:
            process.wait(60)
            os.close(ours)
        return seen.decode()


@pytest.fixture
def shell(carto_sandbox_bigquery: Sandbox, tmp_path: Path) -> Shell:
    return Shell(carto_sandbox_bigquery, tmp_path)


@pytest.fixture
def table() -> str:
    return f"shared.t_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def csv(tmp_path: Path) -> str:
    path = tmp_path / "stores.csv"
    path.write_text('id,name\n1,"Köln, Dom"\n2,León\n', encoding="utf-8")
    return str(path)


# query


def test_a_query_prints_a_table_and_its_statistics_on_standard_error(shell: Shell) -> None:
    done = shell.run("query", "SELECT 7 AS id, 'León' AS name, [1, 2] AS list, CAST(NULL AS STRING) AS nothing")

    assert done.returncode == 0, done.stderr
    head, _line, row = done.stdout.splitlines()
    assert head.split() == ["id", "name", "list", "nothing"]
    assert row.split() == ["7", "León", "[1,", "2]", "NULL"]
    assert re.fullmatch(r"1 row, \d+ Bytes? processed, job carto_\w+\.\n", done.stderr)


def test_a_query_in_json_is_one_object(shell: Shell) -> None:
    done = shell.run("query", "SELECT 1 AS a, 'é' AS b, DATE '2024-02-29' AS c", "--json")

    content = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(content) == {
        "job_id",
        "location",
        "statement_type",
        "rows",
        "total_rows",
        "affected_rows",
        "bytes_processed",
        "destination",
        "reattached",
    }
    assert content["rows"] == [{"a": 1, "b": "é", "c": "2024-02-29"}]
    assert (content["total_rows"], content["reattached"]) == (1, False)
    assert isinstance(content["bytes_processed"], int)


def test_the_sql_comes_from_standard_input_or_a_file(shell: Shell) -> None:
    file = shell.home / "query.sql"
    file.write_text("-- a comment first\nSELECT 2 AS x")

    assert json.loads(shell.run("query", "-", "--json", given="SELECT 1 AS x\n").stdout)["rows"] == [{"x": 1}]
    assert json.loads(shell.run("query", "--file", str(file), "--json").stdout)["rows"] == [{"x": 2}]


@pytest.mark.parametrize("arguments", [(), ("SELECT 1", "--file", "x.sql")])
def test_no_sql_or_two_statements_are_a_usage_error(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell.run("query", *arguments)

    assert done.returncode == 2
    assert "--file FILE: one of them" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("-",), "Error: The SQL is empty.\n"),
        (("--file", "/no/such.sql"), "Error: The SQL cannot be read from /no/such.sql: "),
    ],
)
def test_sql_that_is_empty_or_cannot_be_read_is_one_line(shell: Shell, arguments: tuple[str, ...], line: str) -> None:
    done = shell.run("query", *arguments)

    assert done.returncode == 1
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1


def test_quotes_in_a_parameter_do_not_end_its_string(shell: Shell) -> None:
    nasty = "x' OR '1'='1"

    rows = shell.rows("SELECT @a AS a, @b AS b", "--param", f"a={nasty}", "--param", "b=1=2")

    assert rows == [{"a": nasty, "b": "1=2"}]


@pytest.mark.parametrize("given", [("a",), ("=1",), ("a=1", "a=2")])
def test_a_parameter_without_a_name_of_its_own_is_a_usage_error(shell: Shell, given: tuple[str, ...]) -> None:
    done = shell.run("query", "SELECT @a", *(word for each in given for word in ("--param", each)))

    assert done.returncode == 2
    assert "--param" in done.stderr


def test_rows_beyond_the_maximum_are_counted_and_not_printed(shell: Shell) -> None:
    done = shell.run("query", "SELECT * FROM UNNEST(GENERATE_ARRAY(1, 50)) AS x", "--max-rows", "3")

    assert len(done.stdout.splitlines()) == 5
    assert done.stderr.startswith("The first 3 of 50 rows, ")


def test_a_value_is_printed_whole_in_a_pipe_and_its_control_characters_are_escaped(shell: Shell) -> None:
    done = shell.run("query", "SELECT REPEAT('x', 500) AS long, 'a\\nb\\x1b[31m' AS wild, '[bold]y' AS marked")

    (_head, _line, row) = done.stdout.splitlines()
    assert "x" * 500 in row
    assert r"a\nb\x1b[31m" in row
    assert "[bold]y" in row


def test_the_same_query_with_the_same_key_runs_once(shell: Shell) -> None:
    key = f"run {uuid.uuid4()}"

    first, second = (json.loads(shell.run("query", "SELECT 1", "--key", key, "--json").stdout) for _ in range(2))

    assert first["job_id"] == second["job_id"]
    assert (first["reattached"], second["reattached"]) == (False, True)


def test_a_dry_run_prints_what_would_be_read(shell: Shell, table: str, csv: str) -> None:
    shell.run("load", csv, table)

    done = shell.run("query", f"SELECT * FROM {table}", "--dry-run")

    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"The query is valid, and would read [\d.]+ (Bytes?|kB)\.\n", done.stdout)
    told = json.loads(shell.run("query", f"SELECT * FROM {table}", "--dry-run", "--json").stdout)
    assert (told["job_id"], told["rows"]) == ("", [])
    assert told["bytes_processed"] > 0
    assert shell.run("query", "SELEC 1", "--dry-run").returncode == 1


def test_a_query_over_its_limit_is_one_line(shell: Shell, table: str, csv: str) -> None:
    shell.run("load", csv, table)
    sql = f"SELECT * FROM {table}"

    done = shell.run("query", sql, "--maximum-bytes-billed", "1")
    of_the_account = shell.run("query", sql, CARTO_MAXIMUM_BYTES_BILLED="1")

    assert (done.returncode, of_the_account.returncode) == (1, 1)
    assert "bytes billed" in done.stderr
    assert "bytes billed" in of_the_account.stderr
    assert shell.run("query", sql, "--maximum-bytes-billed", "0").returncode == 2


def test_priority_and_cache_are_told_to_bigquery(shell: Shell) -> None:
    done = shell.run("query", "SELECT 1", "--priority", "batch", "--no-cache", "--json")

    client = auth_for(shell.sandbox, shell.home).get_carto_dw_client()
    job: Any = client.get_job(json.loads(done.stdout)["job_id"])
    assert (job.priority, job.use_query_cache) == ("BATCH", False)


def test_every_option_of_a_query_is_there() -> None:
    from carto_auth_integrations.cli.warehouse import query

    here = {parameter.name for parameter in query.params}
    besides = {"destination", "write_disposition", "labels", "timeout", "on_progress"}  # for programs, and Ctrl-C
    assert set(QueryKeywords.__annotations__) - besides <= here


def test_the_number_of_changed_rows_is_printed(shell: Shell, table: str, csv: str) -> None:
    shell.run("load", csv, table)

    done = shell.run("query", f"INSERT INTO {table} (id, name) VALUES (3, 'x')")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("1 row changed, ")


@pytest.mark.parametrize(
    ("sql", "part"),
    [("SELEC 1", "Syntax error"), ("SELECT nope", "nope"), ("SELECT * FROM nowhere.t", "Not found")],
)
def test_a_statement_that_bigquery_refuses_is_one_line_with_its_message(shell: Shell, sql: str, part: str) -> None:
    done = shell.run("query", sql)

    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(r"Error: BigQuery answered 40[04]: ", done.stderr)
    assert part in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_credentials_that_carto_refuses_are_one_line(shell: Shell) -> None:
    shell.sandbox.fault("token", status=401)

    done = shell.run("query", "SELECT 1", CARTO_CLIENT_SECRET="hunter2-wrong")

    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert "hunter2" not in done.stderr


def test_ctrl_c_cancels_the_query(shell: Shell) -> None:
    def is_running() -> bool:
        return shell.sandbox.stats().count("bigquery") >= 2

    done = shell.interrupted("query", ENDLESS, when=is_running)

    line = re.fullmatch(r"Interrupted: BigQuery was asked to cancel job (carto_\w+)\.\n", done.stderr)
    assert line, done.stderr
    assert (done.returncode, done.stdout) == (130, "")
    client = auth_for(shell.sandbox, shell.home).get_carto_dw_client()
    deadline = time.monotonic() + 20
    while (job := client.get_job(line[1])).state != "DONE":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert job.error_result["reason"] == "stopped"


# load


def test_a_file_is_loaded_and_then_replaced(shell: Shell, table: str, csv: str) -> None:
    for arguments, count in (((), 2), ((), 4), (("--replace",), 2)):
        done = shell.run("load", csv, table, *arguments)

        assert done.returncode == 0, done.stderr
        assert re.fullmatch(rf"2 rows loaded into [\w-]+\.{table}: \d+ Bytes, job carto_\w+\.\n", done.stdout)
        assert len(shell.rows(f"SELECT * FROM {table}")) == count


def test_in_a_pipe_the_progress_is_plain_lines_on_standard_error(shell: Shell, table: str, csv: str) -> None:
    done = shell.run("load", csv, table)

    size = Path(csv).stat().st_size
    lines = done.stderr.splitlines()
    read, sent = (next(line for line in lines[::-1] if line.startswith(verb)) for verb in ("Read", "Sent"))
    states = [line for line in lines if line.startswith("Job")]
    assert read == f"Read {size} Bytes of {size} Bytes, 2 rows."
    assert re.fullmatch(r"Sent ([\d.]+ \w+) of \1\.", sent)
    assert re.fullmatch(r"Job carto_\w+: DONE\.", states[-1])
    assert not ANSI.search(done.stdout + done.stderr)


def test_a_load_in_json_is_one_object(shell: Shell, table: str, csv: str) -> None:
    done = shell.run("load", csv, table, "--json")

    content = json.loads(done.stdout)
    assert set(content) == {
        "job_id",
        "location",
        "destination",
        "rows",
        "bytes",
        "reattached",
        "rejected",
        "rejected_table",
        "repaired",
        "area_change",
    }
    assert (content["rows"], content["rejected"], content["rejected_table"]) == (2, 0, None)
    assert content["bytes"] > 0
    assert content["destination"].endswith(f".{table}")


def test_the_same_load_with_the_same_key_happens_once(shell: Shell, table: str, csv: str) -> None:
    key = uuid.uuid4().hex
    shell.run("load", csv, table, "--key", key)

    again = shell.run("load", csv, table, "--key", key)

    assert again.stdout.startswith("2 rows had been loaded by an earlier try into ")
    assert len(shell.rows(f"SELECT * FROM {table}")) == 2


def test_a_format_can_be_named_and_a_dataset_created(shell: Shell) -> None:
    file, dataset = shell.home / "rows.txt", f"d_{uuid.uuid4().hex[:8]}"
    file.write_text('{"id": 1}\n')

    refused = shell.run("load", str(file), f"{dataset}.t", "--format", "json")
    done = shell.run("load", str(file), f"{dataset}.t", "--format", "json", "--create-dataset")

    assert refused.returncode == 1
    assert dataset in refused.stderr
    assert done.returncode == 0, done.stderr
    assert shell.rows(f"SELECT * FROM {dataset}.t") == [{"id": 1}]


def test_geometry_is_converted_from_its_reference_system(shell: Shell, table: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyproj")
    from pyarrow import parquet

    file = shell.home / "shapes.parquet"
    parquet.write_table(pyarrow.table({"id": [1], "place": ["POINT(-412304 4926674)"]}), file)

    done = shell.run("load", str(file), table, "--geometry", "place", "--crs", "EPSG:3857")

    assert done.returncode == 0, done.stderr
    ((row),) = shell.rows(f"SELECT ROUND(ST_X(place), 2) AS x, ROUND(ST_Y(place), 2) AS y FROM {table}")
    assert (row["x"], row["y"]) == (-3.7, 40.42)


@pytest.mark.parametrize(
    ("name", "content", "arguments", "part"),
    [
        ("missing.csv", None, (), "There is no file"),
        ("empty.csv", "", (), "is empty"),
        ("rows.parquet", "id\n1\n", (), "is not PARQUET"),
        ("rows.what", "id\n1\n", (), "unknown format"),
        ("rows.geojson", '{"type": "Nonsense"}', (), "is JSON, but not GeoJSON.*pass --format JSON"),
        ("rows.csv", "id\n1\nx\n", ("--column-type", "id=INT64"), r"rows\.csv: row 2: column id"),
        ("rows.csv", "a.b\n1\n", (), "--column-names sanitize"),
    ],
)
def test_a_bad_file_is_one_line(
    shell: Shell, table: str, name: str, content: str | None, arguments: tuple[str, ...], part: str
) -> None:
    file = shell.home / name
    if content is not None:
        file.write_text(content)

    done = shell.run("load", str(file), table, *arguments)

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"(Read [\w ]+\.\n)*Error: .*{part}.*\n", done.stderr)


def test_several_files_and_a_directory_are_one_load(shell: Shell, table: str) -> None:
    directory = shell.home / "parts"
    directory.mkdir()
    files = [directory / f"{number}.csv" for number in range(3)]
    for number, file in enumerate(files):
        file.write_text(f"id,zip\n{number},0{number}\n")

    listed = shell.run("load", str(files[0]), str(files[2]), table)
    below = shell.run("load", str(directory), table)
    matched = shell.run("load", str(directory / "[12].csv"), table)

    for done, count in ((listed, 2), (below, 3), (matched, 2)):
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{count} rows loaded into ")
    assert shell.rows(f"SELECT DISTINCT zip FROM {table} ORDER BY zip") == [{"zip": f"0{n}"} for n in range(3)]


def test_standard_input_is_loaded(shell: Shell, table: str) -> None:
    done = shell.run("load", "-", table, "--format", "csv", "--delimiter", ";", "--no-header", given="1;León\n2;Köln\n")

    assert done.returncode == 0, done.stderr
    assert shell.rows(f"SELECT * FROM {table} ORDER BY column_1") == [
        {"column_1": 1, "column_2": "León"},
        {"column_1": 2, "column_2": "Köln"},
    ]


def test_a_layer_of_a_geopackage_is_loaded_once(shell: Shell, table: str) -> None:
    geopandas = pytest.importorskip("geopandas")
    pytest.importorskip("pyogrio")
    file = shell.home / "stores.gpkg"
    for layer, name in (("shops", "Sol"), ("depots", "Norte")):
        points = geopandas.GeoSeries.from_wkt(["POINT (440000 4474000)"], crs=25830)
        geopandas.GeoDataFrame({"name": [name]}, geometry=points).to_file(file, layer=layer, driver="GPKG")
    key = uuid.uuid4().hex

    unnamed = shell.run("load", str(file), table)
    done, again = (shell.run("load", str(file), table, "--layer", "shops", "--key", key) for _ in range(2))

    assert unnamed.returncode == 1
    assert "--layer" in unnamed.stderr
    assert done.returncode == 0, done.stderr
    assert again.stdout.startswith("1 row had been loaded by an earlier try into ")
    assert shell.rows(f"SELECT name FROM {table}") == [{"name": "Sol"}]


BOWTIE = "POLYGON ((0 0, 1 1, 1 0, 0 1, 0 0))"


def test_rows_that_do_not_fit_go_to_a_table_of_their_own_and_are_named(shell: Shell, table: str) -> None:
    file = shell.home / "shapes.csv"
    bad = "".join(f'{number},"LINESTRING (1 1)"\n' for number in range(12))
    file.write_text(f'id,geom\n100,"POINT (1 2)"\n{bad}')
    arguments = ("load", str(file), table, "--geometry", "geom", "--bad-rows", "quarantine", "--key", uuid.uuid4().hex)

    done, again = shell.run(*arguments), shell.run(*arguments)

    assert done.returncode == 0, done.stderr
    loaded, rejected = done.stdout.splitlines()
    assert loaded.startswith("1 row loaded into ")
    assert re.fullmatch(rf"12 rows did not fit, and went to [\w-]+\.{table}__rejected with the reasons\.", rejected)
    assert again.stdout.splitlines()[1] == rejected
    reasons = [line for line in done.stderr.splitlines() if line.startswith("WARNING: ")]
    assert len(reasons) == 10
    assert all("shapes.csv: row " in line for line in reasons)
    assert shell.rows(f"SELECT COUNT(*) AS n FROM {table}__rejected") == [{"n": 12}]
    assert shell.run("load", str(file), table, "--geometry", "geom").returncode == 1


def test_repaired_geometry_is_counted_and_named(shell: Shell, table: str) -> None:
    file = shell.home / "shapes.csv"
    file.write_text(f'id,geom\n1,"{BOWTIE}"\n')

    refused = shell.run("load", str(file), table, "--geometry", "geom")
    done = shell.run("load", str(file), table, "--geometry", "geom", "--repair")

    assert refused.returncode == 1
    assert "--repair" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"1 geometry repaired; areas changed by [\d,]+ m²\.", done.stdout.splitlines()[1])
    assert "shapes.csv: row 1: geom was repaired" in done.stderr


def test_a_dry_run_says_what_the_load_then_does(shell: Shell, table: str, csv: str) -> None:
    planned = shell.run("load", csv, table, "--dry-run", "--json", CARTO_CLIENT_SECRET="", CARTO_API_BASE_URL="")
    assert planned.returncode == 0, planned.stderr
    assert shell.run("query", f"SELECT * FROM {table}").returncode == 1, "nothing was loaded"

    done = shell.run("load", csv, table, "--json")

    plan, loaded = json.loads(planned.stdout), json.loads(done.stdout)
    assert plan["rows"] == loaded["rows"]
    assert plan["first_rows"] == shell.rows(f"SELECT * FROM {table} ORDER BY id")


def test_ctrl_c_during_a_dry_run_is_one_line(shell: Shell, table: str) -> None:
    shell.environment["TMPDIR"] = str(shell.home)

    def is_reading() -> bool:
        return any(shell.home.glob("carto-load-*"))

    done = shell.interrupted("load", "-", table, "--dry-run", "--format", "csv", when=is_reading)

    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted: nothing was loaded.\n")
    assert not is_reading(), "the copy of standard input is removed"


@pytest.mark.parametrize(
    ("destination", "part"),
    [("shared.t; DROP TABLE x", "is not a table"), ("nowhere.t", "nowhere"), ("t", "is not a table")],
)
def test_a_bad_destination_is_one_line(shell: Shell, csv: str, destination: str, part: str) -> None:
    done = shell.run("load", csv, destination)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert part in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_during_the_upload_changes_nothing(shell: Shell, table: str, csv: str) -> None:
    shell.sandbox.fault("upload", delay=30)

    def is_uploading() -> bool:
        if not shell.sandbox.stats().count("bigquery"):  # the look-up of the dataset, which precedes the upload
            return False
        time.sleep(1)
        return True

    done = shell.interrupted("load", csv, table, when=is_uploading)

    assert done.returncode == 130
    line = r"Interrupted: BigQuery has no job carto_\w+, so nothing was changed\."
    assert re.fullmatch(line, done.stderr.splitlines()[-1])
    shell.sandbox.clear_faults()
    assert shell.run("query", f"SELECT * FROM {table}").returncode == 1


# On a terminal


def test_a_terminal_shows_a_progress_bar_and_removes_it_at_the_end(shell: Shell, table: str, csv: str) -> None:
    shown = shell.on_a_terminal("load", csv, table)

    assert ANSI.search(shown)
    assert "Reading" in shown
    assert shown.rstrip().splitlines()[-1].endswith(".")
    assert "2 rows loaded into " in shown


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color_and_a_dumb_terminal_show_plain_lines(
    shell: Shell, table: str, csv: str, environment: dict[str, str]
) -> None:
    loaded = shell.on_a_terminal("load", csv, table, **environment)
    queried = shell.on_a_terminal("query", f"SELECT * FROM {table} ORDER BY id", **environment)
    refused = shell.on_a_terminal("query", "SELEC", **environment)

    assert "Sent " in loaded
    assert "Köln, Dom" in queried
    assert "Error: " in refused
    assert not ANSI.search(loaded + queried + refused)
