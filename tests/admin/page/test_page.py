"""The page over HTTP: its paths, its policy, and that a server and a client fill it."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.admin import page
from cotun_trio.admin.history import PERIOD, History
from cotun_trio.admin.page.page import Page
from cotun_trio.errors import ConnectionLost
from cotun_trio.http.front import Request
from cotun_trio.logs import get_logger
from cotun_trio.settings import AdminAddress, ServerTls
from tests.support.admin import ask
from tests.support.certificates import Authority
from tests.support.log_watch import watch_logs
from tests.support.targets import LOOPBACK, listening
from tests.support.tunnel import echo_tunnel, running_client, running_server
from tests.support.watched import FakeWatched

if TYPE_CHECKING:
    from pathlib import Path

ASKED = Request(b"GET", b"/", (), b"")


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"unix:{tmp_path / 'admin.sock'}"


async def test_the_page_of_a_server(place: str) -> None:
    async with echo_tunnel(server={"admin_listen": place}) as both:
        answer = await ask(place, "/")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert both.server.addresses[0] in answer.body
    assert '<tr role="row" id="session-1">' in answer.body
    assert answer.body.startswith('<!DOCTYPE html>\n<html lang="en">')


async def test_the_policy_allows_what_the_page_has_and_no_more(place: str) -> None:
    async with running_server(admin_listen=place):
        policy = (await ask(place, "/")).headers["content-security-policy"]
        others = [await ask(place, path) for path in ("/page.js", "/ready", "/nowhere")]
    parts = dict(part.split(" ", 1) for part in policy.split("; "))
    assert parts.pop("img-src") == "'self' data:"
    assert {parts.pop(name) for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert parts.pop("form-action") == "'self'"
    assert set(parts) == {"default-src", "base-uri", "frame-ancestors"}
    assert set(parts.values()) == {"'none'"}
    for answer in others:
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; frame")


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/page.css", "text/css; charset=utf-8"), ("/page.js", "text/javascript; charset=utf-8")],
)
async def test_style_and_script_are_files_of_the_package(
    place: str, path: str, content_type: str
) -> None:
    async with running_server(admin_listen=place):
        answer = await ask(place, path)
    assert answer.headers["content-type"] == content_type
    assert answer.body == resources.files(page).joinpath(path.removeprefix("/")).read_text()


@pytest.mark.parametrize("path", ["/", "/page.js"])
async def test_it_is_for_reading(place: str, path: str) -> None:
    async with running_server(admin_listen=place):
        refused = await ask(place, path, method="POST")
        head = await ask(place, path, method="HEAD")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert (head.status, head.body) == (200, "")


@pytest.mark.parametrize("path", ["/", "/page.js", "/api/v1/rates", "/api/v1/events"])
async def test_without_the_token_there_is_nothing(path: str) -> None:
    async with watch_logs() as log, running_server(admin_listen=f"{LOOPBACK}:0"):
        address = (await log.wait_for("Answering administrators on http://([^/]+)/"))[1]
        assert (await ask(address, path)).status == 401


async def test_the_traffic_is_sampled_while_the_interface_is_open(
    place: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with echo_tunnel(server={"admin_listen": place, "keepalive": 0}):
        assert (await ask(place, "/api/v1/rates")).json == {"seconds": PERIOD, "rates": []}
        await trio.sleep(2 * PERIOD + 1)
        rates = (await ask(place, "/api/v1/rates")).json["rates"]
        shown = (await ask(place, "/")).body
    assert len(rates) == 2
    assert set(rates[0]) == {"received", "sent"}
    assert "<polyline" in shown


async def test_the_page_of_a_client_with_a_tunnel_and_without(place: str) -> None:
    here = AdminAddress.parse(place)
    async with (
        running_server() as server,
        running_client(server.addresses[0], "0:x:1", admin_listen=here) as client,
    ):
        await client.opened()
        found = (await ask(place, "/")).body
        assert f"<dt>Server</dt><dd>http://{server.addresses[0]}</dd>" in found
        assert "<dt>Remotes</dt><dd>0=&gt;x:1</dd>" in found
        assert '<p class="ready">ready</p>' in found
        assert '<tr role="row" id="session-1">' in found
    async with (
        listening(lambda stream: stream.aclose()) as nobody,
        running_client(nobody, "0:x:1", admin_listen=here),
    ):
        found = (await ask(place, "/")).body
        assert f"<dd>http://{nobody}</dd>" in found
        assert '<p class="not-ready">not ready: there is no tunnel: ' in found
        assert "No session is open." in found


async def test_the_certificate_of_a_server_that_speaks_tls(place: str, tmp_path: Path) -> None:
    cert, key = Authority(tmp_path / "ca").issue("localhost", expired=True)
    async with running_server(admin_listen=place, tls=ServerTls(cert=cert, key=key)):
        assert (
            "<dt>Certificate</dt><dd>until 2020-01-01 00:00 UTC: has expired</dd>"
            in (await ask(place, "/")).body
        )
        stats = (await ask(place, "/api/v1/stats")).json
    assert stats["certificate_expires"] == 1577836800.0


async def test_a_server_that_cannot_be_asked_is_shown_as_one() -> None:
    watched = FakeWatched()
    watched.error = ConnectionLost("worker 2 does not answer")
    answer = await Page(watched, History(watched, get_logger("server"))).answer(ASKED)
    assert answer is not None
    assert b"They are not known at present: worker 2 does not answer" in answer.body
