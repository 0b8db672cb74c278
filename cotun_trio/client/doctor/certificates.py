"""A server's certificate, as facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import attrs
from cryptography import x509

from cotun_trio.escape import escape
from cotun_trio.net.tls import MAX_NAMES, alternative_names

if TYPE_CHECKING:
    from cotun_trio.client.doctor.steps import Fact

SOON = timedelta(days=14)
"""Before its end, a certificate should have been renewed: authorities advise 30 days."""
_OPENERS = {
    "zscaler": "Zscaler",
    "fortinet": "Fortinet",
    "fortigate": "Fortinet",
    "blue coat": "Blue Coat",
    "palo alto": "Palo Alto Networks",
    "netskope": "Netskope",
    "cisco umbrella": "Cisco Umbrella",
    "sophos": "Sophos",
    "forcepoint": "Forcepoint",
    "mcafee": "McAfee",
    "skyhigh": "Skyhigh",
    "check point": "Check Point",
    "watchguard": "WatchGuard",
    "barracuda": "Barracuda",
    "squid": "squid",
    "mitmproxy": "mitmproxy",
    "portswigger": "Burp",
    "charles proxy": "Charles",
    "kaspersky": "Kaspersky",
    "eset ssl filter": "ESET",
    "avast": "Avast",
    "bitdefender": "Bitdefender",
    "adguard": "AdGuard",
}
"""Products that open TLS on the way, by a word in the issuer that they make."""


@attrs.frozen
class Certificate:
    """The parts of a certificate that a user can compare; its texts are as the peer wrote them."""

    names: tuple[str, ...]
    subject: str
    issuer: str
    start: datetime
    end: datetime

    @classmethod
    def read(cls, der: bytes) -> Certificate | None:
        """Return the certificate in `der`; None where there is none, or it cannot be read."""
        try:
            parsed = x509.load_der_x509_certificate(der)
            return cls(
                tuple(alternative_names(parsed)),
                parsed.subject.rfc4514_string(),
                parsed.issuer.rfc4514_string(),
                parsed.not_valid_before_utc,
                parsed.not_valid_after_utc,
            )
        except ValueError:
            return None

    @property
    def opener(self) -> str | None:
        """The product on the way that has made it, where its issuer is known for that."""
        issuer = self.issuer.lower()
        return next((name for word, name in _OPENERS.items() if word in issuer), None)

    @property
    def ends_soon(self) -> bool:
        """Whether its end is near."""
        return self.end - datetime.now(UTC) < SOON

    def facts(self) -> dict[str, Fact]:
        """Return it for a user."""
        return {
            "names": [escape(name) for name in self.names[:MAX_NAMES]],
            "subject": escape(self.subject),
            "issuer": escape(self.issuer),
            "valid_from": f"{self.start:%Y-%m-%d %H:%M} UTC",
            "valid_until": f"{self.end:%Y-%m-%d %H:%M} UTC",
        }
