"""A certificate as facts."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest

from cotun_trio.client.doctor.certificates import SOON, Certificate
from tests.support.certificates import Authority


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    path, _ = Authority(tmp_path).issue("a.example", "192.0.2.1", expired=True)
    pem = Path(path).read_text().partition("-----END CERTIFICATE-----")
    found = Certificate.read(ssl.PEM_cert_to_DER_cert(pem[0] + pem[1]))
    assert found is not None
    return found


def test_its_parts_are_shown(certificate: Certificate) -> None:
    facts = certificate.facts()
    assert facts["names"] == ["a.example", "192.0.2.1"]
    assert facts["valid_until"] == "2020-01-01 00:00 UTC"
    assert "trustme" in str(facts["issuer"])


def test_what_it_says_is_escaped(certificate: Certificate) -> None:
    hostile = attrs.evolve(certificate, names=("\x1b[2J",) * 1000, issuer="\x1b", subject="\n")
    facts = hostile.facts()
    assert isinstance(facts["names"], list)
    assert all("\x1b" not in name for name in facts["names"])
    assert len(facts["names"]) < 100
    assert (facts["issuer"], facts["subject"]) == (r"\x1b", r"\n")


def test_a_product_that_opens_tls_is_known_by_its_issuer(certificate: Certificate) -> None:
    assert certificate.opener is None
    assert attrs.evolve(certificate, issuer="CN=Zscaler Root CA,O=Zscaler Inc.").opener == "Zscaler"


def test_its_end_may_be_near(certificate: Certificate) -> None:
    end = datetime.now(UTC) + SOON
    assert attrs.evolve(certificate, end=end - timedelta(days=1)).ends_soon
    assert not attrs.evolve(certificate, end=end + timedelta(days=1)).ends_soon


@pytest.mark.parametrize("der", [b"", b"\x30\x03\x02\x01\x01", b"x" * 1000])
def test_none_or_an_unreadable_one_has_no_facts(der: bytes) -> None:
    assert Certificate.read(der) is None
