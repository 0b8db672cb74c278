"""The buffers that make the data path copy-free, one set shared by all connections of a Trio run.

Sharing is safe because nothing awaits between filling a buffer and being done with it: a read is
decrypted and delivered, and a chunk is read, encrypted and sent, each in one go.  It also keeps an
idle session small: two megabytes of buffers each would be most of its memory.
"""

from __future__ import annotations

READ = 256 * 1024
"""Bytes asked of the network at once."""
MAX_PACKET = 32 * 1024
"""Bytes of channel data in a packet that we send, also the most that we say we take: Go's figure;
larger packets gained nothing when measured."""
SLOTS = 16
"""Packets sealed at once, which is 512 KiB: 11 % less of the sender's time than with 256 KiB, while
twice as much again gains nothing."""
HEAD = 10
"""Bytes before the data of a CHANNEL_DATA packet: padding length, type, recipient, data length."""
TAIL = 32
"""Room behind the data for the padding."""
OVERHEAD = 4 + HEAD + TAIL + 16
"""The most that a packet adds to its data: length, head, padding, tag."""
MAX_PACKET_IN = 256 * 1024
"""The longest packet that is taken from a peer that has logged in: Go's own limit."""


class Scratch:
    """One set of buffers.  Not for two threads, and never held across an ``await``."""

    __slots__ = ("plain", "read", "rooms", "sealed", "slots")

    def __init__(self) -> None:
        self.read = memoryview(bytearray(READ))
        """Bytes that have just come from the network."""
        self.plain = memoryview(bytearray(READ + 2 * MAX_PACKET_IN))
        """Packets decrypted from it; one read can complete a packet that began in earlier ones."""
        slots = memoryview(bytearray(SLOTS * (HEAD + MAX_PACKET + TAIL)))
        stride = HEAD + MAX_PACKET + TAIL
        self.slots = [slots[i * stride : (i + 1) * stride] for i in range(SLOTS)]
        """Packets in the making: data is read from a socket straight to its place in the packet."""
        self.rooms = [slot[HEAD : HEAD + MAX_PACKET] for slot in self.slots]
        """The places for the data in these slots."""
        self.sealed = memoryview(bytearray(SLOTS * (MAX_PACKET + OVERHEAD)))
        """The same packets, encrypted."""
