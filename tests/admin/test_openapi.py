"""The OpenAPI document: of all routes, and of the classes that the answers are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping  # noqa: TC003  the schema of a class has it
from typing import TYPE_CHECKING, Any, Literal

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.admin.answers import Stream
from cotun_trio.admin.history import History
from cotun_trio.admin.routes import DOCUMENT, ROUTES, answer, document
from cotun_trio.admin.schemas import Schemas
from cotun_trio.http.front import Front, Request
from cotun_trio.logs import get_logger
from cotun_trio.server.server import Server
from tests.support.admin import ask
from tests.support.tunnel import running_server, server_settings

if TYPE_CHECKING:
    from pathlib import Path

SHOWN = Server(server_settings()).shown
HISTORY = History(SHOWN, get_logger("server"))


async def test_the_interface_gives_it(tmp_path: Path) -> None:
    place = f"unix:{tmp_path / 'admin.sock'}"
    async with running_server(admin_listen=place):
        found = (await ask(place, DOCUMENT)).json
    assert found == document()
    assert found["openapi"].startswith("3.1.")


def test_each_operation_is_in_it_and_says_what_it_does() -> None:
    paths = document()["paths"]
    names = set()
    for route in ROUTES:
        for method, operation in route.operations.items():
            described = paths[route.path][method.lower()]
            assert described["summary"].endswith((".", ".)"))
            names.add(described["operationId"])
            for status in operation.failures:
                assert str(status.value) in described["responses"]
        parameters = paths[route.path].get("parameters", ())
        assert {f"{{{each['name']}}}" for each in parameters} == {
            part for part in route.path.split("/") if part.startswith("{")
        }
    assert len(names) == sum(len(route.operations) for route in ROUTES)


def test_each_reference_in_it_leads_somewhere() -> None:
    found = document()
    references = json.dumps(found).split('"$ref": "#/')[1:]
    assert references
    for reference in references:
        thing = found
        for step in reference.partition('"')[0].split("/"):
            thing = thing[step]
        assert thing


# ---- schemas


@attrs.frozen
class Fruit:
    """A fruit."""

    weight: float
    """Kilograms."""
    ripe: bool


@attrs.frozen
class Apple(Fruit):
    """An apple, ``malus``; None is
    like it."""

    kind: Literal["boskoop", "elstar"]
    name: str | None
    """None without one."""
    seeds: tuple[int, ...]
    like: list[Apple]
    prices: Mapping[str, float]


def test_a_class_becomes_a_schema() -> None:
    schemas = Schemas()
    reference = {"$ref": "#/components/schemas/Apple"}
    assert schemas.of(Apple) == reference
    assert schemas.named == {
        "Apple": {
            "type": "object",
            "description": "An apple, `malus`; null is like it.",
            "properties": {
                "weight": {"type": "number", "description": "Kilograms."},
                "ripe": {"type": "boolean"},
                "kind": {"type": "string", "enum": ["boskoop", "elstar"]},
                "name": {"type": ["string", "null"], "description": "null without one."},
                "seeds": {"type": "array", "items": {"type": "integer"}},
                "like": {"type": "array", "items": reference},
                "prices": {"type": "object", "additionalProperties": {"type": "number"}},
            },
            "required": ["weight", "ripe", "kind", "name", "seeds", "like", "prices"],
        }
    }


@pytest.mark.parametrize("kind", [bytes, Fruit | None, set[str]])
def test_there_is_no_schema_of_other_types(kind: Any) -> None:
    with pytest.raises(TypeError, match="no schema"):
        Schemas().of(kind)


def test_two_classes_cannot_have_one_name() -> None:
    schemas = Schemas()
    schemas.of(Apple)
    with pytest.raises(TypeError, match="two schemas called Apple"):
        schemas.of(attrs.make_class("Apple", []))


# ---- any request


@given(
    method=st.sampled_from(["GET", "HEAD", "DELETE", "POST", "OPTIONS"]) | st.text(),
    path=st.sampled_from([route.path for route in ROUTES]),
    filling=st.text(),
    query=st.text(),
)
def test_no_request_leads_to_an_error_of_ours(
    method: str, path: str, filling: str, query: str
) -> None:
    target = path.replace("{id}", filling).replace("{source}", filling) + f"?reason={query}"
    asked = Request(method.encode(), target.encode(), (), b"")
    # Nothing of these reads a body.
    found = trio.run(answer, SHOWN, HISTORY, Front(None), asked)  # type: ignore[arg-type]
    if isinstance(found, Stream):
        assert path.endswith("/events")
        return
    assert found.status in (200, 404, 405, 409, 503)
    if found.content_type.endswith("json"):
        json.loads(found.body)


def test_a_query_may_not_be_long() -> None:
    target = f"/api/v1/sessions/1?{'a=b&' * 200}"
    asked = Request(b"DELETE", target.encode(), (), b"")
    assert trio.run(answer, SHOWN, HISTORY, Front(None), asked).status == 400  # type: ignore[arg-type]
