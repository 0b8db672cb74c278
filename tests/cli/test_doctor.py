"""``cotun-trio doctor``: its options, what it prints, and its status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cotun_trio import cli
from cotun_trio.cli import doctor_report
from cotun_trio.cli.doctor_report import show
from cotun_trio.client.doctor.step_names import StepName
from cotun_trio.client.doctor.steps import Outcome, Step
from cotun_trio.errors import (
    AuthenticationFailed,
    ConfigRefused,
    ConnectionLost,
    FingerprintMismatch,
    UsageError,
)
from tests.support.targets import refused_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cotun_trio.client.doctor.steps import Fact
    from cotun_trio.errors import CotunError
    from cotun_trio.settings import ClientSettings, Route


def doctor(*argv: str) -> int | str | None:
    """Run the command; return its status."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", *argv])
    return caught.value.code


GOOD = Step(StepName.PING, Outcome.OK, 0.0123, {"pings": 5, "median_seconds": 0.002})
BAD = Step(
    StepName.LOGIN,
    Outcome.FAILED,
    0.5,
    {"user": "alice", "error": "no"},
    "it means something that is said in so many words that they do not fit into one line of text",
    "do that",
)
SKIPPED = Step(StepName.CONFIG, Outcome.SKIPPED, 0.0, {})


class Examinations:
    """What is asked of the doctor, and what it finds."""

    def __init__(self) -> None:
        self.asked: list[tuple[ClientSettings, float]] = []
        self.routes: list[Route] = []
        self.steps: list[Step] = []
        self.failure: CotunError | None = None

    async def examine(
        self,
        settings: ClientSettings,
        report: Callable[[Step], None],
        *,
        route: Route,
        idle: float,
    ) -> CotunError | None:
        self.asked.append((settings, idle))
        self.routes.append(route)
        for step in self.steps:
            report(step)
        if isinstance(self.failure, UsageError):
            raise self.failure
        return self.failure


@pytest.fixture
def examinations(monkeypatch: pytest.MonkeyPatch) -> Examinations:
    found = Examinations()
    monkeypatch.setattr(doctor_report, "examine", found.examine)
    monkeypatch.setenv("COLUMNS", "80")
    return found


def test_its_options_are_those_of_a_client(examinations: Examinations) -> None:
    fingerprint = "1" * 42 + "0="
    assert (
        doctor(
            *("https://example.com/x", "--auth", "alice:secret", "--fingerprint", fingerprint),
            *("--proxy", "http://proxy:3128", "--header", "X-A: b", "--hostname", "h.example"),
            *("--sni", "s.example", "--tls-skip-verify", "--tls-ca", "ca", "--tls-cert", "c"),
            *("--tls-key", "k", "--protocol", "cotun", "--known-hosts=/known", "--idle", "1m"),
        )
        == 0
    )
    ((settings, idle),) = examinations.asked
    assert str(settings.server) == "https://example.com/x"
    assert settings.auth is not None
    assert (settings.auth.user, settings.auth.password) == ("alice", "secret")
    assert settings.fingerprint == fingerprint
    assert settings.known_hosts == "/known"
    assert str(settings.proxy) == "http://proxy:3128"
    assert settings.headers == (("X-A", "b"),)
    assert settings.hostname == "h.example"
    assert (settings.tls.sni, settings.tls.skip_verify) == ("s.example", True)
    assert (settings.tls.ca, settings.tls.cert, settings.tls.key) == ("ca", "c", "k")
    assert settings.protocol == "cotun"
    assert idle == 60.0


def test_the_warnings_of_a_client_are_said_here_too(
    examinations: Examinations, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor("https://example.com", "--tls-skip-verify")
    doctor("http://example.com", "--auth", "alice:secret")
    err = capsys.readouterr().err
    assert "warning: --tls-skip-verify: TLS is not verified" in err
    assert "can pose as the server and get the password" in err


def test_text_has_a_line_for_each_step_and_its_meaning_below_it(
    examinations: Examinations, capsys: pytest.CaptureFixture[str]
) -> None:
    examinations.steps = [GOOD, BAD, SKIPPED]
    examinations.failure = AuthenticationFailed("no")
    assert doctor("http://example.com") == 4
    assert (
        capsys.readouterr().out
        == """\
http://example.com

ok       ping        12.3ms  pings: 5; median: 2ms
failed   login        500ms  user: alice
         Error: no
         Meaning: it means something that is said in so many words that they do
                  not fit into one line of text
         Advice: do that

It ends at the step login.  Not tried: config.
"""
    )


def test_text_says_at_its_end_that_a_client_gets_through(
    examinations: Examinations, capsys: pytest.CaptureFixture[str]
) -> None:
    examinations.steps = [Step(StepName.TLS, Outcome.WARNING, 1, {}, "it ends soon"), GOOD]
    assert doctor("http://example.com") == 0
    assert capsys.readouterr().out.endswith("\n\nA client gets through, with 1 warning.\n")


def test_json_has_an_object_on_each_line(
    examinations: Examinations, capsys: pytest.CaptureFixture[str]
) -> None:
    examinations.steps = [GOOD, BAD, SKIPPED]
    examinations.failure = ConnectionLost("no")
    assert doctor("http://example.com", "--json") == 1
    good, bad, skipped = map(json.loads, capsys.readouterr().out.splitlines())
    assert good == {
        "step": "ping",
        "outcome": "ok",
        "seconds": 0.0123,
        "facts": {"pings": 5, "median_seconds": 0.002},
        "meaning": "",
        "advice": "",
    }
    assert (bad["outcome"], bad["facts"]["error"], bad["advice"]) == ("failed", "no", "do that")
    assert (skipped["step"], skipped["outcome"]) == ("config", "skipped")


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (None, 0),
        (ConnectionLost("x"), 1),
        (UsageError("x"), 2),
        (FingerprintMismatch("x"), 3),
        (AuthenticationFailed("x"), 4),
        (ConfigRefused("x"), 5),
    ],
)
def test_the_status_is_that_of_a_client(
    examinations: Examinations, failure: CotunError | None, status: int
) -> None:
    examinations.failure = failure
    assert doctor("http://example.com") == status


def test_ctrl_c_ends_it_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def examine(*_: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor_report, "examine", examine)
    assert doctor("http://example.com") == 130


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_a_pipe_that_nobody_reads_ends_it_without_a_traceback(options: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "cotun_trio", "doctor", *options, "http://127.0.0.1:1"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (doctor_report.UNREAD, b"")


@pytest.mark.parametrize(
    "argv",
    [["ftp://example.com"], ["http://example.com", "--idle", "5"], [], ["a.example", "ws://"]],
)
def test_a_question_that_makes_no_sense_is_an_error(
    argv: list[str], examinations: Examinations
) -> None:
    assert doctor(*argv) == 2
    assert not examinations.asked


def test_nothing_that_listens_is_told_for_real(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor(f"http://{refused_address()}") == 1
    assert "nothing listens at this port" in capsys.readouterr().out.replace("\n" + " " * 18, " ")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("least_seconds", 0.00015, "least: 100µs"),
        ("sent_bytes", 3_145_728, "sent: 3.15MB"),
        ("up_rate", 2_000_000, "up: 2MB/s"),
        ("verified", False, "verified: no"),
        ("names", ["a", "b"], "names: a, b"),
        ("server_version", "SSH-x", "server version: SSH-x"),
        ("status", 101, "status: 101"),
    ],
)
def test_a_fact_is_shown_with_its_unit(name: str, value: Fact, text: str) -> None:
    assert show(name, value) == text


@pytest.mark.slow
def test_help_does_not_wait_for_what_only_the_doctor_needs() -> None:
    code = (
        "import sys, cotun_trio.cli\n"
        "print([n for n in ('trio', 'paramiko', 'cotun_trio.client') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_each_of_several_servers_is_examined(
    examinations: Examinations, capsys: pytest.CaptureFixture[str]
) -> None:
    examinations.steps = [GOOD]
    assert doctor("http://a.example", "http://b.example", "--server", "http://c.example") == 0
    assert [str(route.server) for route in examinations.routes] == [
        *("http://a.example", "http://b.example", "http://c.example")
    ]
    out = capsys.readouterr().out
    assert out.count("A client gets through.") == 3
    assert doctor("--json", "http://a.example", "http://b.example") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["server"] for line in lines] == [
        "http://a.example",
        "http://b.example",
    ]


def test_the_file_of_a_client_is_read(
    examinations: Examinations, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[client]\nserver = ["http://a.example", "http://b.example"]\nremote = ["3000"]\n'
        'hostname = "h.example"\n[server]\nport = 1\n'
    )
    assert doctor("--config", str(file)) == 0
    assert [str(route.server) for route in examinations.routes] == [
        *("http://a.example", "http://b.example")
    ]
    assert examinations.asked[0][0].hostname == "h.example"
    file.write_text('[client]\nremotes = ["3000"]\n')
    assert doctor("http://a.example", "--config", str(file)) == 2
    assert "there is no option 'remotes'; did you mean 'remote'?" in capsys.readouterr().err


def test_a_server_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor() == 2
    assert "there is no SERVER" in capsys.readouterr().err


def test_a_password_on_the_command_line_gets_a_hint(
    examinations: Examinations, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not examinations.asked
    doctor("https://a.example", "--auth", "alice:secret")
    assert "--auth-from FILE" in capsys.readouterr().err
