"""`cotun_trio.net.acme`: the files that it is told to use."""

from __future__ import annotations

import codecs
import contextlib
import http.server
import json
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from acme import errors, messages

from cotun_trio.errors import AcmeFailed
from cotun_trio.net.acme import MAX_END, MAX_START, Authority, innermost, shorten
from cotun_trio.settings import ServerAcme
from tests.support.certificates import Authority as Issuer
from tests.support.targets import refused_address

if TYPE_CHECKING:
    from collections.abc import Iterator


def authorities(path: str) -> tuple[Authority, str]:
    """Return an authority, and the file that it checks the certificate of its server by."""
    authority = Authority(ServerAcme(domains=("a.example",), ca=path))
    return authority, authority._authorities(path)


def test_a_file_of_authorities_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = Path(Issuer(tmp_path / "ca").path)
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    authority, bare = authorities(str(path))
    assert ssl.create_default_context(cafile=bare).get_ca_certs()
    del authority
    assert not Path(bare).exists()


@pytest.mark.parametrize("kind", ["plain", "missing", "a directory"])
def test_any_other_path_is_the_librarys(tmp_path: Path, kind: str) -> None:
    paths = {"plain": Issuer(tmp_path / "ca").path, "missing": "/no/file"}
    path = paths.get(kind, str(tmp_path))
    assert authorities(path)[1] == path


# ---- errors


class Stage:
    """A stage on which nothing is ever shown."""

    def show_certificate(self, domain: str, pem: bytes) -> None:
        """See `cotun_trio.net.acme.Stage`."""

    def show_page(self, path: str, text: str) -> None:
        """See `cotun_trio.net.acme.Stage`."""


def failure(directory: str) -> str:
    """Return why an authority gives no certificate."""
    authority = Authority(ServerAcme(domains=("a.example",), directory=directory))
    with pytest.raises(AcmeFailed) as caught:
        authority.issue("a.example", Stage())
    return str(caught.value)


@contextlib.contextmanager
def answering(problem: object, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run an authority that has the same problem with everything; give its ``host:port``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(problem).encode()
            self.send_response(429)
            self.send_header("Content-Type", "application/problem+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(http.server.HTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing of handshakes that failed."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield "127.0.0.1:{}".format(*server.server_address[1:])
        finally:
            server.shutdown()
            thread.join()


def test_the_end_of_a_problem_is_kept() -> None:
    detail = (
        "too many certificates for " + "x.example, " * 40 + "retry after 2026-12-01, see https://a"
    )
    with answering({"type": "urn:ietf:params:acme:error:rateLimited", "detail": detail}) as host:
        text = failure(f"http://{host}/directory")
    assert text.startswith("a.example: urn:ietf:params:acme:error:rateLimited")
    assert text.endswith("retry after 2026-12-01, see https://a")


def test_a_text_without_end_loses_its_middle() -> None:
    text = "a" * 500 + "\n" + "b" * 5000 + "the end\n"
    shown = shorten(text)
    assert shown.startswith("a" * MAX_START + "…b")
    assert shown.endswith("the end\\n")
    assert len(shown) < MAX_START + MAX_END + 10
    assert shorten("c" * (MAX_START + MAX_END)) == "c" * (MAX_START + MAX_END)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_authority_that_cannot_be_reached_is_named_with_the_reason(scheme: str) -> None:
    host = refused_address()
    assert failure(f"{scheme}://{host}/directory") == f"a.example: {host}: Connection refused"


def test_an_authority_with_an_unknown_issuer_points_at_its_variable(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Issuer(tmp_path / "ca").issue("127.0.0.1"))
    with answering({}, context) as host:
        text = failure(f"https://{host}/directory")
    assert f"{host}: TLS: the authority's certificate is from an unknown issuer" in text
    assert text.endswith("COTUN_LE_CA can name a PEM file with the certificate of its issuer")


def test_what_the_authority_found_at_our_address_is_kept_to_its_end() -> None:
    detail = (
        "203.0.113.1: Fetching http://a.example/.well-known: " + "x" * 300 + "Timeout (firewall?)"
    )
    problem = messages.Error(typ="urn:ietf:params:acme:error:connection", detail=detail)
    challenge = messages.ChallengeBody.__new__(messages.ChallengeBody)
    object.__setattr__(challenge, "error", problem)
    authorization = messages.Authorization(challenges=(challenge,))
    error = errors.ValidationError([messages.AuthorizationResource(body=authorization)])
    assert Authority(ServerAcme(domains=("a.example",)))._reason(error) == detail


def test_the_reason_of_an_error_that_has_none_is_its_type() -> None:
    authority = Authority(ServerAcme(domains=("a.example",)))
    assert authority._reason(requests.Timeout()).endswith(": Timeout")
    assert authority._reason(ValueError()) == "ValueError"
    loop = ValueError()
    loop.args = (loop,)
    assert innermost(loop) is loop
