"""README's commands for a fresh clone, and those that install the program."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.command_lines import understood
from tests.support.machines import ROOT, machine
from tests.support.peers import needs
from tests.support.readme import blocks, section

pytestmark = [pytest.mark.slow, pytest.mark.interop]

NOT_REACHED = r"Could not find a version|No matching distribution|[Cc]onnection|name resolution"
"""What pip says where it cannot reach its index."""
LIMIT = 200
"""Seconds for an installation, which takes 15, and mostly waits for the package index."""


@needs("make")
@pytest.mark.skipif(
    not (ROOT / ".venv" / "installed").exists(), reason="make has not installed anything here yet"
)
async def test_the_first_command_is_the_demo(place: Path) -> None:
    with section("Two commands") as (commands,):
        demo, tests = commands.text.split("\n")
    assert tests.startswith("make test ")  # this is run by it
    async with machine(place / "clone", "clone", directory=str(ROOT)) as clone:
        assert "at this end of the tunnel" in await clone.run(demo)


def arguments_of_image(block: str) -> str:
    """Return the command in the last line of a block, which runs an image, as one of ours."""
    *docker, name = re.findall(r"docker run .* (cotun-trio:\S+) ", block)
    assert not docker
    return f"cotun-trio {block.rpartition(name)[2].strip()}"


@needs("pipx")
@pytest.mark.limit(LIMIT + 60)
async def test_the_program_is_installed_and_removed(place: Path) -> None:
    with section("Install") as (pipx, uv, single, image, deb, rpm, after):
        assert understood(arguments_of_image(image.text))["auth"]
        # They take long, or another system: tests/test_dist.py has the single file.
        assert single.text.startswith("make dist\n")
        assert deb.text.startswith("make packages\napt install ./dist/")
        assert rpm.text.startswith("dnf install ./dist/")
        async with machine(place / "new", "new", directory=str(ROOT), online=True) as new:
            # Nothing of ours is on PATH before.  As for services, it goes where all can use it.
            (line, *_) = blocks()["systemd"][0].split("\n")
            places, installs = line.rsplit(" pipx ", 1)
            assert f"pipx {installs}" == pipx.text
            path = os.environ.get("PATH", os.defpath).split(":")
            ours = [each for each in path if not Path(each, "cotun-trio").exists()]
            env = {"PATH": ":".join([*ours, "/usr/local/bin"])}
            env |= dict(each.split("=") for each in places.split())
            async with new.running(pipx.text, env=env) as program:
                status = await program.wait(LIMIT)
                if status and program.find(NOT_REACHED):
                    pytest.skip("the package index cannot be reached")
                assert status == 0, program.lines
            said = await new.run(after.text, env=env)
            assert said.startswith("cotun-trio ")
            await new.run("pipx uninstall cotun-trio; ! command -v cotun-trio", env=env)
        assert uv.text == "uv tool install ."
