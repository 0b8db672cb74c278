"""Make text from outside safe to print: one line, no control characters, no tricks, bounded."""

MAX_SHOWN = 200
"""Characters shown of a piece of foreign text: enough to recognise it, too few to flood a log."""


def escape(text: str | bytes, limit: int = MAX_SHOWN) -> str:
    """Return `text` on one line, with everything that is not plainly printable escaped.

    Control characters (ESC sequences, newlines), invisible and bidirectional formatting
    characters and undecodable bytes come out as ``\\n``, ``\\x1b``, ``\\u202e`` and the like;
    a backslash is doubled, so that nothing can imitate an escape.  Longer text is cut after
    `limit` characters, of which each takes ten at the most, and ends in ``…``.

    >>> escape("alice\\n2026-01-01 server: all is well")
    'alice\\\\n2026-01-01 server: all is well'
    """
    if isinstance(text, bytes):
        # Four bytes a character at the most: cut first, so that the cost is bounded too.
        text = text[: 4 * limit + 4].decode("utf-8", "surrogateescape")
    shown = "".join(map(_escape_character, text[:limit]))
    return shown + "…" if len(text) > limit else shown


def _escape_character(character: str) -> str:
    if character.isprintable() and character != "\\":
        return character
    if "\udc80" <= character <= "\udcff":  # an undecodable byte, by "surrogateescape"
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
