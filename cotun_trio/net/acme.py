"""Certificates by ACME (RFC 8555), with the challenges TLS-ALPN-01 (RFC 8737) and HTTP-01.

Everything here blocks, in the library and in files, and is for a thread.  The library has dropped
the first of them in its version 5; its name and its certificate are made here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import ssl
import tempfile
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import requests
from acme import challenges, client, crypto_util, errors, messages
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from josepy.jwk import JWKRSA

from cotun_trio._version import __version__
from cotun_trio.access.files import read_file
from cotun_trio.errors import AcmeFailed, UsageError
from cotun_trio.escape import escape
from cotun_trio.net.tls import UNKNOWN_ISSUER, explain

if TYPE_CHECKING:
    from josepy.jwk import JWK

    from cotun_trio.settings import ServerAcme

TIMEOUT = timedelta(seconds=90)
"""For one certificate, from the challenge to the end."""
MAX_START, MAX_END = 200, 800
"""Characters of an authority's error that are shown.  The numbers that can be tried again, the
addresses that were asked and the links are at its end."""
_GIVE_CA = "COTUN_LE_CA can name a PEM file with the certificate of its issuer"
_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 section 6.1


@challenges.ChallengeResponse.register
class _Response(challenges.KeyAuthorizationChallengeResponse):
    typ = "tls-alpn-01"


@challenges.Challenge.register
class _TlsAlpn01(challenges.KeyAuthorizationChallenge):
    typ = "tls-alpn-01"
    response_cls = _Response

    def validation(self, account_key: JWK, **_: Any) -> bytes:
        """Return the digest that the certificate has to show."""
        return hashlib.sha256(self.key_authorization(account_key).encode()).digest()


class Stage(Protocol):
    """The place where the authority looks for proofs that a name is ours.  Called in a thread."""

    def show_certificate(self, domain: str, pem: bytes) -> None:
        """Show a certificate, with its key, to clients that offer ``acme-tls/1`` for `domain`."""

    def show_page(self, path: str, text: str) -> None:
        """Show a page to clients that ask for `path` by HTTP on port 80."""


class Authority:
    """An ACME server, and the files with its certificates.  Raises `UsageError`."""

    def __init__(self, settings: ServerAcme) -> None:
        self._settings = settings
        self._client: client.ClientV2 | None = None
        self._account_key: JWKRSA | None = None
        self._cache: Path | None = None
        if settings.cache is not None:
            # One directory for each authority: an account is for one of them only.
            host = urlsplit(settings.directory).hostname or ""
            self._cache = Path(settings.cache) / host
            try:
                self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                shown = escape(str(self._cache))
                raise UsageError(
                    f"cannot make the directory {shown}: {error.strerror}: name another one in "
                    "COTUN_LE_CACHE"
                ) from None

    def kept(self, domain: str) -> bytes | None:
        """Return the key and the certificates for `domain` that were kept, PEM."""
        return self._load(f"{domain}.pem")

    def issue(self, domain: str, stage: Stage, *, by_http: bool = False) -> bytes:
        """Return a new key and its certificates for `domain`, PEM, and keep them.

        The challenge is shown on `stage`: TLS-ALPN-01, or HTTP-01 (RFC 8555 section 8.3) where
        that is asked for.  Raises `AcmeFailed`.
        """
        try:
            pem = self._issue(domain, stage, challenges.HTTP01 if by_http else _TlsAlpn01)
        except (errors.Error, messages.Error, requests.RequestException, ValueError) as error:
            raise AcmeFailed(f"{domain}: {self._reason(error)}") from None
        self._save(f"{domain}.pem", pem)
        return pem

    def _reason(self, error: Exception) -> str:
        """Return the reason of a failure, with its end, where the useful part is."""
        if isinstance(error, errors.ValidationError):
            return shorten(_details(error))
        inner = innermost(error)
        host = escape(urlsplit(self._settings.directory).netloc)
        if isinstance(inner, ssl.SSLError):
            text = f"{host}: TLS: {explain(inner, 'authority')}"
            unknown = getattr(inner, "verify_code", None) in UNKNOWN_ISSUER
            return f"{text}: {_GIVE_CA}" if unknown else text
        if isinstance(error, requests.RequestException):
            return f"{host}: {shorten(_without_objects(inner))}"
        return shorten(str(error) or type(error).__name__)

    def _issue(self, domain: str, stage: Stage, kind: type[challenges.Challenge]) -> bytes:
        acme, account_key = self._connect()
        key = _new_key()
        order = acme.new_order(crypto_util.make_csr(_pem(key), [domain]))
        for authorization in order.authorizations:
            if authorization.body.status == messages.STATUS_VALID:
                continue
            for challenge in authorization.body.challenges:
                if isinstance(challenge.chall, kind):
                    break
            else:
                raise AcmeFailed(f"{domain}: the authority does not offer {kind.typ}")
            response, validation = challenge.response_and_validation(account_key)
            if isinstance(challenge.chall, challenges.HTTP01):
                stage.show_page(challenge.chall.path, validation)
            else:
                stage.show_certificate(domain, _challenge_pem(domain, validation))
            acme.answer_challenge(challenge, response)
        order = acme.poll_and_finalize(order, datetime.now() + TIMEOUT)  # noqa: DTZ005  as there
        return _pem(key) + order.fullchain_pem.encode("ascii")

    def _authorities(self, path: str) -> str:
        """Return the path of a file with the authorities in `path`, without a byte order mark."""
        try:
            file = read_file(path)
        except OSError:  # a directory; or the library says what is wrong
            return path
        if not file.marked:
            return path
        descriptor, bare = tempfile.mkstemp()
        weakref.finalize(self, Path(bare).unlink)
        with os.fdopen(descriptor, "wb") as copy:
            copy.write(file.data)
        return bare

    def _connect(self) -> tuple[client.ClientV2, JWKRSA]:
        """Return a client with an account, made at the first time."""
        if self._client is not None and self._account_key is not None:
            return self._client, self._account_key
        settings = self._settings
        kept = self._load("account.pem")
        key = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if kept is None
            else serialization.load_pem_private_key(kept, None)
        )
        account_key = JWKRSA(key=key)
        verify: Any = True if settings.ca is None else self._authorities(settings.ca)
        network = client.ClientNetwork(
            account_key, verify_ssl=verify, user_agent=f"cotun-trio/{__version__}"
        )
        acme = client.ClientV2(client.ClientV2.get_directory(settings.directory, network), network)
        registration = messages.NewRegistration.from_data(
            email=settings.email, terms_of_service_agreed=True
        )
        try:
            acme.new_account(registration)
        except errors.ConflictError as error:  # it knows the key
            resource = messages.RegistrationResource(
                uri=error.location, body=messages.Registration()
            )
            acme.query_registration(resource)
        self._save("account.pem", _pem(key))
        self._client, self._account_key = acme, account_key
        return acme, account_key

    # ---- files

    def _load(self, name: str) -> bytes | None:
        if self._cache is None:
            return None
        try:
            return (self._cache / name).read_bytes()
        except OSError:
            return None

    def _save(self, name: str, data: bytes) -> None:
        """Write a file that only its owner can read, as a whole or not at all."""
        if self._cache is None:
            return
        try:
            descriptor, made = tempfile.mkstemp(prefix=".", dir=self._cache)  # with mode 0600
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(descriptor)
                Path(made).replace(self._cache / name)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(made).unlink()
                raise
        except OSError as error:
            shown = escape(str(self._cache / name))
            raise AcmeFailed(f"cannot write {shown}: {error.strerror}") from None


def innermost(error: BaseException) -> BaseException:
    """Return the error at the bottom of one that the library wraps, again and again."""
    for _ in range(16):  # and not for ever, whatever points at itself
        inner = getattr(error, "reason", None)  # urllib3's
        if not isinstance(inner, BaseException):
            inner = next((each for each in error.args if isinstance(each, BaseException)), None)
        inner = inner or error.__cause__
        if inner is None:
            break
        error = inner
    return error


def _without_objects(error: BaseException) -> str:
    """Return the text of an error without ``<… object at 0x…>``, or its type where it has none."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = re.sub(r"^(?:<[^>]*>|\w+\([^)]*\)): ", "", str(error))
    return text or type(error).__name__


def shorten(text: str) -> str:
    """Return a text for the log; of one that is too long, the middle is left out."""
    if len(text) <= MAX_START + MAX_END:
        return escape(text, MAX_START + MAX_END)
    return f"{escape(text[:MAX_START])}…{escape(text[-MAX_END:], MAX_END)}"


def _details(error: errors.ValidationError) -> str:
    return "; ".join(
        str(challenge.error.detail)
        for authorization in error.failed_authzrs
        for challenge in authorization.body.challenges
        if challenge.error is not None
    )


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(key: Any) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem


def _challenge_pem(domain: str, digest: bytes) -> bytes:
    """Return a key and the certificate that answers the challenge (RFC 8737 section 3)."""
    key = _new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "acme-tls-alpn-01")])
    now = datetime.now(UTC)
    identifier = b"\x04\x20" + digest  # an octet string, in DER
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
        .add_extension(x509.UnrecognizedExtension(_ACME_IDENTIFIER, identifier), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _pem(key) + certificate.public_bytes(serialization.Encoding.PEM)
