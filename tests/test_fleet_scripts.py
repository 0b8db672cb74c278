"""The files in ``scripts/fleet``: what they say to our program, it understands, and ports agree.

HAProxy checks its own file, and the one for Compose has to fit the schema of Compose.  Schemas of
Kubernetes are too large to have them for four objects: of these, our own half is checked, as of the
others, with all that has to be the same in several places.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cotun_trio.units import parse_duration
from scripts import fleet_demo
from scripts.packaging.image import SETTINGS
from scripts.peers import find
from tests.support.command_lines import understood_words
from tests.support.peers import needs

FLEET = Path(__file__).parents[1] / "scripts" / "fleet"
COMPOSE = FLEET / "compose.yaml"
KUBERNETES = sorted((FLEET / "kubernetes").glob("*.yaml"))


def documents() -> dict[tuple[str, str], Any]:
    """Return the objects for Kubernetes, by kind and name."""
    found = [each for path in KUBERNETES for each in yaml.safe_load_all(path.read_text())]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


@needs("haproxy")
@pytest.mark.interop
def test_haproxy_takes_its_file() -> None:
    done = subprocess.run(
        [str(find("haproxy")), "-c", "-f", FLEET / "haproxy.cfg"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr


def test_the_command_in_the_file_of_haproxy_is_one_of_ours() -> None:
    text = (FLEET / "haproxy.cfg").read_text()
    command = re.search(r"#     cotun-trio (server (?:.*\\\n#)*.*)\n", text)
    assert command
    options = understood_words(command[1].replace("\\\n#", " ").split())
    assert f"server node1 {options['host']}:{options['port']}\n" in text
    assert options["health_listen"] == f"{options['host']}:8081"
    assert "check port 8081 " in text


# ---- Compose


@pytest.mark.slow
def test_the_file_for_compose_fits_its_schema() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            COMPOSE,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_service_of_compose_has_a_place_of_its_own_and_haproxy_knows_the_nodes() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    config = (FLEET / "haproxy.cfg").read_text()
    addresses = [
        networks["fleet"]["ipv4_address"]
        for service in compose["services"].values()
        if isinstance(networks := service["networks"], dict)
    ]
    assert len(set(addresses)) == len(addresses) == 5
    for name in ("node1", "node2", "node3"):
        service = compose["services"][name]
        address = service["networks"]["fleet"]["ipv4_address"]
        options = understood_words(service["command"])
        assert f"server {name} {address}:{options['port']}\n" in config
        assert f"server {name} {address}\n" in config
        assert str(options["fleet_address"]) == f"http://{address}:{options['port']}"
        assert options["health_listen"] == "8081"
        redis = compose["services"]["redis"]["networks"]["fleet"]["ipv4_address"]
        assert options["fleet"] == f"redis://{redis}"
        haproxy = compose["services"]["haproxy"]["networks"]["fleet"]["ipv4_address"]
        assert list(options["trusted_proxy"]) == [haproxy]
        secrets = {f"/run/secrets/{secret}" for secret in service["secrets"]}
        assert {options["keyfile"], options["fleet_key"]} == secrets
        grace = service["environment"]["COTUN_SHUTDOWN_GRACE"]
        assert parse_duration(service["stop_grace_period"]) > parse_duration(grace) + 5


def test_the_client_of_compose_goes_by_haproxy_and_its_port_is_published() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())["services"]
    haproxy = compose["haproxy"]["networks"]["fleet"]["ipv4_address"]
    command, url, remote = compose["client"]["command"]
    assert understood_words([command, url, remote])
    assert url == f"http://{haproxy}"
    port = re.fullmatch(r"R:(\d+):web:80", remote)
    assert port
    assert f"{port[1]}:{port[1]}" in compose["haproxy"]["ports"]
    assert "web" in compose


# ---- Kubernetes


def container() -> dict[str, Any]:
    """Return the container of the nodes."""
    [found] = documents()["StatefulSet", "cotun-trio"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def test_the_command_of_a_pod_is_understood_and_its_ports_are_the_probes() -> None:
    options = understood_words(container()["args"])
    ports = {port["name"]: port["containerPort"] for port in container()["ports"]}
    assert ports["tunnel"] == options["port"]
    assert ports["health"] == int(options["health_listen"])
    for probe in ("readinessProbe", "livenessProbe"):
        assert container()[probe]["httpGet"]["port"] == "health"
    assert container()["readinessProbe"]["httpGet"]["path"] == "/ready"
    [mount] = container()["volumeMounts"]
    for option in ("keyfile", "authfile", "fleet_key", "fleet_password_file"):
        assert str(options[option]).startswith(f"{mount['mountPath']}/"), option
    names = {variable["name"] for variable in container()["env"]}
    assert set(re.findall(r"\$\((\w+)\)", " ".join(container()["args"]))) <= names


def test_the_services_lead_to_the_pods() -> None:
    found = documents()
    stateful = found["StatefulSet", "cotun-trio"]["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    assert stateful["selector"]["matchLabels"].items() <= labels.items()
    budget = found["PodDisruptionBudget", "cotun-trio"]["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels.items()
    ports = {port["name"] for port in container()["ports"]}
    for name in ("cotun-trio", "cotun-trio-nodes"):
        service = found["Service", name]["spec"]
        assert service["selector"].items() <= labels.items()
        assert {port["targetPort"] for port in service["ports"]} <= ports
    headless = found["Service", stateful["serviceName"]]["spec"]
    assert headless["clusterIP"] == "None"
    assert headless["publishNotReadyAddresses"] is True
    address = understood_words(container()["args"])["fleet_address"]
    assert f"$(POD_NAME).{stateful['serviceName']}." in str(address)


def test_a_pod_has_the_time_that_it_needs_to_end() -> None:
    pod = documents()["StatefulSet", "cotun-trio"]["spec"]["template"]["spec"]
    seconds = container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = {v["name"]: v.get("value") for v in container()["env"]}["COTUN_SHUTDOWN_GRACE"]
    assert pod["terminationGracePeriodSeconds"] >= seconds + parse_duration(grace) + 5


def test_what_runs_in_the_image_is_what_the_image_can() -> None:
    pod = documents()["StatefulSet", "cotun-trio"]["spec"]["template"]["spec"]
    number = int(SETTINGS["User"].partition(":")[0])
    assert pod["securityContext"]["runAsUser"] == number
    assert container()["securityContext"]["readOnlyRootFilesystem"] is True
    assert "exec" not in json.dumps(container())  # there is nothing to execute
    services = yaml.safe_load(COMPOSE.read_text())["services"].values()
    ours = [service for service in services if service["image"] == "cotun-trio"]
    assert len(ours) == 4
    for service in ours:
        assert service["read_only"] is True
        assert "entrypoint" not in service
        assert service["command"][0] in {"server", "client"}
    assert f"chown {number} " in COMPOSE.read_text()


def test_every_object_for_kubernetes_is_one_that_is_known_here() -> None:
    versions = {
        "StatefulSet": "apps/v1",
        "Service": "v1",
        "PodDisruptionBudget": "policy/v1",
    }
    assert len(documents()) == 4
    for (kind, _name), each in documents().items():
        assert each["apiVersion"] == versions[kind]
        assert set(each) == {"apiVersion", "kind", "metadata", "spec"}


# ---- make fleet-demo


@needs("haproxy", "redis-server")
@pytest.mark.slow
@pytest.mark.interop
def test_the_demo_shows_a_fleet_whose_node_is_killed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.fleet_demo"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd=FLEET.parents[1],
    )
    assert done.returncode == 0, done.stdout + done.stderr
    before, _, after = done.stdout.partition(" is killed\n")
    for half in (before, after):
        assert half.count("the same SHA-256") == 3


def test_the_demo_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_demo, "find", lambda _name: None)
    with pytest.raises(SystemExit, match=r"not installed: redis-server, haproxy\.  make peers"):
        fleet_demo.main()
