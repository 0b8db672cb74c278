"""The document: what it shows of a server and of a client."""

from __future__ import annotations

import re
import time
from typing import Any

import attrs
import pytest

from cotun_trio.admin.page.document import MAX_VALUES, document
from cotun_trio.admin.page.state import State
from cotun_trio.admin.page.tables import MAX_EVENTS, MAX_REMOTES, MAX_SESSIONS, busiest
from cotun_trio.admin.watched import Fact
from cotun_trio.logs.events import Event
from cotun_trio.snapshot import Figures
from tests.support.watched import session_of

NOW = 1_800_000_000.0
EVIL = "<script>alert(1)</script>"


def state(**more: Any) -> State:
    default = {
        "role": "server",
        "at": NOW,
        "not_ready": None,
        "uptime": 90.0,
        "facts": (),
        "figures": Figures(),
        "sessions": (),
        "trouble": None,
        "events": (),
        "last": 0,
        "rates": (),
    }
    return State(**{**default, **more})


def shown(**more: Any) -> str:
    """Return the document."""
    return document(state(**more)).decode()


def text(**more: Any) -> str:
    """Return the text of the document, a blank for each element."""
    return re.sub(r"(<[^>]*>\s*)+", " ", shown(**more))


def refusal(number: int, **facts: str) -> Event:
    return Event(number, NOW - 5, "refused", "server", {"peer": "192.0.2.9:1", **facts})


def test_a_session_is_a_row() -> None:
    page = text(sessions=[session_of(7)])
    assert " 7 alice 192.0.2.1 0.1.0 0.0.0.0:5432:db:5432 1m1s 2 2kB 1kB 20ms End… " in page
    assert " 1 open " in page


def test_without_sessions_there_is_no_table() -> None:
    assert " No session is open. " in text()
    assert "<table" not in shown()


def test_whatever_peers_say_is_text() -> None:
    page = shown(
        sessions=[session_of(1, user=EVIL, version=EVIL, peer=EVIL, remotes=(EVIL,))],
        events=[
            refusal(1, reason=EVIL, user=EVIL),
            Event(2, NOW, "opened", "server", {"user": EVIL, "peer": EVIL, "remotes": EVIL}),
        ],
        not_ready=EVIL,
        facts=[Fact("Remotes", (EVIL, '" onload="'))],
    )
    assert "alert(1)" in page
    assert "<script>" not in page
    assert '" onload="' not in page
    assert "<script>" not in shown(trouble=EVIL)


def test_control_characters_of_a_version_are_escaped() -> None:
    assert r"SSH\x1b[2J\u202e" in shown(sessions=[session_of(1, version="SSH\x1b[2J\u202e")])


def test_of_many_sessions_those_with_the_most_traffic_are_shown_in_order() -> None:
    sessions = [session_of(number, bytes_in=number) for number in range(1, MAX_SESSIONS + 51)]
    assert [each.number for each in busiest(sessions)] == list(range(51, MAX_SESSIONS + 51))
    page = shown(sessions=sessions)
    assert page.count("<tr") == MAX_SESSIONS + 1
    assert f"The {MAX_SESSIONS} of {len(sessions)} open sessions with the most traffic" in page


def test_of_many_remotes_some_are_shown() -> None:
    remotes = tuple(f"0.0.0.0:{number}:a:1" for number in range(MAX_REMOTES + 3))
    page = text(sessions=[session_of(1, remotes=remotes)])
    assert f"{remotes[MAX_REMOTES - 1]} and 3 more" in page
    assert remotes[MAX_REMOTES] not in page
    facts = [Fact("Remotes", tuple(map(str, range(1000, 1000 + MAX_VALUES + 7))))]
    assert " 1019 and 7 more " in text(facts=facts)


def test_the_latest_refusals_come_first() -> None:
    page = text(events=[refusal(n, reason=f"reason-{n}") for n in range(1, MAX_EVENTS + 3)])
    found = [int(number) for number in re.findall(r"reason-(\d+)", page)]
    assert found == list(range(MAX_EVENTS + 2, 2, -1))
    assert f" The latest {MAX_EVENTS} " in page
    assert " 5s ago - 192.0.2.9:1 reason-12 " in page


def test_other_events_are_in_a_table_of_their_own() -> None:
    page = text(
        events=[
            Event(1, NOW - 60, "opened", "server", {"session": "3", "user": "bob", "remotes": "r"}),
            Event(2, NOW - 2, "kicked", "server", {"session": "3", "reason": "lunch"}),
            Event(3, NOW - 1, "reloaded", "server", {"users": "7"}),
        ]
    )
    expected = "1s ago reloaded - - - users 7 2s ago kicked 3 - - lunch 1m0s ago opened 3 bob - r"
    assert f" {expected} " in page
    assert " Nothing was refused. " in page


def test_the_events_of_a_client_say_which_server() -> None:
    events = [Event(1, NOW, "refused", "client", {"server": "https://a.example", "reason": "r"})]
    page = text(role="client", events=events)
    assert " Server or remote Reason 0s ago https://a.example r " in page


def test_a_client_without_a_tunnel_says_why_and_what_it_is_for() -> None:
    page = text(
        role="client",
        not_ready="there is no tunnel: Connection refused",
        facts=[Fact("Server", ("https://a.example",)), Fact("Remotes", ("5432=>db:5432",))],
    )
    assert " cotun-trio client not ready: there is no tunnel: Connection refused " in page
    assert " Server https://a.example Remotes 5432=&gt;db:5432 " in page


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (30.5, "until 2027-02-14 20:00 UTC "),
        (9.5, "until 2027-01-24 20:00 UTC: 9 days left "),
        (-1.5, "until 2027-01-13 20:00 UTC: has expired "),
    ],
)
def test_the_end_of_the_certificate(days: float, expected: str) -> None:
    figures = Figures(certificate_expires=NOW + days * 86400)
    assert f" Certificate {expected}" in text(figures=figures)


def test_the_script_learns_up_to_which_event_the_page_is() -> None:
    assert '<main id="main" data-last="17">' in shown(last=17)


def test_without_tls_there_is_no_certificate() -> None:
    assert "Certificate" not in text()


def test_sessions_that_cannot_be_had_are_no_empty_table() -> None:
    page = text(trouble="worker 2 does not answer")
    assert " They are not known at present: worker 2 does not answer " in page
    assert "No session is open" not in page


def test_without_a_script_there_are_no_buttons_and_the_browser_asks_again() -> None:
    page = shown(sessions=[session_of(1)])
    assert '<noscript><meta http-equiv="refresh" content="10"></noscript>' in page
    button = re.search(r'<td [^>]*class="([^"]*)"><button', page)
    assert button is not None
    assert button[1] == "scripted"


def test_there_is_no_script_and_no_style_in_the_document() -> None:
    page = shown(sessions=[session_of(1)], events=[refusal(1)])
    assert re.findall(r"<script[^>]*>", page) == ['<script src="/page.js" defer>']
    assert '<script src="/page.js" defer></script>' in page
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|https?://(?!www.w3.org/2000/svg)", page)


def test_a_thousand_sessions_are_little_work() -> None:
    remotes = tuple(f"0.0.0.0:{number}:service-{number}:80" for number in range(10))
    sessions = [session_of(number, remotes=remotes) for number in range(1000)]
    full = attrs.evolve(state(), sessions=sessions, events=[refusal(n) for n in range(1000)])
    began = time.process_time()
    page = document(full)
    # It takes 10 ms; the limit is for what grows faster than it should.
    assert time.process_time() - began < 1
    assert len(page) < 500_000
