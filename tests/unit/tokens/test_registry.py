"""The sources of a process: one for each credential and store, also after a fork, and who hears of their tokens."""

from __future__ import annotations

from pathlib import Path

from carto_auth_integrations.tokens.registry import add_token_listener, remove_token_listener, source_for
from carto_auth_integrations.tokens.stores.memory import MemoryStore
from carto_auth_integrations.tokens.token import Token
from tests.support.processes import run_processes
from tests.support.tokens import FakeGrant, token_living

HOUR = 3600.0


def test_all_who_name_one_credential_and_store_share_a_source() -> None:
    store, grant = MemoryStore(), FakeGrant()

    assert source_for("a", "t", grant, store) is source_for("a", "t", grant, store)
    assert source_for("a", "t", grant, store) is not source_for("b", "t", grant, store)
    assert source_for("a", "t", grant, store) is not source_for("a", "t", grant, MemoryStore())


def test_a_grant_without_its_secret_does_not_replace_one_that_has_it() -> None:
    store, able, unable = MemoryStore(), FakeGrant(), FakeGrant()
    source = source_for("a", "t", able, store)

    source_for("a", "t", unable, store, replace_grant=False)
    assert source.grant is able
    source_for("a", "t", unable, store)
    assert source.grant is unable


# Listeners


def test_a_listener_added_twice_hears_once_and_one_taken_off_hears_nothing() -> None:
    heard: list[str] = []
    store = MemoryStore()

    def listener(token: Token) -> None:
        heard.append(token.reveal())

    add_token_listener(listener)
    add_token_listener(listener)
    source_for("a", "t", FakeGrant(token_living(HOUR, "one")), store).get()
    remove_token_listener(listener)
    remove_token_listener(listener)
    source_for("b", "t", FakeGrant(token_living(HOUR, "two")), store).get()

    assert heard == ["one"]


def test_one_that_comes_late_hears_of_the_tokens_that_are_held() -> None:
    heard: list[str] = []
    store = MemoryStore()
    source_for("a", "t", FakeGrant(token_living(HOUR, "held")), store).get()
    source_for("b", "t", FakeGrant(), store)

    def listener(token: Token) -> None:
        heard.append(token.reveal())

    add_token_listener(listener)
    remove_token_listener(listener)

    assert heard == ["held"]


# Forks

FORK = """
    import os, threading, time
    from carto_auth_integrations.tokens.registry import source_for
    from carto_auth_integrations.tokens.stores import open_store
    from carto_auth_integrations.tokens.token import Token

    parent, asked, gate = os.getpid(), threading.Event(), threading.Event()

    def grant(previous, *, interactive):
        asked.set()
        if os.getpid() == parent:
            assert gate.wait(30)
        now = time.time()
        return Token("parent's" if os.getpid() == parent else "child's", obtained_at=now, expires_at=now + 3600)

    source = source_for("a" * 64, "a token", grant, open_store({place!r}))
    thread = threading.Thread(target=source.get)
    thread.start()
    assert asked.wait(30)
    pid = os.fork()
    if pid == 0:
        os.write(1, f"child: {{source.get().reveal()}}\\n".encode())
        os._exit(0)
    {then}
    thread.join(30)
    os.waitpid(pid, 0)
    print("parent:", source.get().reveal())
"""


def test_a_child_forked_during_a_request_makes_its_own_where_nothing_is_shared() -> None:
    (output,) = run_processes(
        1, FORK.format(place="memory:", then="os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT); gate.set()")
    )

    assert output.splitlines() == ["child: child's", "parent: parent's"]


def test_a_child_forked_during_a_request_waits_for_its_parents_where_there_is_a_store(tmp_path: Path) -> None:
    (output,) = run_processes(1, FORK.format(place=str(tmp_path / "tokens.json"), then="time.sleep(0.3); gate.set()"))

    assert output.splitlines() == ["child: parent's", "parent: parent's"]


def test_a_child_forked_while_a_lock_is_held_is_not_locked_out() -> None:
    (output,) = run_processes(
        1,
        """
        import os, time
        from carto_auth_integrations.tokens import registry
        from carto_auth_integrations.tokens.stores.memory import MemoryStore
        from carto_auth_integrations.tokens.token import Token

        grant = lambda previous, *, interactive: Token("new", obtained_at=0.0)
        store = MemoryStore()
        source = registry.source_for("key", "a token", grant, store)
        with source._lock, registry._lock:
            pid = os.fork()
            if pid == 0:
                os._exit(0 if registry.source_for("key", "a token", grant, store).get().reveal() == "new" else 1)
        print(os.waitpid(pid, 0)[1])
        """,
    )

    assert output == "0"
