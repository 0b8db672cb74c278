"""What the engine relies on inside paramiko, one test for each, so that an upgrade says what moved.

Everything but the last section is asked of paramiko alone, without our engine.
"""

from __future__ import annotations

import inspect
import logging
import threading
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko.kex_curve25519 import KexCurve25519

from cotun_trio.ssh.engine import _Transport
from cotun_trio.ssh.packetizer import Packetizer, RekeyLimit
from tests.support.ssh import (
    CIPHERS,
    KEX_METHODS,
    SCRATCH,
    EnginePair,
    host_key,
    kex_init,
    lists_of,
    make_engine,
)


class Spy:
    """A packetizer that notes every call and answers as ours does."""

    def __init__(self, _socket: object = None) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: object, **kwargs: object) -> bool:
            self.calls.append((name, args, kwargs))
            return False

        return call

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(args, kwargs) for call, args, kwargs in self.calls if call == name]

    def sent(self) -> list[bytes]:
        return [args[0].asbytes() for args, _ in self.named("send_message")]


class Socket:
    """What the engine passes for a socket, noting its use."""

    def __init__(self) -> None:
        self.used: list[str] = []

    def settimeout(self, _seconds: float) -> None:
        self.used.append("settimeout")

    def close(self) -> None:
        self.used.append("close")


def make_transport(*, server: bool = False, **options: Any) -> Any:
    """Return a bare paramiko Transport."""
    options = {"server_sig_algs": False, "packetizer_class": Spy, **options}
    transport = paramiko.Transport(Socket(), **options)
    transport.local_version = transport.remote_version = "SSH-chisel-v3-x"
    if server:
        transport.server_mode = True
        transport.add_server_key(host_key())
    # The ciphers that have AEAD, as the engine has it.
    transport._preferred_ciphers = CIPHERS
    transport._preferred_kex = ("curve25519-sha256@libssh.org",)
    return transport


def message(payload: bytes, seqno: int = 0) -> Any:
    """Return a payload as the engine gives it to paramiko."""
    result = paramiko.Message(payload[1:])
    result.seqno = seqno
    return result


def exchange_keys(**server_options: Any) -> tuple[Any, Any]:
    """Return two Transports that have agreed on keys, driven as the engine does it."""
    client, server = make_transport(), make_transport(server=True, **server_options)
    client._send_kex_init()
    server._send_kex_init()
    client._negotiate_keys(message(server.packetizer.sent()[0]))
    server._negotiate_keys(message(client.packetizer.sent()[0]))
    server.kex_engine.parse_next(30, message(client.packetizer.sent()[1], 1))
    client.kex_engine.parse_next(31, message(server.packetizer.sent()[1], 1))
    client._parse_newkeys(message(server.packetizer.sent()[2], 2))
    server._parse_newkeys(message(client.packetizer.sent()[2], 2))
    return client, server


# ---- construction


def test_a_transport_needs_no_more_of_a_socket_than_settimeout() -> None:
    """`engine._NoSocket` has `settimeout` and `close`, and nothing else."""
    transport = make_transport()
    assert transport.sock.used == ["settimeout"], "Transport does more with its socket"
    client, server = exchange_keys()
    assert client.sock.used == server.sock.used == ["settimeout"]


def test_the_packetizer_class_is_called_once_with_the_socket() -> None:
    """The engine passes a function that returns the packetizer it has made already."""
    calls = []
    spy = Spy()

    def make(*args: object) -> Spy:
        calls.append(args)
        return spy

    transport = make_transport(packetizer_class=make)
    assert calls == [(transport.sock,)], "packetizer_class is called in another way"
    assert transport.packetizer is spy


def test_a_transport_starts_no_thread() -> None:
    """One Trio run, no threads: a Transport is a Thread, but must not start by itself."""
    before = threading.active_count()
    client, server = exchange_keys()
    assert threading.active_count() == before
    for transport in (client, server):
        assert not transport.is_alive(), "Transport has started its thread"
        assert not transport.active


def test_the_packetizer_is_used_only_under_names_that_ours_has() -> None:
    """`Packetizer` has what a Transport calls up to a finished key exchange, under these names."""
    ours = Packetizer(SCRATCH["client"], RekeyLimit())
    for transport in exchange_keys():
        names = {name for name, _, _ in transport.packetizer.calls}
        missing = sorted(name for name in names if not hasattr(ours, name))
        assert not missing, f"Transport now also calls packetizer.{missing}"
        assert "send_message" in names


# ---- what is offered


@pytest.mark.parametrize(
    ("attribute", "names", "field"),
    [
        ("_preferred_kex", ("ecdh-sha2-nistp256",), 0),
        ("_preferred_keys", ("ssh-ed25519",), 1),
        ("_preferred_ciphers", ("aes256-gcm@openssh.com",), 2),
        ("_preferred_ciphers", ("aes256-gcm@openssh.com",), 3),
        ("_preferred_macs", ("hmac-sha2-512-etm@openssh.com",), 4),
        ("_preferred_macs", ("hmac-sha2-512-etm@openssh.com",), 5),
    ],
)
def test_the_preferred_lists_are_what_is_offered(
    attribute: str, names: tuple[str, ...], field: int
) -> None:
    """`engine._Transport` narrows what is offered by these class attributes."""
    assert hasattr(paramiko.Transport, attribute), f"Transport.{attribute} is gone"
    transport = make_transport()
    setattr(transport, attribute, names)
    transport._send_kex_init()
    offered = lists_of(transport.packetizer.sent()[0])[field].decode().split(",")
    marks = ("ext-info-c", "kex-strict-c-v00@openssh.com")
    assert [
        name for name in offered if name not in marks and not name.endswith("-cert-v01@openssh.com")
    ] == list(names)


def test_preferred_keys_is_the_property_that_decides_on_host_keys() -> None:
    """`engine._Transport` overrides it, to offer no certificates."""
    assert isinstance(paramiko.Transport.preferred_keys, property)

    class Narrow(paramiko.Transport):  # type: ignore[misc]
        preferred_keys = ("ssh-ed25519",)

    transport: Any = Narrow(Socket(), packetizer_class=Spy)
    transport._send_kex_init()
    assert lists_of(transport.packetizer.sent()[0])[1] == b"ssh-ed25519"


def test_compression_is_not_offered() -> None:
    """The packetizer has no ``set_inbound_compressor``."""
    transport = make_transport()
    transport._send_kex_init()
    assert lists_of(transport.packetizer.sent()[0])[6:8] == [b"none", b"none"]


def test_the_kex_table_maps_a_name_to_a_class_made_with_the_transport() -> None:
    """The engine adds ``curve25519-sha256`` to it, under which RFC 8731 has paramiko's method."""
    table = paramiko.Transport._kex_info
    assert table["curve25519-sha256@libssh.org"] is KexCurve25519
    assert set(KEX_METHODS) - {"curve25519-sha256"} <= set(table), "a method is not there any more"
    assert "curve25519-sha256" not in table, "paramiko has it itself: engine need not add it"
    assert list(inspect.signature(KexCurve25519).parameters) == ["transport"]
    transport = make_transport()
    transport._kex_info = {**table, "curve25519-sha256": KexCurve25519}
    transport._preferred_kex = ("curve25519-sha256",)
    server = make_transport(server=True)
    server._kex_info, server._preferred_kex = transport._kex_info, transport._preferred_kex
    for each in (transport, server):
        each._send_kex_init()
    transport._negotiate_keys(message(server.packetizer.sent()[0]))
    assert isinstance(transport.kex_engine, KexCurve25519)


def test_the_ciphers_we_offer_are_aead_ones() -> None:
    """The packetizer asserts it: it can do nothing else."""
    for name in CIPHERS:
        assert paramiko.Transport._cipher_info[name]["is_aead"]
        assert paramiko.Transport._cipher_info[name]["class"] is AESGCM


# ---- key exchange


def test_send_kex_init_sends_exactly_one_message_and_remembers_it() -> None:
    """The engine begins a key exchange with it, at the start and for a re-key."""
    transport = make_transport()
    transport._send_kex_init()
    (payload,) = transport.packetizer.sent()
    assert payload[0] == 20
    assert transport.local_kex_init == payload
    # The engine is not asked to wait for anything, nor told to.
    assert transport._expected_packet == ()


def test_negotiate_keys_answers_a_kexinit_with_our_own_only_where_that_is_still_to_come() -> None:
    """The engine calls it for the peer's KEXINIT, whoever began."""
    client, server = make_transport(), make_transport(server=True)
    client._send_kex_init()
    server._negotiate_keys(message(client.packetizer.sent()[0]))
    assert [payload[0] for payload in server.packetizer.sent()] == [20]
    client._negotiate_keys(message(server.packetizer.sent()[0]))
    assert [payload[0] for payload in client.packetizer.sent()] == [20, 30]


def test_expected_packet_names_what_comes_next() -> None:
    """The engine takes a message of the key exchange only if its type is in it."""
    client, server = make_transport(), make_transport(server=True)
    client._send_kex_init()
    server._negotiate_keys(message(client.packetizer.sent()[0]))
    client._negotiate_keys(message(server.packetizer.sent()[0]))
    assert client._expected_packet == (31,)
    assert server._expected_packet == (30,)
    server._expected_packet = ()
    server.kex_engine.parse_next(30, message(client.packetizer.sent()[1], 1))
    assert server._expected_packet == (21,), "NEWKEYS is not expected behind the answer"
    client._expected_packet = ()
    client.kex_engine.parse_next(31, message(server.packetizer.sent()[1], 1))
    assert client._expected_packet == (21,)


@pytest.mark.parametrize("name", KEX_METHODS)
def test_every_method_has_one_public_value_from_the_client_and_three_fields_back(name: str) -> None:
    """The engine checks these forms itself, since paramiko fills up with zeros."""
    pair = EnginePair(make_engine("client", kex=[name])).run()
    for payload, kind, count in (
        (pair.heard["server"][1], 30, 1),
        (pair.heard["client"][1], 31, 3),
    ):
        assert payload[0] == kind
        reader = paramiko.Message(payload[1:])
        for _ in range(count):
            reader.get_string()
        assert reader.get_remainder() == b"", f"{name} has other fields"


def test_parse_newkeys_sets_initial_kex_done_and_forgets_both_offers() -> None:
    """The engine tells by it whether strict key exchange still forbids everything else."""
    transport = make_transport()
    assert transport.initial_kex_done is False
    client, server = exchange_keys()
    for each in (client, server):
        assert each.initial_kex_done is True
        assert each.packetizer._initial_kex_done is True
        # Otherwise a later KEXINIT of the peer's would not be answered with our own.
        assert each.local_kex_init is None


def test_the_client_knows_the_proven_host_key() -> None:
    """`KeysAgreed.host_key` is this one, as its blob."""
    client, _server = exchange_keys()
    assert client.host_key.asbytes() == host_key().asbytes()
    assert make_transport().host_key is None


def test_the_session_id_is_that_of_the_first_exchange() -> None:
    """RFC 4253 section 7.2; the engine leaves it to paramiko."""
    client, server = exchange_keys()
    assert client.session_id == server.session_id == client.H


@pytest.mark.parametrize("attribute", ["local_version", "remote_version"])
def test_the_version_lines_go_into_the_exchange_hash(attribute: str) -> None:
    """The engine reads and writes these lines itself, and sets both attributes."""
    client, server = make_transport(), make_transport(server=True)
    setattr(client, attribute, "SSH-another")
    client._send_kex_init()
    server._negotiate_keys(message(client.packetizer.sent()[0]))
    client._negotiate_keys(message(server.packetizer.sent()[0]))
    server.kex_engine.parse_next(30, message(client.packetizer.sent()[1], 1))
    with pytest.raises(paramiko.SSHException, match="Signature"):
        client.kex_engine.parse_next(31, message(server.packetizer.sent()[1], 1))


# ---- what the packetizer is told


def test_the_ciphers_arrive_with_the_keyword_names_that_ours_takes() -> None:
    """`Packetizer.set_inbound_cipher` and `set_outbound_cipher` name those that they need."""
    for transport in exchange_keys():
        (args_in, inbound), (args_out, outbound) = (
            transport.packetizer.named("set_inbound_cipher")[0],
            transport.packetizer.named("set_outbound_cipher")[0],
        )
        assert args_in == args_out == (), "positional arguments"
        assert {"block_engine", "iv_in", "aead"} <= set(inbound)
        assert {"block_engine", "iv_out", "aead"} <= set(outbound)
        assert isinstance(inbound["block_engine"], AESGCM)
        assert isinstance(outbound["block_engine"], AESGCM)
        assert inbound["aead"] is outbound["aead"] is True
        assert len(inbound["iv_in"]) == len(outbound["iv_out"]) == 12


def test_newkeys_is_sent_right_before_the_outbound_cipher_changes() -> None:
    """`Packetizer.send_message` seals with whatever cipher is set at that moment."""
    for transport in exchange_keys():
        names = [name for name, _, _ in transport.packetizer.calls]
        at = names.index("set_outbound_cipher")
        before = [i for i in range(at) if names[i] == "send_message"][-1]
        assert transport.packetizer.calls[before][1][0].asbytes() == b"\x15"
        assert set(names[before + 1 : at]) <= {"reset_seqno_out"}


def test_the_inbound_cipher_changes_while_newkeys_is_handled() -> None:
    """`Packetizer.packets` looks for it anew after each packet."""
    client, _server = exchange_keys()
    names = [name for name, _, _ in client.packetizer.calls]
    assert names.index("set_inbound_cipher") > names.index("set_outbound_cipher")


def test_with_strict_key_exchange_the_inbound_count_is_reset() -> None:
    """`Packetizer.reset_seqno_in`: the numbers in UNIMPLEMENTED depend on it."""
    for transport in exchange_keys():
        assert transport.packetizer.named("reset_seqno_in") == [((), {})]
        assert transport.packetizer.named("reset_seqno_out") == [((), {})]


def test_messages_are_sent_as_objects_with_asbytes() -> None:
    """`Packetizer.send_message` takes ``message.asbytes()``, type included."""
    transport = make_transport()
    transport._send_kex_init()
    ((sent,), kwargs) = transport.packetizer.named("send_message")[0]
    assert isinstance(sent, paramiko.Message)
    assert isinstance(sent.asbytes(), bytes)
    assert kwargs == {}


def test_a_server_told_so_sends_no_ext_info() -> None:
    """``server_sig_algs=False``: Go's client drops a session when one arrives after a re-key."""
    _client, silent = exchange_keys()
    assert [payload[0] for payload in silent.packetizer.sent()] == [20, 31, 21]
    _client, talking = exchange_keys(server_sig_algs=True)
    assert [payload[0] for payload in talking.packetizer.sent()] == [20, 31, 21, 7], (
        "EXT_INFO is not what server_sig_algs is about any more"
    )


# ---- strict key exchange


def test_strict_key_exchange_is_offered_and_agreed_on_by_default() -> None:
    """The engine reads `agreed_on_strict_kex`, and lets paramiko offer it."""
    for side, transport in zip("cs", exchange_keys(), strict=True):
        assert transport.agreed_on_strict_kex is True
        offer = lists_of(transport.packetizer.sent()[0])[0].decode().split(",")
        assert f"kex-strict-{side}-v00@openssh.com" in offer
    assert make_transport().agreed_on_strict_kex is False


@pytest.mark.parametrize("seqno", [1, 2, 2**32 - 1])
def test_the_sequence_number_of_the_kexinit_is_consulted(seqno: int) -> None:
    """The engine sets `Message.seqno`: paramiko refuses a KEXINIT that was not the first packet."""
    client, server = make_transport(), make_transport(server=True)
    client._send_kex_init()
    with pytest.raises(paramiko.SSHException, match="not the first packet"):
        server._negotiate_keys(message(client.packetizer.sent()[0], seqno))


def test_a_later_kexinit_may_have_any_sequence_number() -> None:
    """A re-key is not the first key exchange, though strictness stays agreed on."""
    client, server = exchange_keys()
    client._send_kex_init()
    server._negotiate_keys(message(client.packetizer.sent()[-1], 12345))
    assert server.packetizer.sent()[-1][0] == 20


# ---- errors and logging


def test_paramikos_own_errors_have_one_root() -> None:
    """`engine._PARAMIKO_ERRORS` names the root only."""
    from paramiko.ssh_exception import IncompatiblePeer, MessageOrderError

    assert issubclass(IncompatiblePeer, paramiko.SSHException)
    assert issubclass(MessageOrderError, paramiko.SSHException)
    server = make_transport(server=True)
    with pytest.raises(IncompatiblePeer):
        server._negotiate_keys(message(kex_init([b"none"] * 10)))


def test_log_is_the_only_way_in_which_a_transport_logs(caplog: pytest.LogCaptureFixture) -> None:
    """`engine._Transport._log` says nothing, since paramiko would not escape what peers sent."""
    caplog.set_level(logging.DEBUG)
    exchange_keys()
    assert caplog.records, "a bare Transport has nothing to say: this test sees nothing"
    caplog.clear()
    EnginePair().run()
    assert not caplog.records
    assert list(inspect.signature(_Transport._log).parameters) == list(
        inspect.signature(paramiko.Transport._log).parameters
    )


# ---- our own use


def test_our_engine_takes_only_messages_of_key_exchange_through_paramiko() -> None:
    """The login and the connection protocol never reach a handler of paramiko's."""
    pair = EnginePair()
    for engine in (pair.client, pair.server):
        transport: Any = engine._transport
        transport._handler_table = None
        transport.run = None
    pair.run()
    pair.say("client", b"\x50" + b"\0\0\0\x04ping\x01", b"\x02")
    assert pair.client.authenticated
    for engine in (pair.client, pair.server):
        assert not engine._transport.authenticated
        assert not engine._transport.is_alive()
