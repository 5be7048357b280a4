"""Deferred tasks: the trigger's event, what is stored for the wait, and when the job is cancelled."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from google.api_core.exceptions import BadRequest, GoogleAPICallError

from airflow_provider.compat import mask_secret
from airflow_provider.hooks.carto import CartoHook
from airflow_provider.operators.carto import CartoLoadOperator, CartoQueryOperator
from airflow_provider.triggers import job as trigger_module
from airflow_provider.triggers.carto import CartoJobTrigger
from carto_auth_integrations import ClientRejected
from carto_auth_integrations.sandbox import Sandbox
from carto_auth_integrations.warehouse import CartoWarehouse
from tests.support.airflow_tasks import context_of, jobs_named

ENDLESS = """
    SELECT COUNT(*) AS n FROM UNNEST(GENERATE_ARRAY(1, 30000)) AS a CROSS JOIN UNNEST(GENERATE_ARRAY(1, 30000)) AS b
    WHERE MOD(a * b, 7) > MOD(a + b, 5)
    """
"""A query of many seconds."""


@pytest.fixture
def name() -> str:
    return f"t_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def task_state(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The task's state in Airflow; `error` for an Airflow that does not answer."""
    answer: dict[str, Any] = {"state": "deferred"}

    def state_of(task_instance: Any) -> Any:
        if answer["state"] == "error":
            raise RuntimeError("no answer")
        return answer["state"]

    monkeypatch.setattr(trigger_module, "_state_of", state_of)
    return answer


def events_of(trigger: CartoJobTrigger) -> list[Any]:
    async def gather() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(gather())


def deferred_by(operator: Any, context: dict[str, Any]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    return deferred.value


def recreated(trigger: Any) -> CartoJobTrigger:
    """Return the trigger as another process creates it, from what Airflow stores in its database."""
    path, arguments = json.loads(json.dumps(trigger.serialize()))
    assert path == "airflow_provider.triggers.carto.CartoJobTrigger"
    return CartoJobTrigger(**arguments)


def test_a_deferred_query_is_begun_once_and_its_result_taken_afterwards(
    sandbox: Sandbox, name: str, warehouse: CartoWarehouse
) -> None:
    options: dict[str, Any] = {"sql": "SELECT 1 AS one", "destination": f"shared.{name}", "deferrable": True}
    operator, context = CartoQueryOperator(task_id=name, write_disposition="WRITE_APPEND", **options), context_of(name)
    deferred = deferred_by(operator, context)
    assert deferred.trigger.job_id in context["ti"].xcoms["carto_job_link"]

    (event,) = events_of(recreated(deferred.trigger))
    assert event == {
        "status": "success",
        "carto_conn_id": "carto_default",
        "job_id": operator._watch.job_id,
        "location": "US",
    }

    resumed = CartoQueryOperator(task_id=name, write_disposition="WRITE_APPEND", **options)
    result = resumed.execute_complete(context_of(name), event=event, **deferred.kwargs)
    assert (result["rows"], result["job_id"], result["reattached"]) == ([{"one": 1}], event["job_id"], False)
    assert warehouse.query(f"SELECT COUNT(*) AS n FROM shared.{name}").rows == ({"n": 1},)


@pytest.mark.parametrize("template", ["sql", "parameters", "destination", "carto_conn_id", "idempotency_key"])
def test_a_template_that_renders_differently_after_the_wait_does_not_begin_a_second_job(
    sandbox: Sandbox, name: str, warehouse: CartoWarehouse, template: str
) -> None:
    options: dict[str, Any] = {"task_id": name, "sql": "SELECT @at AS at", "parameters": {"at": 1}, "deferrable": True}
    options["destination"] = f"shared.{name}"
    deferred = deferred_by(CartoQueryOperator(**options), context_of(name))
    (event,) = events_of(deferred.trigger)

    later = CartoQueryOperator(**{**options, template: {"at": 2} if template == "parameters" else "other"})
    assert later.execute_complete(context_of(name), event=event, **deferred.kwargs)["rows"] == [{"at": 1}]
    assert len(jobs_named(warehouse, name)) == 1


def test_a_deferred_load_does_not_read_its_rows_again(sandbox: Sandbox, name: str, warehouse: CartoWarehouse) -> None:
    load = CartoLoadOperator(task_id=name, source=[{"id": 1}], destination=f"shared.{name}", deferrable=True)
    deferred = deferred_by(load, context_of(name))
    assert deferred.kwargs == {"reattached": False}
    (event,) = events_of(deferred.trigger)

    resumed = CartoLoadOperator(task_id=name, source=None, destination=f"shared.{name}", deferrable=True)
    assert resumed.execute_complete(context_of(name), event=event, **deferred.kwargs)["rows"] == 1
    assert len(jobs_named(warehouse, name)) == 1


def test_a_retry_waits_for_the_job_of_the_earlier_try(sandbox: Sandbox, name: str, warehouse: CartoWarehouse) -> None:
    first = deferred_by(CartoQueryOperator(task_id=name, sql=ENDLESS, deferrable=True), context_of(name))
    retry = CartoQueryOperator(task_id=name, sql=ENDLESS, deferrable=True)
    second = deferred_by(retry, context_of(name, try_number=2))
    assert first.trigger.serialize() == second.trigger.serialize()
    assert second.kwargs["reattached"]
    warehouse.cancel(first.trigger.job_id)


def test_only_plain_values_and_no_secret_are_stored_for_the_wait(sandbox: Sandbox, name: str) -> None:
    query = CartoQueryOperator(task_id=name, sql="SELECT 1", parameters={"a": 1}, deferrable=True)
    deferred = deferred_by(query, context_of(name))
    stored = json.dumps([deferred.trigger.serialize(), deferred.kwargs])
    for secret in (sandbox.options.client_secret, "sandbox-carto-", "sandbox-dw-"):
        assert secret not in stored


def test_a_statement_with_a_secret_is_not_stored(sandbox: Sandbox, name: str) -> None:
    secret = f"hunter2-{name}"
    mask_secret(secret)
    options: dict[str, Any] = {"task_id": name, "sql": f"SELECT LENGTH('{secret}') AS n", "deferrable": True}
    deferred = deferred_by(CartoQueryOperator(**options), context_of(name))
    assert secret not in json.dumps([deferred.trigger.serialize(), deferred.kwargs])

    (event,) = events_of(deferred.trigger)
    result = CartoQueryOperator(**options).execute_complete(context_of(name), event=event, **deferred.kwargs)
    assert (result["job_id"], result["rows"]) == (event["job_id"], [{"n": len(secret)}])


def test_bigquerys_error_is_raised_after_the_wait_as_it_was(sandbox: Sandbox, name: str) -> None:
    query = CartoQueryOperator(task_id=name, sql="SELECT ERROR('no such thing')", deferrable=True)
    deferred = deferred_by(query, context_of(name))
    (event,) = events_of(deferred.trigger)
    assert (event["status"], event["error"]) == ("error", "BadRequest")
    with pytest.raises(BadRequest, match="no such thing"):
        query.execute_complete(context_of(name), event=event, **deferred.kwargs)


def test_an_account_that_is_refused_during_the_wait_is_an_event_and_the_same_error(sandbox: Sandbox, name: str) -> None:
    query = CartoQueryOperator(task_id=name, sql="SELECT 1", deferrable=True)
    deferred = deferred_by(query, context_of(name))
    sandbox.revoke("carto")
    sandbox.revoke("dw")
    sandbox.fault("token", status=401)
    (event,) = events_of(deferred.trigger)
    assert (event["status"], event["error"]) == ("error", "ClientRejected")
    with pytest.raises(ClientRejected, match="client_id") as raised:
        query.execute_complete(context_of(name), event=json.loads(json.dumps(event)), **deferred.kwargs)
    assert raised.value.status == 401


def test_a_job_that_does_not_exist_is_an_event(sandbox: Sandbox) -> None:
    (event,) = events_of(CartoJobTrigger("carto_default", "never_was", "US"))
    assert (event["status"], event["error"]) == ("error", "NotFound")


def test_a_connection_that_does_not_exist_is_an_event(sandbox: Sandbox) -> None:
    (event,) = events_of(CartoJobTrigger("no_such_connection", "any", "US"))
    assert event["status"] == "error"
    assert "no_such_connection" in event["message"]


def test_a_deferred_job_over_its_time_is_cancelled(sandbox: Sandbox, name: str, warehouse: CartoWarehouse) -> None:
    job_id = warehouse.begin_query(ENDLESS).job_id
    (event,) = events_of(CartoJobTrigger("carto_default", job_id, "US", deadline=time.time() + 0.5))
    assert (event["status"], event["error"]) == ("error", "TimeoutError")
    with pytest.raises(TimeoutError, match="cancelled"):
        CartoQueryOperator(task_id=name, sql=ENDLESS).execute_complete(context_of(name), event)
    with pytest.raises(GoogleAPICallError, match=r"(?i)cancelled"):
        warehouse.wait_for(job_id)


async def waiting(trigger: CartoJobTrigger) -> asyncio.Task[None]:
    """Run a trigger as a triggerer does, until it waits for its job."""
    trigger.task_instance = SimpleNamespace(task_id="any")

    async def run() -> None:
        async for _ in trigger.run():
            pass

    task = asyncio.create_task(run())
    await asyncio.sleep(1)
    assert not task.done()
    return task


def state_after_cancelling(warehouse: CartoWarehouse, job_id: str, *, killed: bool) -> str:
    """Return what happened to a job whose trigger was cancelled: by a user, or because the triggerer stops."""

    async def cancel() -> None:
        trigger = CartoJobTrigger("carto_default", job_id, "US")
        task = await waiting(trigger)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if killed and trigger_module.AIRFLOW_CALLS_ON_KILL:
            await trigger.on_kill()

    asyncio.run(cancel())
    try:
        warehouse.wait_for(job_id, timeout=0.5)  # cancels a job that goes on
    except TimeoutError:
        return "went on"
    except GoogleAPICallError:
        return "was cancelled"
    return "ended"


@pytest.mark.parametrize("calls_on_kill", [True, False], ids=["Airflow 3.3", "before"])
@pytest.mark.parametrize(
    ("state", "killed", "job"),
    [
        ("deferred", False, "went on"),  # the triggerer stops
        ("deferred", True, "went on"),  # another triggerer has taken over
        ("failed", True, "was cancelled"),  # a user marked the task
        (None, True, "was cancelled"),  # a user cleared it
    ],
)
def test_a_job_is_cancelled_if_a_user_clears_or_marks_its_task_and_goes_on_if_a_triggerer_stops(
    warehouse: CartoWarehouse,
    task_state: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    calls_on_kill: bool,
    state: str | None,
    killed: bool,
    job: str,
) -> None:
    monkeypatch.setattr(trigger_module, "AIRFLOW_CALLS_ON_KILL", calls_on_kill)
    task_state["state"] = state
    assert state_after_cancelling(warehouse, warehouse.begin_query(ENDLESS).job_id, killed=killed) == job


def test_the_message_of_a_cancellation_reaches_airflow_while_the_connection_is_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up = threading.Event()
    monkeypatch.setattr(trigger_module, "_hook", lambda _: looked_up.wait(10))

    async def wait() -> None:
        # Caught within the task, where Airflow catches it: in Python 3.10 the message does not reach others.
        with pytest.raises(asyncio.CancelledError, match="a user's action"):
            await anext(CartoJobTrigger("carto_default", "any", "US").run())

    async def cancel() -> None:
        waits = asyncio.ensure_future(wait())
        await asyncio.sleep(0.1)
        waits.cancel("a user's action")
        await waits
        looked_up.set()

    asyncio.run(cancel())


def test_a_job_goes_on_if_an_older_airflow_does_not_return_the_state_of_its_task(
    warehouse: CartoWarehouse, task_state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger_module, "AIRFLOW_CALLS_ON_KILL", False)
    task_state["state"] = "error"
    assert state_after_cancelling(warehouse, warehouse.begin_query(ENDLESS).job_id, killed=True) == "went on"


def test_all_triggers_of_an_account_share_one_token(sandbox: Sandbox, warehouse: CartoWarehouse) -> None:
    jobs = [warehouse.begin_query("SELECT 1").job_id for _ in range(5)]
    before = sandbox.stats()
    sandbox.revoke("carto")
    sandbox.revoke("dw")

    async def gather() -> None:
        await asyncio.gather(*(anext(CartoJobTrigger("carto_default", job, "US").run()) for job in jobs))

    asyncio.run(gather())
    after = sandbox.stats()
    assert after.count("token") - before.count("token") == 1
    assert after.issued["dw"] - before.issued["dw"] == 1


def test_triggers_that_begin_together_read_their_connection_once(
    warehouse: CartoWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, read, get_connection = warehouse.begin_query("SELECT 1").job_id, [], CartoHook.get_connection

    def noted(conn_id: str) -> Any:
        read.append(conn_id)
        return get_connection(conn_id)

    monkeypatch.setattr(CartoHook, "get_connection", staticmethod(noted))

    async def gather(conn_id: str) -> list[Any]:
        triggers = [CartoJobTrigger(conn_id, job, "US") for _ in range(50)]
        return [event.payload["status"] for event in await asyncio.gather(*(anext(each.run()) for each in triggers))]

    for _ in range(2):  # it is read again, since it may change
        assert asyncio.run(gather("carto_default")) == ["success"] * 50
    assert asyncio.run(gather("carto_nowhere")) == ["error"] * 50
    assert read == ["carto_default", "carto_default", "carto_nowhere"]


def test_an_unknown_name_in_the_triggers_module_is_an_attribute_error() -> None:
    import airflow_provider.triggers.carto as module

    with pytest.raises(AttributeError, match="no attribute 'CartoTrigger'"):
        module.CartoTrigger  # noqa: B018  # the access is what is tested


def test_killing_a_trigger_whose_job_does_not_exist_logs_a_warning(
    sandbox: Sandbox, task_state: dict[str, Any]
) -> None:
    task_state["state"] = None
    trigger, logged = CartoJobTrigger("carto_default", "never_was", "US"), []
    trigger._log = SimpleNamespace(warning=lambda text, *values: logged.append(text % values))
    asyncio.run(trigger.on_kill())
    assert "never_was could not be cancelled" in logged[0]


def test_a_job_is_cancelled_although_airflow_cancels_its_trigger_again_meanwhile(
    warehouse: CartoWarehouse, task_state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = warehouse.begin_query(ENDLESS).job_id
    asked = threading.Event()
    monkeypatch.setattr(trigger_module, "_state_of", lambda _: asked.wait(10) and "failed")

    async def kill_twice() -> None:
        kill = asyncio.ensure_future(CartoJobTrigger("carto_default", job_id, "US").on_kill())
        await asyncio.sleep(0.1)
        kill.cancel()
        with pytest.raises(asyncio.CancelledError):
            await kill
        asked.set()
        while trigger_module._running:
            await asyncio.sleep(0.05)

    asyncio.run(kill_twice())
    with pytest.raises(GoogleAPICallError, match=r"(?i)cancelled"):
        warehouse.wait_for(job_id)
