"""Archives with the image layout: what is in them, and that the same comes out each time."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from scripts.packaging import image
from scripts.packaging.environment import UnusableError
from scripts.packaging.oci import Image, Layer
from tests.support.image import Image as Unpacked

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a directory for a layer."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "file").write_text("text")
    (root / "tmp").mkdir()
    return root


def made(root: Path, architecture: str = "amd64", **layer: object) -> Image:
    """Return an image with one layer."""
    return Image(
        name="part:1.0",
        architecture=architecture,
        created="2026-01-01T00:00:00Z",
        layers=(Layer.of(root, "made up", **layer),),
        settings={"User": "65532"},
        annotations={"org.opencontainers.image.title": "part"},
    )


@pytest.mark.parametrize(
    ("architecture", "platform"),
    [
        ("amd64", {"architecture": "amd64", "os": "linux"}),
        ("arm64", {"architecture": "arm64", "os": "linux", "variant": "v8"}),
    ],
)
def test_an_image_is_found_by_its_digest_name_and_platform(
    root: Path, tmp_path: Path, architecture: str, platform: dict[str, str]
) -> None:
    path = tmp_path / "image.tar"
    digest = made(root, architecture, modes={"tmp": 0o1777}, time=0).write(path)
    unpacked = Unpacked.unpack(path, tmp_path)
    assert unpacked.described["digest"] == digest
    assert unpacked.described["platform"] == platform
    assert unpacked.described["annotations"]["org.opencontainers.image.ref.name"] == "part:1.0"
    assert {name: unpacked.config[name] for name in platform} == platform
    assert unpacked.config["config"] == {"User": "65532"}
    (history,) = unpacked.config["history"]
    assert history == {"created": "2026-01-01T00:00:00Z", "created_by": "made up"}
    with unpacked.open_layer(0) as tar:
        modes = {each.name: (each.mode, each.mtime) for each in tar.getmembers()}
    assert modes == {"etc": (0o755, 0), "etc/file": (0o644, 0), "tmp": (0o1777, 0)}


def test_the_same_comes_out_each_time(root: Path, tmp_path: Path) -> None:
    paths = tmp_path / "first.tar", tmp_path / "second.tar"
    made(root).write(paths[0])
    os.utime(root / "etc" / "file", (1, 1))
    (root / "etc").chmod(0o700)
    made(root).write(paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with tarfile.open(paths[0]) as tar:
        assert {"index.json", "manifest.json", "oci-layout"} <= set(tar.getnames())


def test_what_an_image_cannot_be_built_on_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image.platform, "machine", lambda: "riscv64")
    with pytest.raises(UnusableError, match="Linux with one of amd64, arm64, and this is linux on"):
        image.Compiler(tmp_path, "http://127.0.0.1:1")


def test_a_package_index_that_fails_is_the_reason_of_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build() -> None:
        raise UnusableError("no wheels today")

    monkeypatch.setattr(image, "ROOT", tmp_path)
    monkeypatch.setattr(image.python_packages, "build", build)
    assert image.main(["--arch", "arm64"]) == 1
    assert capsys.readouterr().err == "no wheels today\n"
