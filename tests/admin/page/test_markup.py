"""HTML from values: nothing that came from elsewhere becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from cotun_trio.admin.page.markup import Html, join, tag


def test_elements_nest_and_text_is_escaped() -> None:
    assert tag("p", "1 < 2 ", tag("b", "&"), class_="a b") == (
        '<p class="a b">1 &lt; 2 <b>&amp;</b></p>'
    )
    assert tag("meta", http_equiv="refresh", content=10) == (
        '<meta http-equiv="refresh" content="10">'
    )
    assert join("a<", Html("<br>")) == "a&lt;<br>"


def test_attributes_can_be_left_out() -> None:
    assert tag("p", hidden=True, id=None, role=False, tabindex=0) == '<p hidden tabindex="0"></p>'


@given(st.text(), st.text())
def test_no_text_gets_out_of_its_place(text: str, value: str) -> None:
    found: list[object] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

        def handle_data(self, data: str) -> None:
            found.append(data)

    parser = Parser()
    parser.feed(tag("p", text, title=value))
    parser.close()
    assert found[0] == ("p", {"title": value})
    assert "".join(map(str, found[1:])) == text
