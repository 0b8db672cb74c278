"""The environment that packages carry, with wheels made up here: nothing is fetched."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts.packaging import environment, lock, reproducible, sbom
from scripts.packaging.environment import Target, UnusableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow

HERE = "{}.{}".format(*sys.version_info)
X86 = Target(HERE, "x86_64")
PARTS = {
    "components": [
        {
            "type": "library",
            "bom-ref": "path+file:///home/builder/crate#1.2",
            "author": "Some People <some@example.com>",
            "name": "crate",
            "version": "1.2",
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
            "purl": "pkg:cargo/crate@1.2?download_url=file:///home/builder/crate",
            "hashes": [
                {"alg": "SHA-256", "content": "c" * 64},
                {"alg": "MD5", "content": "c" * 32},
            ],
        }
    ]
}


def make_wheel(
    directory: Path,
    name: str,
    version: str,
    *,
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
    about: str = "License-Expression: MIT\n",
    files: dict[str, str] | None = None,
) -> Path:
    """Make a wheel with a module, a program and what is told."""
    folder = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
    head = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nSummary: A part\n"
    names = f'NAMES = {{"{name}", "one", "two"}}\n'
    contents = {
        f"{name}/__init__.py": f"{names}\n\ndef fail():\n    return 1 / 0\n",
        f"{folder}/METADATA": head + about + needs,
        f"{folder}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{folder}/entry_points.txt": f"[console_scripts]\n{name} = {name}:fail\n",
        **{path.format(folder=folder): text for path, text in (files or {}).items()},
    }
    contents[f"{folder}/RECORD"] = "".join(
        f"{path},,\n" for path in (*contents, f"{folder}/RECORD")
    )
    directory.mkdir(exist_ok=True)
    wheel = directory / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for path, text in contents.items():
            file.writestr(path, text)
    return wheel


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Give a function that has the lock pin a wheel that is kept already."""
    pins = tmp_path / "requirements.lock"
    pins.write_text("# Made up\n")
    monkeypatch.setattr(environment, "KEPT", tmp_path / "kept")
    read = lock.pins
    monkeypatch.setattr(lock, "pins", lambda: read(pins))
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    def pin(
        name: str, version: str, *, marker: str = "", target: Target = X86, **told: object
    ) -> Path:
        directory = tmp_path / "kept" / str(target)
        directory.mkdir(parents=True, exist_ok=True)
        wheel = make_wheel(directory, name, version, **told)  # type: ignore[arg-type]
        line = f"{name}=={version}{marker} --hash=sha256:{reproducible.sha256(wheel)}\n"
        pins.write_text(pins.read_text() + line)
        return wheel

    return pin


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """Give a wheel that is called like ours."""
    needs = ["One>=1", "two; extra == 'fleet'", "three; extra == 'test'", "four; os_name == 'nt'"]
    return make_wheel(tmp_path / "ours", "cotun_trio", "0.1.0", requires=needs)


def bytes_of(root: Path) -> dict[str, bytes]:
    """Return all files below `root`."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_same_bytes_are_installed_anywhere_and_used_without_a_look_at_times(
    pinned: Callable[..., Path], ours: Path, tmp_path: Path
) -> None:
    one = pinned("one", "1.5", requires=["two"])
    two = pinned("two", "2.0", files={"two/new.py": "this is for a later Python\n"})
    roots = [tmp_path / "here", tmp_path / "there" / "deep"]
    umask = os.umask(0o077)
    try:
        carried = [
            environment.install(root, wheel=ours, python=HERE, machine="x86_64") for root in roots
        ]
    finally:
        os.umask(umask)
    found = bytes_of(roots[0])
    assert found == bytes_of(roots[1])
    assert [path for path, text in found.items() if str(tmp_path).encode() in text] == []
    assert not [path for path in found if path.startswith("bin/") or "direct_url" in path]
    assert [(c.name, c.version, c.digest, c.needs) for c in carried[0]] == [
        ("cotun-trio", "0.1.0", reproducible.sha256(ours), ("one", "two")),
        ("one", "1.5", reproducible.sha256(one), ("two",)),
        ("two", "2.0", reproducible.sha256(two), ()),
    ]
    (compiled,) = [path for path in found if path.startswith("one/__pycache__/")]
    assert found[compiled][4:8] == b"\x01\x00\x00\x00"  # by a hash that is not checked
    (roots[0] / "one" / "__init__.py").write_text("raise SystemExit('read anew')\n")
    program = "import one; one.fail()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(roots[0])},
        capture_output=True,
        text=True,
    )
    assert "ZeroDivisionError" in done.stderr
    assert f'File "{roots[0]}/one/__init__.py", line 5' in done.stderr
    modes = {oct(path.stat().st_mode & 0o777) for path in (roots[0], *roots[0].rglob("*"))}
    assert modes == {"0o755", "0o644"}


def test_the_list_of_a_package_has_all_that_is_there_with_hashes(
    pinned: Callable[..., Path], ours: Path, tmp_path: Path
) -> None:
    pinned("one", "1.5")
    pinned("two", "2.0")
    root = tmp_path / "root"
    environment.install(root, wheel=ours, python=HERE, machine="x86_64")
    listed = {}
    for path in root.glob("*.dist-info/RECORD"):
        with path.open(newline="") as file:
            listed.update({name: (digest, size) for name, digest, size in csv.reader(file)})
    found = bytes_of(root)
    assert listed.keys() == found.keys()
    for name, (digest, size) in listed.items():
        if not name.endswith("/RECORD"):
            assert int(size) == len(found[name])
            raw = base64.urlsafe_b64decode(digest.removeprefix("sha256=") + "=")
            assert raw == hashlib.sha256(found[name]).digest()


def test_another_python_gets_no_compiled_modules(
    pinned: Callable[..., Path], ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned("one", "1.5")
    pinned("two", "2.0")
    other = Target("3.99", "x86_64")
    (environment.KEPT / str(X86)).rename(environment.KEPT / str(other))
    environment.install(tmp_path / "root", wheel=ours, python="3.99", machine="x86_64")
    assert not list((tmp_path / "root").rglob("*.pyc"))


@pytest.mark.parametrize("machine", environment.MACHINES)
def test_a_marker_is_about_the_target_and_not_about_what_builds(
    machine: str, pinned: Callable[..., Path], tmp_path: Path
) -> None:
    names = dict(zip(environment.MACHINES, ("one", "two"), strict=True))
    requires = []
    for other, name in names.items():
        marker = f"platform_machine == '{other}'"
        pinned(name, "1.5", marker=f" ; {marker}", target=Target(HERE, machine))
        requires.append(f"{name}; {marker}")
    wheel = make_wheel(tmp_path / "ours", "cotun_trio", "0.1.0", requires=requires)
    carried = environment.install(tmp_path / "x", wheel=wheel, python=HERE, machine=machine)
    assert [package.name for package in carried] == ["cotun-trio", names[machine]]
    assert carried[0].needs == (names[machine],)


@pytest.mark.parametrize(
    ("version", "reason"),
    [("0.9", "cotun-trio needs One>=1, and the lock has 0.9"), (None, "does not have it")],
)
def test_a_lock_that_is_behind_is_told(
    version: str | None, reason: str, pinned: Callable[..., Path], ours: Path, tmp_path: Path
) -> None:
    pinned("two", "2.0")
    if version:
        pinned("one", version)
    with pytest.raises(UnusableError, match=f"{reason}: say make lock"):
        environment.install(tmp_path / "root", wheel=ours, python=HERE, machine="x86_64")


def test_a_wheel_that_is_not_the_one_of_the_lock_is_not_taken(
    pinned: Callable[..., Path], ours: Path, tmp_path: Path
) -> None:
    wheel = pinned("one", "1.5")
    wheel.write_bytes(wheel.read_bytes() + b"!")
    with pytest.raises(UnusableError, match="pip download failed"):
        environment.install(tmp_path / "root", wheel=ours, python=HERE, machine="x86_64")


def test_a_machine_without_packages_and_a_place_with_something_in_it_are_refused(
    ours: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnusableError, match="no packages for 'z80', only for x86_64 and aarch64"):
        environment.install(tmp_path / "root", wheel=ours, python=HERE, machine="z80")
    with pytest.raises(UnusableError, match="is not empty"):
        environment.install(tmp_path, wheel=ours, python=HERE, machine="x86_64")


def test_what_is_carried_is_told_with_licences_hashes_and_what_it_is_made_of(
    pinned: Callable[..., Path], ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    parts = {"{folder}/sboms/parts.cdx.json": json.dumps(PARTS)}
    old = "License: Some words\nClassifier: License :: OSI Approved :: MIT License\n"
    one = pinned("one", "1.5", requires=["two"], files=parts)
    pinned("two", "2.0", about=old)
    root, artefact = tmp_path / "root", tmp_path / "some.deb"
    artefact.write_bytes(b"x")
    carried = environment.install(root, wheel=ours, python=HERE, machine="x86_64")
    libc = sbom.debian_package("libc6", "2.36-9+deb12u9", "amd64", sha256="d" * 64)
    texts = []
    for _ in range(2):
        path = sbom.write(artefact, carried=carried, more=[libc])
        texts.append(path.read_text())
    assert path == tmp_path / "some.deb.cdx.json"
    assert texts[0] == texts[1]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(texts[0]) is None
    told = json.loads(texts[0])
    assert told["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"
    assert told["metadata"]["component"]["purl"].startswith("pkg:generic/cotun-trio@")
    by_name = {component["name"]: component for component in told["components"]}
    assert by_name.keys() == {"cotun-trio", "one", "two", "libc6"}
    assert by_name["one"]["hashes"] == [{"alg": "SHA-256", "content": reproducible.sha256(one)}]
    assert by_name["one"]["licenses"] == [{"license": {"id": "MIT"}}]
    assert by_name["one"]["purl"] == "pkg:pypi/one@1.5"
    assert by_name["two"]["licenses"] == [{"license": {"name": "Some words"}}]
    assert by_name["libc6"]["purl"] == (
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64&distro=debian-12"
    )
    (crate,) = by_name["one"]["components"]
    assert crate["supplier"] == {"name": "Some People"}
    assert crate["purl"] == "pkg:cargo/crate@1.2"
    assert crate["hashes"] == [{"alg": "SHA-256", "content": "c" * 64}]
    assert "/home/builder" not in texts[0]
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in told["dependencies"]}
    assert edges["some.deb"] == ["deb:libc6:amd64", "pypi:cotun-trio"]
    assert edges["pypi:cotun-trio"] == ["pypi:one", "pypi:two"]
    assert edges["pypi:one"] == ["pypi:one/cargo:crate@1.2", "pypi:two"]
