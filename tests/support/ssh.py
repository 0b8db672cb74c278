"""Two SSH engines in memory, joined by a wire that a test holds in its hands."""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any, Literal

import paramiko
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cotun_trio.errors import CotunError
from cotun_trio.ssh import messages
from cotun_trio.ssh.engine import Engine, KeysAgreed, LoginRequested
from cotun_trio.ssh.packetizer import Packetizer, RekeyLimit
from cotun_trio.ssh.scratch import READ, Scratch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cotun_trio.ssh.engine import Event

CLIENT_VERSION = "SSH-chisel-v3-client"
SERVER_VERSION = "SSH-chisel-v3-server"
KEX_METHODS = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
)
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
HOST_KEYS = ("ecdsa", "ed25519", "rsa")
USER, PASSWORD = "user", "pässword"

Side = Literal["client", "server"]
OTHER: dict[Side, Side] = {"client": "server", "server": "client"}

# One for each side, as two processes have them: both are in the middle of a batch at times.
SCRATCH: dict[Side, Scratch] = {"client": Scratch(), "server": Scratch()}


def host_key(kind: str = "ecdsa", serial: int = 0) -> Any:
    """Return a private key, the same one for the same arguments."""
    return _generate_key(kind, serial)


@functools.cache
def _generate_key(kind: str, _serial: int) -> Any:
    if kind == "rsa":
        return paramiko.RSAKey.generate(2048)
    if kind == "ed25519":
        text = Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
        )
        return paramiko.Ed25519Key(file_obj=io.StringIO(text.decode()))
    return paramiko.ECDSAKey.generate(bits=256)


def make_engine(
    side: Side = "client",
    *,
    key: Any = None,
    kex: Sequence[str] | None = None,
    ciphers: Sequence[str] | None = None,
    strict: bool = True,
    rekey_limit: RekeyLimit | None = None,
) -> Engine:
    """Return an engine that offers only what is named, where it is named."""
    server = side == "server"
    engine = Engine(
        SERVER_VERSION if server else CLIENT_VERSION,
        SCRATCH[side],
        host_key=(key or host_key()) if server else None,
        rekey_limit=rekey_limit,
    )
    if kex or ciphers or not strict:
        transport: Any = engine._transport
        transport._preferred_kex = kex or transport._preferred_kex
        transport._preferred_ciphers = ciphers or transport._preferred_ciphers
        transport.advertise_strict_kex = strict
        line = transport.local_version.encode() + b"\r\n"
        engine.packetizer.out[:] = line
        transport._send_kex_init()
    return engine


def tap(engine: Engine) -> list[bytes]:
    """Return a list to which every payload that `engine` receives is added."""
    heard: list[bytes] = []
    packetizer: Any = engine.packetizer
    packets = packetizer.packets

    def recording(data: memoryview) -> Iterator[memoryview]:
        for payload in packets(data):
            heard.append(bytes(payload))
            yield payload

    packetizer.packets = recording
    return heard


def plain_packet(payload: bytes) -> bytes:
    """Return `payload` as a packet from before the first key exchange."""
    packetizer = Packetizer(SCRATCH["client"], RekeyLimit())
    packetizer.send_payload(payload)
    return bytes(packetizer.out)


def split_plain(stream: bytes) -> tuple[bytes, list[bytes]]:
    """Split what an engine sends at first into its version line and its payloads."""
    line, _, rest = stream.partition(b"\n")
    packetizer = Packetizer(SCRATCH["server"], RekeyLimit())
    return line + b"\n", [bytes(payload) for payload in packetizer.packets(memoryview(rest))]


def rewriting(
    sender: Side, kind: int, change: Callable[[bytes], bytes]
) -> Callable[[Side, int, bytes], bytes]:
    """Return a `tamper` that changes the plain packets of one type that `sender` sends."""

    sealed = False

    def tamper(side: Side, offset: int, data: bytes) -> bytes:
        nonlocal sealed
        if side != sender or sealed:
            return data
        at = 0 if offset else data.index(b"\n") + 1
        result = data[:at]
        while at < len(data) and not sealed:
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            payload = data[at + 5 : end - data[at + 4]]
            sealed = payload[0] == messages.NEWKEYS
            result += plain_packet(change(payload)) if payload[0] == kind else data[at:end]
            at = end
        return result + data[at:]

    return tamper


def feed(engine: Engine, data: bytes, step: int = READ) -> list[Event | bytes]:
    """Feed `data` in pieces of `step` bytes; return what comes out."""
    events: list[Event | bytes] = []
    for at in range(0, len(data), step):
        for event in in_turns(engine, data[at : at + step]):
            events += [bytes(event) if isinstance(event, memoryview) else event]
    return events


def in_turns(engine: Engine, data: bytes) -> Iterator[memoryview | Event]:
    """Yield what comes of `data`, in as many turns as that takes."""
    engine.packetizer.start_batch()
    yield from engine.receive(memoryview(data))
    while engine.packetizer.unfinished and not engine.packetizer.held:
        engine.packetizer.start_batch()
        yield from engine.receive(memoryview(b""))


def take_out(engine: Engine) -> bytes:
    """Remove and return what `engine` wants to send."""
    data = bytes(engine.packetizer.out)
    engine.packetizer.out.clear()
    return data


def channel_data(recipient: int, data: bytes) -> bytes:
    """Return a CHANNEL_DATA message."""
    return messages.about_channel(messages.CHANNEL_DATA, recipient) + messages.string(data)


def login_request(
    user: bytes = b"user",
    password: bytes = b"password",
    *,
    service: bytes = b"ssh-connection",
    method: bytes = b"password",
    change: bool = False,
) -> bytes:
    """Return a USERAUTH_REQUEST (RFC 4252 section 8)."""
    head = bytes((messages.USERAUTH_REQUEST,))
    for field in (user, service, method):
        head += messages.string(field)
    if method != b"password":
        return head
    return head + bytes((change,)) + messages.string(password)


class EnginePair:
    """A client and a server, and what passed between them.

    `step` is how many bytes are fed at once.  `tamper` sees each piece that is sent, with its
    sender and its offset in all that this one sent, and returns what arrives in its place.
    `user` and `verdict` say what happens of itself: the login, and its answer.
    """

    def __init__(
        self,
        client: Engine | None = None,
        server: Engine | None = None,
        *,
        step: int = READ,
        tamper: Callable[[Side, int, bytes], bytes] | None = None,
        user: str | None = USER,
        password: str = PASSWORD,
        verdict: bool | None = True,
    ) -> None:
        self.client = client or make_engine("client")
        self.server = server or make_engine("server")
        self.engines: dict[Side, Engine] = {"client": self.client, "server": self.server}
        self.events: dict[Side, list[Event | bytes]] = {"client": [], "server": []}
        self.sent = {"client": bytearray(), "server": bytearray()}
        self.heard: dict[Side, list[bytes]] = {
            "client": tap(self.client),
            "server": tap(self.server),
        }
        self.failed: Side | None = None
        """The side that raised."""
        self._step = step
        self._tamper = tamper
        self._user, self._password, self._verdict = user, password, verdict

    def run(self) -> EnginePair:
        """Carry bytes until nobody has any more.  Raises what an engine raises."""
        while self.carry("client") | self.carry("server"):
            pass
        return self

    def carry(self, sender: Side) -> bool:
        """Carry what one side has to say; return whether it had anything."""
        data = take_out(self.engines[sender])
        sent = self.sent[sender]
        arrives = self._tamper(sender, len(sent), data) if self._tamper and data else data
        sent += data
        for at in range(0, len(arrives), self._step):
            self.feed(OTHER[sender], arrives[at : at + self._step])
        return bool(data)

    def feed(self, side: Side, data: bytes) -> None:
        """Give `data` to one side, and do what its events call for."""
        engine = self.engines[side]
        try:
            for event in in_turns(engine, data):
                self.events[side].append(bytes(event) if isinstance(event, memoryview) else event)
                if isinstance(event, KeysAgreed) and side == "client" and self._user is not None:
                    engine.log_in(self._user, self._password)
            last = self.events[side][-1:]
            if isinstance(last and last[0], LoginRequested) and engine.packetizer.held:
                self._judge()
        except CotunError:
            self.failed = side
            raise

    def _judge(self) -> None:
        if self._verdict is not None:
            self.server.answer_login(accepted=self._verdict)
            self.feed("server", b"")

    def say(self, sender: Side, *payloads: bytes) -> None:
        """Have one side send `payloads`, whatever they are, and carry everything."""
        for payload in payloads:
            self.engines[sender].packetizer.send_payload(payload)
        self.run()


def lists_of(kex_init: bytes) -> list[bytes]:
    """Return the ten lists of a KEXINIT (RFC 4253 section 7.1)."""
    reader = messages.Reader(memoryview(kex_init))
    reader.skip(16)
    return [bytes(reader.string()) for _ in range(10)]


def kex_init(lists: Iterable[bytes], *, follows: bool = False) -> bytes:
    """Return a KEXINIT with a cookie of zeros."""
    fields = b"".join(map(messages.string, lists))
    return bytes((messages.KEXINIT,)) + bytes(16) + fields + bytes((follows,)) + bytes(4)
