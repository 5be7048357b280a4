"""The file store: tokens that all processes of a host share, never trusted too far and never fatal."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carto_auth_integrations import CartoAuth
from carto_auth_integrations.account.secret import Secret
from carto_auth_integrations.errors import ServiceUnavailable
from carto_auth_integrations.tokens.source import TokenSource
from carto_auth_integrations.tokens.stores import open_store
from carto_auth_integrations.tokens.stores.file import MAX_SIZE, FileStore
from carto_auth_integrations.tokens.token import Entry, Failure
from tests.support.accounts import BEARER, SECRET
from tests.support.processes import run_processes, start_process
from tests.support.threads import Outcome
from tests.support.tokens import FakeGrant, token_living

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes, owners and FIFOs are POSIX's")

as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
KEY, OTHER = "a" * 64, "b" * 64
HOUR = 3600.0
NOBODY = 65534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / ".carto-auth" / "tokens.json"


@pytest.fixture
def store(path: Path) -> FileStore:
    return FileStore(str(path))


def entry(value: str = BEARER, seconds: float = HOUR, **fields: Any) -> Entry:
    return Entry(token_living(seconds, value, **fields))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def value_in(store: FileStore, key: str = KEY) -> str | None:
    token = store.read(key).token
    return token.reveal() if token else None


def content_of(entry: Entry, key: str = KEY) -> str:
    return json.dumps({"format": 1, "tokens": {key: entry.record()}})


def put(path: Path, content: str | bytes, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)


def serves(store: FileStore) -> bool:
    """Tell whether a source on this store gives a token, whatever the store does."""
    source = TokenSource(KEY, "a token", FakeGrant(token_living(HOUR, "new")), store)
    return bool(Outcome(source.get).settled().reveal() == "new")


# What is written


def test_what_is_written_is_read(store: FileStore, path: Path) -> None:
    store.write(KEY, entry(refresh_token=Secret("refresh"), details={"project_id": "p"}))

    token = FileStore(str(path)).read(KEY).token
    assert token is not None
    assert token.reveal() == BEARER
    assert token.refresh_token == Secret("refresh")
    assert token.details == {"project_id": "p"}


def test_a_failure_that_is_written_is_read(store: FileStore) -> None:
    store.write(KEY, Entry(None, Failure.of(ServiceUnavailable("down", status=503), time.time())))

    failure = store.read(KEY).failure
    assert failure is not None
    assert failure.holds(time.time())
    assert failure.error.status == 503


def test_file_and_locks_are_for_their_owner_alone(store: FileStore, path: Path) -> None:
    before = os.umask(0)
    try:
        store.write(KEY, entry())
        lock = store.try_lock(KEY)
        assert lock is not None
        lock.release()
    finally:
        os.umask(before)

    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == 0o700
    assert {mode_of(file) for file in path.parent.iterdir()} == {0o600}


def test_no_draft_is_left_behind(store: FileStore, path: Path) -> None:
    store.write(KEY, entry())

    assert not Path(f"{path}.tmp").exists()


def test_two_credentials_share_a_file_and_do_not_see_each_other(store: FileStore) -> None:
    store.write(KEY, entry("mine"))
    store.write(OTHER, entry("theirs"))
    store.write(KEY, entry("mine, renewed"))

    assert value_in(store, KEY) == "mine, renewed"
    assert value_in(store, OTHER) == "theirs"
    assert value_in(store, "c" * 64) is None


def test_what_is_forgotten_is_gone_and_the_rest_stays(store: FileStore) -> None:
    store.write(KEY, entry("mine"))
    store.write(OTHER, entry("theirs"))

    store.forget(KEY)
    store.forget("c" * 64)

    assert value_in(store, KEY) is None
    assert value_in(store, OTHER) == "theirs"


def test_forgetting_makes_no_file(store: FileStore, path: Path) -> None:
    store.forget(KEY)

    assert not path.exists()


def test_entries_that_serve_nobody_are_pruned_when_another_is_written(store: FileStore, path: Path) -> None:
    ago = time.time() - 60
    put(
        path,
        json.dumps(
            {
                "format": 1,
                "tokens": {
                    "ended": entry(seconds=-1).record(),
                    "garbage": 5,
                    "asked again": Entry(None, Failure.of(ServiceUnavailable("down"), ago)).record(),
                    "not asked yet": Entry(None, Failure.of(ServiceUnavailable("down"), ago + 59)).record(),
                    "renewable": entry(seconds=-1, refresh_token=Secret("r")).record(),
                    "alive": entry().record(),
                },
            }
        ),
    )

    store.write(KEY, entry())

    assert set(json.loads(path.read_text())["tokens"]) == {KEY, "alive", "renewable", "not asked yet"}


def test_many_processes_that_write_lose_nothing(path: Path) -> None:
    run_processes(
        8,
        f"""
        import os, time
        from carto_auth_integrations.tokens.stores.file import FileStore
        from carto_auth_integrations.tokens.token import Entry, Token
        store, now = FileStore({str(path)!r}), time.time()
        for number in range(10):
            store.write(f"{{os.getpid()}}-{{number}}", Entry(Token("t", obtained_at=now, expires_at=now + 3600)))
        """,
    )

    assert len(json.loads(path.read_text())["tokens"]) == 80


# What is not believed


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="cut off"),
        pytest.param(b"\x00\xff\xfe" * 100, id="not text"),
        pytest.param("[1, 2]", id="a list"),
        pytest.param('"text"', id="a string"),
        pytest.param("null", id="null"),
        pytest.param("[" * 200_000, id="nested without end"),
        pytest.param('{"format": 1}', id="without tokens"),
        pytest.param('{"format": 1, "tokens": []}', id="tokens that are a list"),
        pytest.param(f'{{"format": 1, "tokens": {{"{KEY}": null}}}}', id="an entry that is null"),
        pytest.param(f'{{"format": 1, "tokens": {{"{KEY}": {{"token": []}}}}}}', id="a token that is a list"),
        pytest.param(
            f'{{"format": 1, "tokens": {{"{KEY}": {{"failure": {{"kind": []}}}}}}}}', id="a kind that is a list"
        ),
        pytest.param(
            f'{{"format": 1, "tokens": {{"{KEY}": {{"token": '
            f'{{"access_token": "x", "obtained_at": 0, "expires_at": 1{"0" * 400}}}}}}}}}',
            id="an end beyond all floats",
        ),
        pytest.param(content_of(entry()).replace('"format": 1', '"format": 2'), id="a later format"),
    ],
)
def test_a_corrupt_or_foreign_file_is_not_believed_not_fatal_and_replaced(
    store: FileStore, path: Path, content: str | bytes
) -> None:
    put(path, content)

    assert value_in(store) is None
    assert serves(store)
    assert value_in(FileStore(str(path))) == "new"


def test_a_corrupt_file_is_one_warning_that_names_it(
    store: FileStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(path, f"{{ {BEARER}")

    for _ in range(5):
        store.read(KEY)

    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert str(path) in caplog.text
    assert BEARER not in caplog.text


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o602, 0o610])
def test_a_file_that_others_can_read_or_write_is_not_believed_and_replaced_by_a_private_one(
    store: FileStore, path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    put(path, content_of(entry("planted")), mode)

    assert value_in(store) is None
    assert "read or written by others" in caplog.text
    store.write(KEY, entry("ours"))
    assert value_in(store) == "ours"
    assert mode_of(path) == 0o600


@as_root
def test_another_users_file_is_not_believed(store: FileStore, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(path, content_of(entry("planted")))
    os.chown(path, NOBODY, NOBODY)

    assert value_in(store) is None
    assert "another user" in caplog.text
    assert serves(store)


def test_a_file_that_is_too_large_is_not_read(store: FileStore, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(path, content_of(entry()) + " " * MAX_SIZE)

    assert value_in(store) is None
    assert "too large" in caplog.text


# What lies in the way


def test_a_directory_in_the_place_of_the_file_is_not_fatal(
    store: FileStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir(parents=True)

    assert value_in(store) is None
    assert serves(store)
    assert str(path) in caplog.text
    assert not Path(f"{path}.tmp").exists()


def test_a_directory_in_the_place_of_the_file_costs_no_descriptors(store: FileStore, path: Path) -> None:
    path.mkdir(parents=True)
    before = len(list(Path("/dev/fd").iterdir()))

    for _ in range(20):
        Outcome(lambda: store.read(KEY)).settled()

    assert len(list(Path("/dev/fd").iterdir())) < before + 10


def test_a_fifo_in_the_place_of_the_file_does_not_hang(store: FileStore, path: Path) -> None:
    path.parent.mkdir(parents=True)
    os.mkfifo(path, 0o600)

    assert serves(store)
    assert value_in(store) == "new"
    assert stat.S_ISREG(path.lstat().st_mode)


@pytest.mark.parametrize("suffix", [".lock", f".{KEY[:16]}.lock", ".tmp"])
@pytest.mark.parametrize("kind", ["directory", "fifo", "dangling symlink"])
def test_odd_things_in_the_place_of_locks_and_draft_neither_hang_nor_harm(
    store: FileStore, path: Path, suffix: str, kind: str
) -> None:
    path.parent.mkdir(parents=True)
    obstacle = Path(f"{path}{suffix}")
    if kind == "directory":
        obstacle.mkdir()
        (obstacle / "file").touch()
    elif kind == "fifo":
        os.mkfifo(obstacle)
    else:
        obstacle.symlink_to(path.parent / "absent" / "target")

    assert serves(store)
    assert serves(FileStore(str(path)))


def test_a_symlink_to_a_private_file_of_ours_is_followed_for_reading(
    store: FileStore, path: Path, tmp_path: Path
) -> None:
    put(tmp_path / "elsewhere.json", content_of(entry("ours")))
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere.json")

    assert value_in(store) == "ours"


@as_root
def test_a_symlink_to_another_users_file_is_not_believed(store: FileStore, path: Path, tmp_path: Path) -> None:
    put(tmp_path / "planted.json", content_of(entry("planted")))
    os.chown(tmp_path / "planted.json", NOBODY, NOBODY)
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "planted.json")

    assert value_in(store) is None


def test_what_a_symlink_points_to_is_not_written_to(store: FileStore, path: Path, tmp_path: Path) -> None:
    put(tmp_path / "precious", "precious", 0o644)
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "precious")
    Path(f"{path}.tmp").symlink_to(tmp_path / "precious")

    store.write(KEY, entry("new"))

    assert (tmp_path / "precious").read_text() == "precious"
    assert value_in(store) == "new"


def test_a_file_in_the_place_of_the_directory_is_not_fatal(
    store: FileStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.parent.mkdir()
    path.parent.write_text("in the way")

    assert serves(store)
    assert "tokens stay in memory" in caplog.text


AS_NOBODY = """
    import logging, os, sys, time
    import filelock, filelock._unix  # before the user changes: the interpreter's folder may be root's alone
    from carto_auth_integrations.tokens.source import TokenSource
    from carto_auth_integrations.tokens.stores.file import FileStore
    from carto_auth_integrations.tokens.token import Entry, Token
    import concurrent.futures, copy, json
    from concurrent.futures import Future

    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    now = time.time()
    grant = lambda previous, *, interactive: Token("new", obtained_at=now, expires_at=now + 3600)
    store = FileStore({path!r})
    source = TokenSource("a" * 64, "a token", grant, store)
    print(source.get().reveal())
    source.forget()
    print(source.get().reveal())
"""


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_directory_that_cannot_be_written_is_not_fatal_and_one_warning_of_each_kind(
    tmp_path: Path, mode: int
) -> None:
    directory = tmp_path / "read-only"
    directory.mkdir()
    for parent in list(tmp_path.parents)[:3]:
        parent.chmod(0o755)
    tmp_path.chmod(0o755)
    directory.chmod(mode)

    (output,) = run_processes(1, AS_NOBODY.format(path=str(directory / "tokens.json")))

    lines = output.splitlines()
    assert [line for line in lines if not line.startswith("WARNING")] == ["new", "new"]
    warnings = [line for line in lines if line.startswith("WARNING")]
    assert warnings
    assert len(set(warnings)) == len(warnings)
    assert all("Permission denied" in line for line in warnings)


def test_a_home_that_does_not_exist_and_cannot_be_made_is_not_fatal() -> None:
    (output,) = run_processes(1, AS_NOBODY.format(path="/nonexistent/.carto-auth/tokens.json"))

    assert "new" in output.splitlines()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KB that is full to its last page."""
    directory = tmp_path / "disk"
    directory.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=False)


def fill(directory: Path) -> None:
    """Write until nothing more fits."""
    with (directory / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            return


def test_a_full_disk_is_not_fatal_and_leaves_the_old_file_whole(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = small_disk / "tokens.json"
    store = FileStore(str(path))
    store.write(OTHER, entry("theirs"))
    fill(small_disk)

    assert serves(store)

    assert value_in(store, OTHER) == "theirs"
    assert "No space left on device" in caplog.text
    assert not Path(f"{path}.tmp").exists()


@pytest.mark.parametrize("function", ["replace", "open", "makedirs"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_whatever_the_file_system_refuses_is_not_fatal(
    store: FileStore, path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    store.write(OTHER, entry("theirs"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, refuse)
        assert serves(store)
        store.forget(OTHER)

    assert value_in(store, OTHER) == "theirs"
    assert not Path(f"{path}.tmp").exists()


# A cache file of carto-auth 0.2.0

CARTO_AUTHS = json.dumps({"api_base_url": "https://x.org", "access_token": "not-ours", "expiration": 99999999999})
"""What carto-auth 0.2.0 writes: it does not say whose token it is."""


@pytest.mark.parametrize("mode", [0o600, 0o644], ids=["private", "as carto-auth creates it"])
def test_a_cache_of_carto_auth_is_left_alone_and_ours_is_kept_beside_it(
    path: Path, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    put(path, CARTO_AUTHS, mode)
    before = path.stat()

    store = FileStore(str(path))
    assert value_in(store) is None
    assert serves(store)
    store.write(OTHER, entry("theirs"))
    store.forget(OTHER)

    assert value_in(FileStore(str(path))) == "new"
    assert path.read_text() == CARTO_AUTHS
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    beside = path.with_name("tokens.integrations.json")
    assert mode_of(beside) == 0o600
    assert store.describe() == str(beside)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_cache_of_carto_auth_that_appears_later_is_left_alone_too(store: FileStore, path: Path) -> None:
    store.write(KEY, entry("ours"))
    put(path, CARTO_AUTHS, 0o644)

    store.write(KEY, entry("ours, renewed"))

    assert path.read_text() == CARTO_AUTHS
    assert value_in(FileStore(str(path))) == "ours, renewed"


# No home


def test_without_a_home_directory_tokens_stay_in_memory_and_are_one_warning(tmp_path: Path) -> None:
    directory = tmp_path / "working directory"
    directory.mkdir()
    tmp_path.chmod(0o777)
    directory.chmod(0o777)

    (output,) = run_processes(
        1,
        f"""
        import logging, os, pwd, sys, time
        import filelock, filelock._unix, asyncio, concurrent.futures, json  # the interpreter's folder may be root's
        from carto_auth_integrations import CartoAuth
        from carto_auth_integrations.tokens.token import Token

        logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
        os.chdir({str(directory)!r})
        del os.environ["HOME"]
        if os.geteuid() == 0:
            os.setgid(54321)
            os.setuid(54321)
        try:
            pwd.getpwuid(os.getuid())
        except KeyError:
            auth = CartoAuth("m2m", "https://x.org", client_id="c", client_secret="s")
            auth.access_tokens.source.adopt(Token("a-token", obtained_at=time.time(), expires_at=time.time() + 3600))
            again = CartoAuth("m2m", "https://x.org", client_id="c", client_secret="s")
            print(auth.get_access_token(), again.get_access_token(), os.listdir("."))
        else:
            print("this user has a home directory")
        """,
    )
    if output == "this user has a home directory":
        pytest.skip("needs the right to become a user without an entry in the password database")

    *warnings, last = output.splitlines()
    assert last == "a-token a-token []"
    (warning,) = warnings
    assert warning.startswith("WARNING this user has no home directory")
    assert "CARTO_TOKEN_STORE" in warning


# Killed writers


def test_the_draft_of_a_killed_writer_is_swept_at_the_next_look(store: FileStore, path: Path) -> None:
    store.write(KEY, entry())
    draft = Path(f"{path}.tmp")
    draft.write_text(SECRET)

    assert value_in(store) == BEARER
    assert not draft.exists()


def test_the_draft_of_a_living_writer_is_left_alone(store: FileStore, path: Path) -> None:
    store.write(KEY, entry())
    draft = Path(f"{path}.tmp")
    lock = store._locked(f"{path}.lock", timeout=0)
    assert lock is not None
    draft.write_text("half")

    assert value_in(store) == BEARER
    assert draft.exists()
    lock.release()


def test_a_killed_writer_leaves_file_and_lock_usable(store: FileStore, path: Path) -> None:
    process = start_process(
        f"""
        import itertools, time
        from carto_auth_integrations.tokens.stores.file import FileStore
        from carto_auth_integrations.tokens.token import Entry, Token
        store = FileStore({str(path)!r})
        for number in itertools.count():
            now = time.time()
            store.write("{OTHER}", Entry(Token(f"t{{number}}", obtained_at=now, expires_at=now + 3600)))
            if number == 20:
                print("writing", flush=True)
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.communicate()

    assert (value_in(store, OTHER) or "").startswith("t")
    store.write(KEY, entry("new"))
    assert value_in(store) == "new"
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".json", ".lock"]


# The lock


def test_one_holds_the_lock_at_a_time_and_each_credential_has_its_own(store: FileStore, path: Path) -> None:
    lock = store.try_lock(KEY)
    assert lock is not None

    assert store.try_lock(KEY) is None
    assert FileStore(str(path)).try_lock(KEY) is None
    other = store.try_lock(OTHER)
    assert other is not None
    other.release()
    lock.release()
    again = store.try_lock(KEY)
    assert again is not None
    again.release()


def test_the_lock_of_a_killed_process_is_free(store: FileStore, path: Path) -> None:
    process = start_process(
        f"""
        import time
        from carto_auth_integrations.tokens.stores.file import FileStore
        lock = FileStore({str(path)!r}).try_lock("{KEY}")
        print("held" if lock else "not held", flush=True)
        time.sleep(60)
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert store.try_lock(KEY) is None

    process.kill()
    process.communicate()

    lock = store.try_lock(KEY)
    assert lock is not None
    lock.release()


# Opening


def test_the_default_file_lies_beside_those_of_carto_auth_and_is_none_of_them(own_home: Path) -> None:
    assert open_store(None).describe() == str(own_home / ".carto-auth" / "tokens.json")


def test_one_place_is_one_store_however_it_is_written(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own_home)
    path = own_home / "t.json"

    stores = [open_store(place) for place in (str(path), "t.json", "~/t.json", f"file://{path}", f"file:{path}")]

    assert {store.describe() for store in stores} == {str(path)}
    assert len({id(store) for store in stores}) == 1


def test_nothing_is_written_where_no_cache_is_wanted(own_home: Path) -> None:
    auth = CartoAuth("m2m", "https://x.org", client_id="c", client_secret=SECRET, use_cache=False)
    auth._source.adopt(token_living(HOUR))

    assert not (own_home / ".carto-auth").exists()
