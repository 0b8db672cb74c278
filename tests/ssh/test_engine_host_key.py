"""The host key: what a server has to prove, and what it can claim instead."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cotun_trio.errors import ProtocolError
from cotun_trio.ssh import messages
from cotun_trio.ssh.engine import KeysAgreed
from cotun_trio.ssh.key_exchange import MAX_KEY
from tests.support.ssh import HOST_KEYS, EnginePair, host_key, lists_of, make_engine, rewriting

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[bytes], bytes]

HOST_KEY, PUBLIC_VALUE, SIGNATURE = range(3)
every_key = pytest.mark.parametrize("key", HOST_KEYS)


def strings(*parts: bytes) -> bytes:
    return b"".join(map(messages.string, parts))


def changing(which: int, change: Change) -> Change:
    """Return what changes one field of a KEX_REPLY."""

    def changed(payload: bytes) -> bytes:
        reader = messages.Reader(memoryview(payload))
        fields = [bytes(reader.string()) for _ in range(3)]
        fields[which] = change(fields[which])
        return payload[:1] + strings(*fields)

    return changed


def answered_with(change: Change, key: str = "ecdsa") -> EnginePair:
    """Return a pair whose server's KEX_REPLY is changed on its way."""
    return EnginePair(
        make_engine("client", kex=["curve25519-sha256"]),
        make_engine("server", key=host_key(key)),
        tamper=rewriting("server", messages.KEX_REPLY, change),
    )


def flip_last_bit(field: bytes) -> bytes:
    return field[:-1] + bytes((field[-1] ^ 1,))


@every_key
def test_a_client_learns_the_host_key_that_was_proven(key: str) -> None:
    pair = EnginePair(server=make_engine("server", key=host_key(key)), user=None).run()
    assert pair.events["client"] == [KeysAgreed(host_key(key).asbytes())]


def test_certificates_are_not_offered_as_nobody_here_would_check_them() -> None:
    pair = EnginePair().run()
    names = lists_of(pair.heard["server"][0])[1].decode().split(",")
    assert names == [
        "ecdsa-sha2-nistp256",
        "ssh-ed25519",
        "rsa-sha2-512",
        "rsa-sha2-256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
    ]


@every_key
@pytest.mark.parametrize("which", [HOST_KEY, PUBLIC_VALUE, SIGNATURE])
def test_a_server_that_does_not_hold_its_host_key_is_refused(key: str, which: int) -> None:
    pair = answered_with(changing(which, flip_last_bit), key)
    with pytest.raises(ProtocolError, match="key exchange failed"):
        pair.run()
    assert pair.events["client"] == []


@every_key
def test_another_servers_host_key_cannot_be_claimed(key: str) -> None:
    other = host_key(key, 1).asbytes()
    assert other != host_key(key).asbytes()
    pair = answered_with(changing(HOST_KEY, lambda _: other), key)
    with pytest.raises(ProtocolError, match="key exchange failed"):
        pair.run()
    assert pair.events["client"] == []


@every_key
def test_a_signature_from_another_connection_proves_nothing(key: str) -> None:
    recorded: list[bytes] = []

    def record(signature: bytes) -> bytes:
        recorded.append(signature)
        return recorded[0]

    answered_with(changing(SIGNATURE, record), key).run()
    with pytest.raises(ProtocolError, match="key exchange failed"):
        answered_with(changing(SIGNATURE, record), key).run()
    assert len(set(recorded)) == 2


@pytest.mark.parametrize("key", ["ed25519", "rsa"])
def test_a_host_key_of_a_kind_that_was_not_agreed_on_is_refused(key: str) -> None:
    pair = answered_with(changing(HOST_KEY, lambda _: host_key(key).asbytes()))
    with pytest.raises(ProtocolError, match="key exchange failed"):
        pair.run()
    assert pair.events["client"] == []


# ---- forms that paramiko would fill up with zeros, up to a megabyte, and compute with for a minute

HUGE = struct.pack(">I", 2**20 - 1)


@every_key
@pytest.mark.parametrize("which", [HOST_KEY, SIGNATURE])
def test_a_host_key_or_signature_that_claims_more_than_it_has_is_refused(
    key: str, which: int
) -> None:
    def inflate_last(field: bytes) -> bytes:
        *firsts, last = split(field)
        return strings(*firsts) + HUGE + last

    for change in (inflate_last, lambda field: field[:-1], lambda _: HUGE, lambda _: b""):
        with pytest.raises(ProtocolError, match="cut short"):
            answered_with(changing(which, change), key).run()


@pytest.mark.parametrize(
    "numbers", [HUGE + b"\x01", messages.string(b"\x01") + HUGE + b"\x01", HUGE, b"\0", b""]
)
def test_a_number_in_an_ecdsa_signature_that_claims_more_than_it_has_is_refused(
    numbers: bytes,
) -> None:
    signature = strings(b"ecdsa-sha2-nistp256", numbers)
    with pytest.raises(ProtocolError, match="cut short"):
        answered_with(changing(SIGNATURE, lambda _: signature)).run()


@every_key
@pytest.mark.parametrize("which", [HOST_KEY, SIGNATURE])
def test_a_host_key_or_signature_larger_than_any_key_is_refused(key: str, which: int) -> None:
    def pad(field: bytes, to: int = MAX_KEY + 1) -> bytes:
        return field + messages.string(bytes(to - len(field) - 4))

    with pytest.raises(ProtocolError, match=f"over {MAX_KEY} bytes"):
        answered_with(changing(which, pad), key).run()


def split(field: bytes) -> list[bytes]:
    """Return the strings that a host key or a signature consists of."""
    reader = messages.Reader(memoryview(b"\0" + field))
    parts: list[bytes] = []
    while sum(4 + len(part) for part in parts) < len(field):
        parts.append(bytes(reader.string()))
    return parts


KEY_NAMES = [
    b"ecdsa-sha2-nistp256",
    b"ssh-ed25519",
    b"ssh-rsa",
    b"rsa-sha2-512",
    b"ecdsa-sha2-nistp256-cert-v01@openssh.com",
    b"ssh-ed25519-cert-v01@openssh.com",
    b"ssh-rsa-cert-v01@openssh.com",
]
values = st.one_of(
    st.binary(max_size=70),
    st.sampled_from([b"nistp256", bytes(32), b"\x04" + bytes(64), b"\x01\x00\x01", bytes(64)]),
    st.builds(strings, st.binary(max_size=33), st.binary(max_size=33)),
)
blobs = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda name, fields: strings(name, *fields),
        st.sampled_from(KEY_NAMES),
        st.lists(values, max_size=5),
    ),
)


@every_key
@settings(max_examples=50)
@given(blob=blobs, signature=blobs, which=st.sampled_from(["key", "signature", "both"]))
def test_no_host_key_and_no_signature_make_it_raise_anything_else(
    key: str, blob: bytes, signature: bytes, which: str
) -> None:
    def change(payload: bytes) -> bytes:
        if which != "signature":
            payload = changing(HOST_KEY, lambda _: blob)(payload)
        if which != "key":
            payload = changing(SIGNATURE, lambda _: signature)(payload)
        return payload

    pair = answered_with(change, key)
    with pytest.raises(ProtocolError):
        pair.run()
    assert pair.events["client"] == []
    assert pair.failed == "client"
