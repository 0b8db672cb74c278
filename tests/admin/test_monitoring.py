"""The alerts and the dashboard: they ask for figures that there are, and Prometheus takes them."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cotun_trio.admin.metrics import _workers
from cotun_trio.admin.watched import WorkerFigures
from cotun_trio.snapshot import Figures
from tests.support.metrics import full_tunnel, samples
from tests.support.peers import needs

SCRIPTS = Path(__file__).parents[2] / "scripts"
ALERTS = (SCRIPTS / "alerts.yml").read_text()
TESTS = Path(__file__).parent / "alerts_test.yml"
DASHBOARD: dict[str, Any] = json.loads((SCRIPTS / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
VARIABLES = DASHBOARD["templating"]["list"]


def promtool(*words: str) -> str:
    """Return what promtool says, which has to succeed."""
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs("promtool")
@pytest.mark.interop
def test_prometheus_takes_the_alerts() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(SCRIPTS / "alerts.yml"))


@needs("promtool")
@pytest.mark.interop
@pytest.mark.slow
def test_each_alert_is_for_one_server_and_leaves_another_one_alone() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(TESTS))


def test_no_alert_is_without_a_test() -> None:
    tested = set(re.findall(r'alertname="(\w+)"', TESTS.read_text()))
    assert tested == set(re.findall(r"- alert: (\w+)", ALERTS))


def test_each_alert_says_what_is_wrong_and_what_to_look_at() -> None:
    count = len(re.findall(r"- alert: ", ALERTS))
    for name in ("severity", "summary", "description"):
        assert len(re.findall(rf"\b{name}: ", ALERTS)) == count


async def test_they_ask_for_figures_that_there_are(tmp_path: Path) -> None:
    async with full_tunnel(tmp_path) as both:
        found = {*await samples(both.server.shown), *await samples(both.client.shown)}
    worker = WorkerFigures(number=1, process=1, answers=True, figures=Figures())
    of_workers = {sample.name for family in _workers([worker]) for sample in family.samples}
    names = of_workers | {name for name, *_ in found}
    values = {value for _, *labels in found for value in labels}
    asked = [ALERTS, *QUERIES, *(each.get("definition", "") for each in VARIABLES)]
    for text in asked:
        assert set(re.findall(r"\bcotun_trio_\w+", text)) <= names
        for outcomes in re.findall(r'outcome[!=]~?"([^"]+)"', text):
            assert set(outcomes.split("|")) <= values


# ---- the dashboard


@needs("promtool")
@pytest.mark.interop
def test_prometheus_takes_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(QUERIES)
    ]
    path = tmp_path / "rules.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(QUERIES)} rules found" in promtool("check", "rules", str(path))


def test_the_dashboard_is_for_any_data_source_job_and_instance() -> None:
    assert [each["name"] for each in VARIABLES] == ["datasource", "job", "instance"]
    asking = [target for panel in PANELS for target in panel["targets"]]
    for each in (*PANELS, *asking, *VARIABLES[1:]):
        assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for query in QUERIES:
        assert query.count('job=~"$job", instance=~"$instance"') == query.count("cotun_trio_")


def test_no_panel_is_on_another_one() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        for at in (panel["gridPos"] for panel in panels)
    ]
    assert not any(one & other for one, other in itertools.combinations(places, 2))
    assert {x for place in places for x, _ in place} == set(range(24))
