"""Errors of h11 as text: without anything that was sent."""

from __future__ import annotations

import h11
import pytest

from cotun_trio.protocol.http_fault import fault


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"GET / HTTP/1.1\r\nAuthorization : secret\r\n\r\n", "illegal header line"),
        (b"secret\r\n\r\n", "illegal request line"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: secret\r\n\r\n", "Transfer-Encoding"),
    ],
)
def test_what_was_sent_is_left_out(head: bytes, said: str) -> None:
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(head)
    with pytest.raises(h11.RemoteProtocolError) as caught:
        parser.next_event()
    assert said in fault(caught.value)
    assert "secret" not in fault(caught.value)


def test_so_is_a_value_of_ours_that_cannot_be_sent() -> None:
    with pytest.raises(h11.LocalProtocolError) as caught:
        h11.Request(method="GET", target="/", headers=[("Host", "a"), ("X", "secret\n")])
    assert fault(caught.value) == "Illegal header value"
