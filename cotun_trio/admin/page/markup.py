"""HTML from values: each text that `tag` did not make is escaped, our own ones too."""

from __future__ import annotations

import html

_VOID = {"input", "link", "meta"}
"""Elements without content and without an end."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *content: str, **attributes: str | float | bool | None) -> Html:
    """Return an element with its content, which is text unless it is `Html`.

    Attributes are written with ``_`` for ``-``, and behind names that Python has for itself.  True
    is an attribute without a value; None and False are none.

    >>> tag("p", "1 < 2 ", tag("b", "&"), class_="a b", hidden=True)
    '<p class="a b" hidden>1 &lt; 2 <b>&amp;</b></p>'
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        word = key.rstrip("_").replace("_", "-")
        words.append(word if value is True else f'{word}="{html.escape(str(value))}"')
    start = f"<{' '.join(words)}>"
    return Html(start if name in _VOID else f"{start}{join(*content)}</{name}>")


def join(*content: str) -> Html:
    """Return pieces one after the other."""
    return Html("".join(each if isinstance(each, Html) else html.escape(each) for each in content))
