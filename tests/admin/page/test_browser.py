"""The page in a real browser: Chromium, which nobody here wrote."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from cotun_trio.access.credentials import Credentials
from cotun_trio.settings import AdminAddress
from tests.support.browser import browser
from tests.support.log_watch import watch_logs
from tests.support.peers import needs
from tests.support.targets import LOOPBACK, connect, echo, exchange, listening
from tests.support.tunnel import (
    echo_tunnel,
    running_client,
    running_server,
    switchable_server,
    tunnel,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.browser import Page
    from tests.support.log_watch import LogWatch

pytestmark = [needs("chromium"), pytest.mark.slow, pytest.mark.interop]

ADMIN = {"admin_listen": f"{LOOPBACK}:0"}
EVIL = "<script>alert(1)</script>"
ROW = "document.getElementById('session-1')"
NEWS = "document.getElementById('news')"
PRESS = f"{ROW}.querySelector('button').click()"
"""What a user does, in JavaScript."""
CONTRAST = """
(() => {
  const light = (colour) => {
    const parts = colour.match(/[0-9.]+/g).map(Number);
    if (parts.length > 3 && parts[3] === 0) return null;
    const [r, g, b] = parts.slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const found = light(getComputedStyle(each).backgroundColor);
      if (found !== null) return found;
    }
    return 1;
  };
  const found = {};
  for (const each of document.querySelectorAll("body *")) {
    const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !each.checkVisibility()) continue;
    const [one, other] = [light(getComputedStyle(each).color), ground(each)];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const name = each.tagName + "." + each.className;
    found[name] = Math.min(found[name] ?? 21, ratio);
  }
  return found;
})()
"""
"""The least contrast of each kind of text (WCAG 2.2, section 1.4.3)."""


@contextlib.asynccontextmanager
async def looking(
    log: LogWatch, tmp_path: Path, *, script: bool = True, **options: Any
) -> AsyncIterator[Page]:
    """Open the page in a browser, with or without its script; the log says where it is."""
    address = (await log.wait_for(r"Answering administrators on (http://\S+)"))[1]
    async with browser(tmp_path / "profile") as running:
        page = await running.page(**options)
        if not script:
            await page.call("Emulation.setScriptExecutionDisabled", value=True)
        await page.open(address)
        yield page


async def test_a_session_opens_carries_bytes_and_ends(tmp_path: Path) -> None:
    async with (
        watch_logs() as log,
        listening(echo) as target,
        running_server(**ADMIN) as server,
        looking(log, tmp_path) as page,
    ):
        await page.wait_for("document.getElementById('main').innerText.includes('No session is')")
        remote = f"{LOOPBACK}:0:{target}"
        async with running_client(server.addresses[0], remote) as client:
            await page.wait_for(ROW)
            assert remote in await page.run(f"{ROW}.innerText")
            await page.wait_for(f"{NEWS}.innerText.includes('Opened session 1')")
            async with await connect(client.addresses[0]) as stream:
                await exchange(stream, bytes(2_000_000))
            await page.wait_for(f"{ROW}.innerText.includes('MB')")
        await page.wait_for(f"!{ROW}")
        await page.wait_for("document.getElementById('main').innerText.includes('closed')")
        await page.wait_for(f"{NEWS}.innerText.includes('Closed session')")
        hosts = {urlsplit(url).netloc for url in page.requests if not url.startswith("data:")}
        assert len(hosts) == 1
        assert hosts.pop().startswith(f"{LOOPBACK}:")
        assert page.complaints == []


async def test_a_user_s_name_is_text(tmp_path: Path) -> None:
    """In the row that the script puts there, in its news and its question, and in the document."""
    auth = Credentials(EVIL, "secret")
    async with (
        watch_logs() as log,
        running_server(auth=f"{EVIL}:secret", **ADMIN) as server,
        looking(log, tmp_path) as page,
        running_client(server.addresses[0], "0:x:1", auth=auth),
    ):
        await page.wait_for(ROW)
        await page.wait_for(f"{NEWS}.innerText")
        await page.run(PRESS)
        for place in (ROW, NEWS, "document.getElementById('ask')"):
            assert EVIL in await page.run(f"{place}.innerText")
        await page.call("Page.reload")
        await page.wait_for(f"{ROW}?.innerText.includes({EVIL!r})")
        assert await page.run("document.scripts.length") == 1
        assert page.complaints == []


async def test_to_end_a_session_is_asked_first(tmp_path: Path) -> None:
    async with (
        watch_logs() as log,
        tunnel(f"{LOOPBACK}:1", server=ADMIN) as both,
        looking(log, tmp_path) as page,
    ):
        await page.wait_for(ROW)
        await page.run(f"{ROW}.querySelector('button').focus()")
        await page.press("Enter")
        await page.wait_for("document.getElementById('ask').open")
        assert "End session 1 (" in await page.run("document.getElementById('question').innerText")
        assert await page.run("document.activeElement.id") == "cancel"
        await page.press("Enter")
        await page.wait_for("!document.getElementById('ask').open")
        # The keyboard is where it was, and so is the session.
        assert await page.run("document.activeElement.dataset.end") == "1"
        assert [session.number for session in both.server.sessions] == [1]

        await page.press("Enter")
        await page.wait_for("document.getElementById('ask').open")
        await page.run("document.querySelector('#ask input').focus()")
        await page.type("gone <to> lunch")
        await page.press("Enter")
        await log.wait_for("Disconnected: .*gone <to> lunch", "client")
        await page.wait_for(f"!{ROW}")
        assert await page.run("document.activeElement.id") == "sessions"


async def test_a_session_that_has_gone_is_said_to_have(tmp_path: Path) -> None:
    async with (
        watch_logs() as log,
        tunnel(f"{LOOPBACK}:1", server=ADMIN),
        looking(log, tmp_path) as page,
    ):
        await page.wait_for(ROW)
        await page.run(f"{ROW}.querySelector('button').dataset.end = '77'; {PRESS}")
        await page.run("document.querySelector('#ask .danger').click()")
        await page.wait_for(f"{NEWS}.innerText.includes('there is no session 77')")


async def test_what_stays_keeps_its_place_and_the_keyboard(tmp_path: Path) -> None:
    async with (
        watch_logs() as log,
        tunnel(f"{LOOPBACK}:1", server=ADMIN) as both,
        looking(log, tmp_path) as page,
    ):
        await page.wait_for(ROW)
        await page.run(f"{ROW}.mine = true; {ROW}.querySelector('button').focus()")
        async with running_client(both.server.addresses[0], "0:x:1"):
            await page.wait_for("document.getElementById('session-2')")
        await page.wait_for("!document.getElementById('session-2')")
        assert await page.run(f"{ROW}.mine")
        assert await page.run("document.activeElement.dataset.end") == "1"


async def test_without_a_script_the_table_is_there_and_buttons_are_not(tmp_path: Path) -> None:
    async with (
        watch_logs() as log,
        tunnel(f"{LOOPBACK}:1", server=ADMIN),
        looking(log, tmp_path, script=False) as page,
    ):
        tree = await page.tree()
    assert ("rowheader", "1") in tree
    assert ("columnheader", "Remotes") in tree
    assert not any(role == "button" for role, _ in tree)


async def test_assistive_programs_see_landmarks_tables_and_names(tmp_path: Path) -> None:
    async with (
        watch_logs() as log,
        tunnel(f"{LOOPBACK}:1", server=ADMIN),
        # On a phone, where the rows are blocks, they are rows all the same.
        looking(log, tmp_path, width=390, height=844) as page,
    ):
        await page.wait_for(ROW)
        tree = await page.tree()
        assert await page.run("document.documentElement.scrollWidth") == 390
    roles = [role for role, _ in tree]
    assert {"banner", "main", "contentinfo", "status", "table"} <= set(roles)
    for name in ("Overview", "Traffic", "Sessions", "Refusals"):
        assert ("heading", name) in tree
        assert ("region", name) in tree
    assert ("columnheader", "Received") in tree
    assert ("rowheader", "1") in tree
    assert ("button", "End session 1") in tree
    assert ("link", "Skip to the sessions") in tree


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_text_can_be_read(tmp_path: Path, dark: bool) -> None:
    async with (
        watch_logs() as log,
        echo_tunnel(server=ADMIN),
        looking(log, tmp_path, dark=dark) as page,
    ):
        await page.wait_for(ROW)
        await page.run(PRESS)
        found: dict[str, float] = await page.run(CONTRAST)
        ground = await page.run("getComputedStyle(document.body).backgroundColor")
    assert min(found.values()) >= 4.5, found
    assert {"BUTTON.danger", "TD.number", "DT.", "CAPTION.", "P.ready"} <= set(found)
    red = int(ground.removeprefix("rgb(").split(",")[0])
    assert red < 64 if dark else red > 192


async def test_the_end_of_the_server_is_told(tmp_path: Path) -> None:
    async with (
        watch_logs() as log,
        switchable_server(**ADMIN) as switch,
        looking(log, tmp_path) as page,
    ):
        await page.wait_for("document.documentElement.classList.contains('has-script')")
        await switch.stop()
        await page.wait_for(
            "document.getElementById('trouble').innerText.includes('There is no answer')"
        )


async def test_the_page_of_a_client(tmp_path: Path) -> None:
    async with (
        watch_logs() as log,
        listening(lambda stream: stream.aclose()) as nobody,
        running_client(nobody, "5432:db:5432", admin_listen=AdminAddress.parse(f"{LOOPBACK}:0")),
        looking(log, tmp_path) as page,
    ):
        await page.wait_for("document.getElementById('top').innerText.includes('no tunnel')")
        await page.wait_for("document.querySelector('[aria-labelledby=refusals] td')")
        text = await page.run("document.getElementById('main').innerText")
    assert f"http://{nobody}" in text
    assert "5432=>db:5432" in text
