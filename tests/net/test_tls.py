"""`cotun_trio.net.tls`: two ends with nothing between them, and TLS inside of TLS."""

from __future__ import annotations

import platform
import resource
import runpy
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cotun_trio.errors import TlsFailed
from cotun_trio.net import tls as tls_module
from cotun_trio.net.tls import MAX_LEFT, Nested, Tls, explain, names_in
from tests.support.certificates import Authority
from tests.support.targets import random_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from cotun_trio.net.tls import AnyTls


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Give a server's context and a client's."""
    directory: Path = tmp_path_factory.mktemp("tls")
    ca = Authority(directory / "ca")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*ca.issue("example.com"))
    return server, ssl.create_default_context(cafile=ca.path)


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def pair(contexts: Contexts, name: str = "example.com") -> tuple[Tls, Tls]:
    """Return a server's end and a client's, before the handshake."""
    return Tls(contexts[0], server_side=True), Tls(contexts[1], name=name)


def shake_hands(one: AnyTls, other: AnyTls) -> None:
    """Carry the handshake's bytes between two ends until it is done."""
    done = [False, False]
    while not all(done):
        for number, (here, there) in enumerate(((one, other), (other, one))):
            done[number] = here.shake_hands()
            there.feed(here.take_out())


def drained(tls: AnyTls, size: int = 100_000) -> bytes:
    """Return all that has come."""
    area = memoryview(bytearray(size))
    data = b""
    while count := tls.decrypt_into(area):
        data += area[:count]
    return data


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 1_000_000])
@pytest.mark.parametrize("piece", [1_000, 65_536])
def test_what_one_end_encrypts_the_other_decrypts(
    contexts: Contexts, size: int, piece: int
) -> None:
    server, client = pair(contexts)
    shake_hands(server, client)
    data = random_bytes(size)
    for here, there in ((server, client), (client, server)):
        sealed = here.encrypt(data)
        got = b""
        for at in range(0, len(sealed), piece):
            there.feed(sealed[at : at + piece])
            got += drained(there)
        assert got == data


def test_no_more_than_a_record_waits_for_its_rest(contexts: Contexts) -> None:
    server, client = pair(contexts)
    shake_hands(server, client)
    client.feed(server.encrypt(bytes(100_000))[:-1])
    assert 100_000 - len(drained(client)) <= MAX_LEFT // 2


def test_an_end_that_is_said_is_seen_and_so_is_one_that_is_not(contexts: Contexts) -> None:
    server, client = pair(contexts)
    shake_hands(server, client)
    client.feed(server.encrypt(b"last") + server.close())
    assert drained(client) == b"last"
    assert client.ended
    server.feed_eof()
    assert drained(server) == b""
    assert server.ended


def test_rubbish_is_said_to_be_none(contexts: Contexts) -> None:
    server, client = pair(contexts)
    shake_hands(server, client)
    sealed = bytearray(client.encrypt(b"hello"))
    sealed[-1] ^= 1
    server.feed(sealed)
    with pytest.raises(TlsFailed, match=r"^TLS: "):
        drained(server)


def test_what_came_before_the_rubbish_is_not_lost(contexts: Contexts) -> None:
    server, client = pair(contexts)
    shake_hands(server, client)
    server.feed(client.encrypt(b"good") + b"\x17\x03\x03\x00\x05rubbi")
    area = memoryview(bytearray(1000))
    assert bytes(area[: server.decrypt_into(area)]) == b"good"
    with pytest.raises(TlsFailed):
        server.decrypt_into(area)


def test_nothing_can_be_encrypted_behind_the_end(contexts: Contexts) -> None:
    server, client = pair(contexts)
    shake_hands(server, client)
    server.close()
    with pytest.raises(TlsFailed):
        server.encrypt(b"more")


def test_a_name_that_is_none_is_the_failure(contexts: Contexts) -> None:
    with pytest.raises(TlsFailed, match=r"'\.bad' cannot be the name"):
        pair(contexts, ".bad")


@pytest.mark.parametrize("size", [1, 100_000])
def test_tls_goes_through_tls(contexts: Contexts, size: int) -> None:
    proxy, outer = pair(contexts)
    shake_hands(proxy, outer)
    server, inner = pair(contexts)
    client = Nested(outer, inner)
    between = memoryview(bytearray(100_000))

    def to_server() -> None:
        proxy.feed(client.take_out())
        while count := proxy.decrypt_into(between):
            server.feed(between[:count])

    done = False
    while not done:
        done = client.shake_hands()
        to_server()
        done = server.shake_hands() and done
        client.feed(proxy.encrypt(server.take_out() or b""))
    data = random_bytes(size)
    proxy.feed(client.encrypt(data))
    while count := proxy.decrypt_into(between):
        server.feed(between[:count])
    assert drained(server) == data
    client.feed(proxy.encrypt(server.encrypt(data)))
    assert drained(client) == data
    proxy.feed(client.close())
    while count := proxy.decrypt_into(between):
        server.feed(between[:count])
    assert drained(server) == b""
    assert server.ended
    client.feed_eof()
    assert drained(client) == b""
    assert client.ended


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["b.example"], "is for another name: it is for b.example"),
        (["b.example", "*.c.example", "10.0.0.1", "::1"], "b.example, *.c.example, 10.0.0.1, ::1"),
        ([f"n{number}.example" for number in range(11)], "n6.example, n7.example and 3 more"),
    ],
)
@pytest.mark.parametrize("name", ["example.com", "192.0.2.1"])
def test_the_certificate_of_another_name_is_told_by_its_names(
    tmp_path: Path, names: list[str], shown: str, name: str
) -> None:
    ca = Authority(tmp_path / "ca")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*ca.issue(*names))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = ssl.create_default_context(cafile=ca.path)
        client.maximum_version = version
        with pytest.raises(TlsFailed) as caught:
            shake_hands(*pair((server, client), name))
        expected = shown.replace("another name", "another address") if name[0] == "1" else shown
        assert str(caught.value).endswith(expected)


def test_a_certificate_without_names_says_that_a_common_name_does_not_count() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example.com")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    shown = names_in(certificate.public_bytes(serialization.Encoding.DER))
    assert shown == "it has no names as subjectAltName, and a common name does not count"
    assert names_in(b"") == "its names cannot be read"


@pytest.mark.parametrize("option", ["", "--tls-ca"])
def test_an_unknown_issuer_points_at_the_option_that_has_it_trusted(
    contexts: Contexts, option: str
) -> None:
    client = Tls(ssl.create_default_context(), name="example.com", trust_option=option)
    with pytest.raises(TlsFailed) as caught:
        shake_hands(Tls(contexts[0], server_side=True), client)
    assert str(caught.value).startswith("TLS: the server's certificate is from an unknown issuer")
    assert ("--tls-ca FILE" in str(caught.value)) == bool(option)


def test_an_error_that_nobody_has_words_for_is_shown_escaped() -> None:
    assert explain(ValueError("a\nb"), "server") == r"a\nb"


TURNS = """
import resource, ssl, sys
from cotun_trio.system.process import keep_freed_blocks
from tests.net.test_tls import pair, shake_hands

keep_freed_blocks()

server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_context.load_cert_chain(*sys.argv[2:])
server, client = pair((server_context, ssl.create_default_context(cafile=sys.argv[1])))
shake_hands(server, client)
data = memoryview(bytearray(512 * 1024))

def faults_of(turns):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(turns):
        client.encrypt(b"header", bytes(data))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults_of(10)
print(faults_of(100) / 100)
"""


def test_a_program_that_embeds_tls_keeps_its_own_settings_of_malloc() -> None:
    """glibc changes them where a large block comes and goes: nothing of the kind at import."""
    sizes: list[object] = []

    def make(size: object) -> None:
        sizes.append(size)

    assert tls_module.__file__ is not None
    runpy.run_path(tls_module.__file__, {"bytearray": make, "bytes": make})
    assert not sizes


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's malloc")
def test_the_memory_of_a_turn_is_used_again(tmp_path: Path) -> None:
    ca = Authority(tmp_path / "ca")
    files = (ca.path, *ca.issue("example.com"))
    done = subprocess.run(
        [sys.executable, "-c", TURNS, *files], check=True, capture_output=True, text=True
    )
    pages = 512 * 1024 / resource.getpagesize()
    assert float(done.stdout) < pages / 4
