"""A real interface, held against its OpenAPI document: all that it answers is in there.

schemathesis makes up requests, right ones and wrong ones, and checks each answer: its status, its
content type, its schema, that wrong ones are refused, and that nothing is an error of ours.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
import schemathesis
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from cotun_trio import logs
from cotun_trio.admin.routes import DOCUMENT, ROUTES
from tests.support.admin import FLEET
from tests.support.log_watch import restored_logging, watch_logs
from tests.support.targets import LOOPBACK, connect, echo, echoes, listening
from tests.support.tunnel import running_client, running_server
from tests.support.users import ALICE

if TYPE_CHECKING:
    from schemathesis import APIOperation, Case

REAL = {"id": "1", "source": "2001:db8::/64"}
"""What is there at the beginning; deleting comes last."""
FEW = settings(
    max_examples=10,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


def hold_against_document(address: str, token: str) -> dict[str, set[int]]:
    """Check the answers of an interface; return the statuses of each operation."""
    # As JSON, events have an end.
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    schema = schemathesis.openapi.from_url(f"http://{address}{DOCUMENT}", headers=headers)
    operations = [result.ok() for result in schema.get_all_operations()]
    # What the others look at is deleted last, and single things before all of them.
    operations.sort(key=lambda each: (each.method.lower() == "delete", "{" not in each.path))
    return {each.label: statuses(each, headers) for each in operations}


def statuses(operation: APIOperation, headers: dict[str, str]) -> set[int]:
    """Check the answers to one operation; return their statuses."""
    seen = set()

    def check(case: Case, named: bool) -> None:
        if named:
            known = {name: REAL[name] for name in case.path_parameters}
            case.path_parameters.update(known)
        seen.add(case.call_and_validate(headers=headers).status_code)

    right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    FEW(given(case=wrong, named=st.just(False))(check))()
    FEW(given(case=right, named=st.booleans())(check))()
    return seen


@pytest.mark.slow
async def test_all_answers_are_as_the_document_has_them() -> None:
    with restored_logging():
        logs.configure(verbose=False, stream=io.StringIO())
        async with (
            watch_logs() as log,
            running_server(auth=ALICE, max_auth_failures=1, admin_listen=f"{LOOPBACK}:0") as server,
            listening(echo) as target,
            running_client(server.addresses[0], f"{LOOPBACK}:0:{target}", auth=ALICE) as client,
        ):
            await client.opened()
            server.shown._fleet = lambda: FLEET
            stream = await connect(client.addresses[0])
            assert await echoes(stream)
            await server.logins.judge("2001:db8::1", "alice", "wrong", server.log)
            found = await log.wait_for(r"Answering administrators on http://(\S+)/\?token=(\S+)")
            async with stream:
                seen = await trio.to_thread.run_sync(hold_against_document, found[1], found[2])
    expected = {f"{method} {route.path}" for route in ROUTES for method in route.operations} - {
        f"GET {DOCUMENT}"
    }  # schemathesis has read it before
    assert seen.keys() == expected
    for label, found in seen.items():  # each operation did its work at least once
        assert 200 in found, label
