"""One case: a kind of flood, by so many connections, on one program; without, with, and without."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, TypeAlias

import attrs

from bench.bystander import Watch, bystander
from bench.client_victims import on_client_scene
from bench.flood_kinds import Kind
from bench.flood_results import LOGIN, Figures, Line
from bench.hostile_kinds import HostileKind
from bench.processes import BenchError
from bench.victims import on_scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.attacker import Report
    from bench.bystander import Times
    from bench.processes import Program
    from bench.targets import Ports
    from bench.victims import Scene, Victim
    from bench.ways import Opened, Tls

    AnyKind: TypeAlias = Kind | HostileKind
    Measured: TypeAlias = dict[str, Times]
    """By meter."""

HASHES = 2
"""Where each login takes a costly hash: as many of them, in which a good one has to be in."""
LEAD = 0.2
"""Seconds for which the meters run before the flood begins."""


QUIET_FOR, QUIET = 0.3, 0.05
"""Seconds in which the programs take no more than this part of a core: they have nothing to do."""


@attrs.frozen(kw_only=True)
class Plan:
    """What to measure."""

    kinds: list[AnyKind]
    crowds: list[int]
    victims: list[Victim]
    seconds: float
    give_up: float
    record: int
    tls: Tls | None
    """For those kinds that take TLS in any case; None where it cannot be had."""

    def cases(self) -> Iterator[tuple[AnyKind, int, Victim]]:
        """Yield each kind, crowd and program, those to be compared next to each other."""
        for kind in self.kinds:
            for crowd in kind.crowds or self.crowds:
                for victim in self.victims:
                    yield kind, crowd, victim


def run_case(
    plan: Plan, kind: AnyKind, crowd: int, victim: Victim, targets: Ports, directory: Path
) -> Line:
    """Measure without, with and without one kind of flood."""
    watch = Watch(seconds=plan.seconds, give_up=plan.give_up)
    with (
        scene_of(plan, kind, victim, targets, directory) as scene,
        bystander(scene.here) as meters,
    ):
        before = meters.measure(watch)
        family = scene.victim.family()
        with scene.attacking(crowd) as attacker:
            if not attacker.report.connections:
                raise BenchError(f"no connection for it: {attacker.report.refused}")
            meters.start(watch)
            time.sleep(LEAD)
            attacker.go()
            time.sleep(max(watch.seconds - LEAD, 0))
            attacker.stop()
            during = meters.wait(watch)
            attacker.finish()
        killed = killed_of(family, scene.victim)
        wait_until_quiet(scene.opened, plan.give_up)
        after = meters.measure(watch)
    return line_of(kind, crowd, victim, (before, during, after), killed, attacker.report)


def scene_of(
    plan: Plan, kind: AnyKind, victim: Victim, targets: Ports, directory: Path
) -> contextlib.AbstractContextManager[Scene]:
    """Return what a kind is tried on.  Raises `BenchError` where that cannot be had."""
    if isinstance(kind, HostileKind):
        return on_client_scene(victim, kind, targets, directory)
    if kind.record is None:
        return on_scene(victim, kind, targets, directory, record=plan.record)
    if plan.tls is None:
        raise BenchError("TLS takes trustme, which is not installed")
    victim = attrs.evolve(victim, tls=plan.tls)
    return on_scene(victim, kind, targets, directory, record=kind.record)


def wait_until_quiet(opened: Opened, longest: float) -> None:
    """Wait until the programs have dealt with what they got, or have ended."""
    deadline = time.perf_counter() + longest
    with contextlib.suppress(OSError):
        before = sum(opened.cpu())
        while time.perf_counter() < deadline:
            time.sleep(QUIET_FOR)
            now = sum(opened.cpu())
            if now - before < QUIET_FOR * QUIET:
                return
            before = now


def killed_of(family: list[int], victim: Program) -> int:
    """Return how many of a program's processes have gone."""
    try:
        victim.check()
    except BenchError:
        return len(family)
    return len(set(family) - set(victim.family()))


def line_of(
    kind: AnyKind,
    crowd: int,
    victim: Victim,
    measured: tuple[Measured, Measured, Measured],
    killed: int,
    report: Report,
) -> Line:
    """Return what was found."""
    before, during, after = measured
    without = {name: times + after[name] for name, times in before.items()}
    for name, times in (*without.items(), *during.items()):
        if not times.seconds:
            raise BenchError(f"nothing was measured of {name}")
    login_within = LOGIN
    if isinstance(kind, Kind) and kind.needs.costly_login:
        login_within = max(LOGIN, HASHES * before["logins"].worst)
    return Line(
        kind=kind.name,
        title=kind.title,
        who=kind.who,
        crowd=crowd,
        victim=victim.name,
        without={name: Figures.of(times) for name, times in without.items()},
        during={name: Figures.of(times) for name, times in during.items()},
        killed=killed,
        connections=report.connections,
        sent=report.sent,
        cut=report.cut,
        login_within=login_within,
    )
