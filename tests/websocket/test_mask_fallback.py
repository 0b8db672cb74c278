"""Frames where websockets has no C extension, as on a platform without a wheel: the same bytes."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest
import websockets.utils

from cotun_trio.websocket import frames
from tests.support.frames import BINARY, KEY, frame, xor

if TYPE_CHECKING:
    from types import ModuleType

SIZES = [*range(20), 125, 126, 1000, 65537]


@pytest.fixture(scope="module")
def fallback() -> ModuleType:
    """Return the module as it is where `websockets.speedups` is missing."""
    spec = importlib.util.spec_from_file_location("frames_without_c", frames.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "websockets.speedups", None)
        spec.loader.exec_module(module)
    return module


def received(module: Any, data: bytes) -> bytes:
    """Return the payload that a server's filter finds."""
    payload = bytearray()
    module.FrameFilter(from_client=True).feed(memoryview(data), payload.extend)
    return bytes(payload)


def test_the_mask_in_python_takes_its_place(fallback: Any) -> None:
    assert fallback.apply_mask is websockets.utils.apply_mask
    assert frames.apply_mask is not fallback.apply_mask, "this platform has no C extension either"


@pytest.mark.parametrize("size", SIZES)
def test_it_masks_as_the_rfc_says(fallback: Any, size: int) -> None:
    data = bytes(number & 0xFF for number in range(size))
    for view in (memoryview(data), bytearray(data)):
        assert fallback.apply_mask(view, KEY) == xor(data, KEY)


@pytest.mark.parametrize("size", SIZES[1:])
def test_what_it_writes_is_read_with_the_extension_and_the_other_way_round(
    fallback: Any, size: int
) -> None:
    data = bytes(number & 0xFF for number in range(size))
    for writer, reader in ((fallback, frames), (frames, fallback)):
        framer = writer.Framer(mask=True)
        assert received(reader, b"".join(framer.frames(memoryview(data)))) == data
        assert received(reader, framer.small(bytearray(data))) == data


def test_it_reads_what_comes_in_pieces(fallback: Any) -> None:
    data = bytes(number & 0xFF for number in range(1000))
    payload = bytearray()
    reader = fallback.FrameFilter(from_client=True)
    for byte in frame(BINARY, data, key=KEY):
        reader.budget.begin()
        reader.feed(memoryview(bytes([byte])), payload.extend)
    assert payload == data
