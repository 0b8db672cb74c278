"""README's recipes for what keeps the program running: systemd, Docker, Kubernetes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.command_lines import understood
from tests.support.machines import booted, no_services
from tests.support.peers import needs
from tests.support.readme import blocks, section

if TYPE_CHECKING:
    from pathlib import Path

    from tests.readme.conftest import Meet


@pytest.mark.slow
@pytest.mark.interop
@needs("systemd-nspawn", "curl")
@pytest.mark.skipif(no_services() is not None, reason=str(no_services()))
async def test_systemd_runs_a_server_and_a_client(meet: Meet, place: Path) -> None:
    with section("systemd") as (begin, server, client):
        # The program is there already; tests/readme/test_install.py has run the first line.
        _pipx, _, others = begin.text.partition("\n")
        async with (
            meet() as both,
            booted(both.inside, place / "inside") as inside,
            booted(both.own, place / "own") as own,
        ):
            web = "echo hello >index.html; exec python3 -m http.server --bind 127.0.0.1 3000"
            for each in (inside, own):
                await each.run("userdel cotun-trio 2>/dev/null || true; rm -rf /etc/cotun-trio")
                await each.run("ln -s /opt/cotun/source/scripts scripts")
                await each.run(others)
            said = await inside.run(server.text)
            assert "ready" in said, said
            fingerprint = said.split()[-1]
            text = both.typed(client.text).replace(both.fingerprint, fingerprint)
            async with inside.running(web, until="Serving HTTP on"):
                said = await own.run(text)
                assert "ready" in said, said
                assert await own.run("curl -sS http://127.0.0.1:8000/") == "hello"


def test_the_commands_for_docker_run_a_server_with_files_that_are_there() -> None:
    # tests/test_image.py runs the image itself.
    with section("Docker and Podman") as (block, client):
        lines = block.text.replace("\\\n", " ").splitlines()
        joined = client.text.replace("\\\n", " ").replace("QpUjJ1…=", "A" * 43 + "=")
    pattern = r"^(?:\(umask 077; )?docker (?:run .*?(cotun-trio:\S+)|exec tunnel cotun-trio) (.*)"
    told = [re.search(pattern, line) for line in lines]
    keygen, server, status = [found for found in told if found]
    made, _, where = keygen[2].partition(" >")
    assert where == "host.key)"  # it is nobody else's: the umask in front is for that
    assert understood(f"cotun-trio {made}")["keygen"] == "-"
    options = understood(f"cotun-trio {server[2]}")
    (mounted,) = re.findall(r'--volume "\$PWD:(\S+):ro"', server[0])
    assert options["keyfile"] == f"{mounted}/host.key"
    assert options["auth_from"] == f"{mounted}/login"  # as the first use has made it
    assert ">login" in "".join(blocks()["On two machines"])
    assert status[2] == "status"
    image, words = re.findall(r"^docker run .* (cotun-trio:\S+) (client .*)", joined)[0]
    options = understood(f"cotun-trio {words}")
    assert f'--volume "$PWD:{mounted}:ro"' in joined
    assert options["auth_from"] == f"{mounted}/login"
    # Its port in the container is the one that Docker publishes, for this machine alone.
    (published,) = re.findall(r"--publish 127\.0\.0\.1:8000:(\d+) ", joined)
    assert options["remotes"] == (f"{published}:localhost:3000",)
    named = "".join(blocks()["Install"])
    assert all(each in named for each in (keygen[1], server[1], image))


def test_the_manifest_for_kubernetes_runs_a_client() -> None:
    with section("Kubernetes") as (commands, manifest):
        assert "kubectl apply --filename client.yaml" in commands.text
        deployment = yaml.safe_load(manifest.text)
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    words = " ".join(container["args"]).replace("QpUjJ1…=", "A" * 43 + "=")
    options = understood(f"cotun-trio {words}")
    assert options["remotes"] == ("R:127.0.0.1:8000:web.default.svc:80",)
    (login,) = container["envFrom"]
    name = login["secretRef"]["name"]
    assert f"create secret generic {name} --from-literal=AUTH=" in commands.text
    image = container["image"]
    assert any(image in text for text in blocks()["Install"])
