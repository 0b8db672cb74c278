"""The refusal of a config request: final or passing, and readable for everybody."""

from __future__ import annotations

import pytest

from cotun_trio.protocol.refusal import ConfigRefusal


@pytest.mark.parametrize("passing", [True, False])
@pytest.mark.parametrize("reason", [b"access to 'a:1' denied", b"", b"\xff", b"a\0b", b"not now"])
def test_a_refusal_for_a_client_of_ours_comes_back_as_it_was(reason: bytes, passing: bool) -> None:
    refusal = ConfigRefusal(reason, passing=passing)
    assert ConfigRefusal.decode(refusal.encode(marked=True)) == refusal


def test_the_refusal_for_another_session_with_the_server_is_one_of_its_own() -> None:
    refusal = ConfigRefusal(b"again", passing=True, same_server=True)
    payload = refusal.encode(marked=True)
    assert payload.startswith(b"again\0")
    assert ConfigRefusal.decode(payload) == refusal
    assert refusal.encode(marked=False) == b"again"


def test_a_go_client_gets_the_text_and_nothing_else() -> None:
    assert ConfigRefusal(b"held", passing=True).encode(marked=False) == b"held"
    assert ConfigRefusal(b"held", passing=False).encode(marked=False) == b"held"


def test_the_text_comes_first_and_stays_readable() -> None:
    payload = ConfigRefusal(b"held", passing=True).encode(marked=True)
    assert payload.startswith(b"held\0")


@pytest.mark.parametrize(
    ("text", "passing"),
    [
        (b"server: Server cannot listen on R:127.0.0.1:8080=>localhost:3000", True),  # chisel 1.11
        (b"server: session#3: Server cannot listen on R:8080=>3000", True),
        (b"Server cannot listen on 0.0.0.0:80: Permission denied", True),
        (b"server cannot listen on", False),
        (b"access to 'Server cannot listen on x' denied", False),
        (b"Reverse port forwarding not enabled on server", False),
        (b"", False),
    ],
)
def test_a_go_server_says_by_its_text_that_a_port_is_held(text: bytes, passing: bool) -> None:
    assert ConfigRefusal.decode(text) == ConfigRefusal(text, passing=passing)
