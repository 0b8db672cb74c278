"""A gob value as Go writes it: its head is found by counting bytes, without a reader of fields.

This is for speed alone.  What is not of this form is not wrong: `cotun_trio.protocol.gob` reads it.
What is of this form has to mean the same there.
"""

from cotun_trio.protocol.datagram_codec import MAX_PAYLOAD

MAX_USUAL = 160
"""Bytes of the longest head here: a source of 127 bytes, and less than 20 around it."""


def usual_head(data: bytes, type_id: bytes) -> tuple[bytes, str, int] | None:
    """Return the head of the value at the front of `data`, its source, and the payload's size.

    The head is all before the payload; behind that, there has to be a 0.  The value is of the type
    with this id, has a source, and its numbers take no more bytes than they need.  None stands for
    another form, and for too few bytes.
    """
    try:
        size, at = _number(data, 0)
        end = at + size
        start = at + len(type_id) + 2
        length = data[start - 1]  # of the source
        if data[at : start - 1] != type_id + b"\x01" or not 0 < length < 0x80:
            return None
        at = start + length
        source = data[start:at].decode()
        if data[at] == 1:  # the next field, the payload
            size, at = _number(data, at + 1)
            if not 0 < size <= MAX_PAYLOAD:
                return None
        else:
            size = 0  # the 0 that ends the value comes at once
    except (IndexError, UnicodeDecodeError):
        return None
    return (data[:at], source, size) if at + size + 1 == end else None


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned integer at this place, of up to two bytes, and where it ends.

    A number that takes more is returned as 0.
    """
    first = data[at]
    if first < 0x80:
        return first, at + 1
    if first == 0xFF:
        return data[at + 1], at + 2
    if first == 0xFE:
        return data[at + 1] << 8 | data[at + 2], at + 3
    return 0, at
