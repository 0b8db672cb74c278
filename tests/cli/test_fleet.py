"""``cotun-trio fleet status``: what it prints, and its status."""

from __future__ import annotations

from typing import Any

import pytest

from cotun_trio import cli
from cotun_trio.cli.admin_client import AdminClient

FOUND: dict[str, Any] = {
    "name": "cotun",
    "id": "here~1",
    "directory": "redis://:***@localhost:6379",
    "answers": True,
    "lease_seconds": 9.5,
    "epoch": 7,
    "draining": False,
    "nodes": [
        {
            "id": "there~1\x1b",
            "address": "http://10.0.0.2:8080",
            "version": "1",
            "load": 3,
            "draining": True,
            "routes": 1,
        }
    ],
    "own_routes": 1,
    "routes": [
        {"place": "tcp/0.0.0.0:80", "session": 1, "user": "alice", "shared": True, "epoch": 7}
    ],
    "places": 1,
    "listening": 1,
    "links": 2,
}


@pytest.mark.parametrize(
    ("changes", "status"), [({}, 0), ({"answers": False}, 1), ({"lease_seconds": 0.0}, 1)]
)
def test_the_status_says_whether_the_node_has_its_lease(
    changes: dict[str, Any],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def get(_client: AdminClient, path: str) -> Any:
        asked.append(path)
        return FOUND | changes

    monkeypatch.setattr(AdminClient, "get", get)
    with pytest.raises(SystemExit) as caught:
        cli.main(["fleet", "status"])
    assert caught.value.code == status
    assert asked == ["/api/v1/fleet"]
    out = capsys.readouterr().out
    assert "fleet      cotun, 2 nodes\n" in out
    assert r"node       there~1\x1b (draining), http://10.0.0.2:8080, version 1, 3 sess" in out
    assert "place      tcp/0.0.0.0:80, session 1 of alice, epoch 7, shared\n" in out
