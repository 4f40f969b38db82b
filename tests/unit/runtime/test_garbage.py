"""The programs set when Python looks for cycles, once all their modules are loaded."""

import gc
import runpy
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from pushcluster_contract import env
from pushcluster_runtime import process
from pushcluster_runtime.garbage import MIDDLE_SEARCHES, YOUNG_OBJECTS, YOUNG_SEARCHES, freeze_start

VARIABLES = {
    env.CLUSTER: "ns.demo",
    env.POD_NAME: "demo-0",
    env.POD_UID: "uid",
    env.AMQP_URL: "amqp://u:p@h/v",
    env.REDIS_URL: "redis://:p@h",
    env.API_KEY: "api-secret",
}


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.parametrize("program", ["pushcluster_gateway", "pushcluster_dispatcher"])
def test_a_program_begins_its_work_with_all_it_has_loaded_frozen(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[tuple[int, int, int], bool]] = []

    def run(main: Coroutine[Any, Any, None]) -> None:
        loaded = gc.get_freeze_count() > 10_000
        seen.append((gc.get_threshold(), loaded))
        main.close()

    monkeypatch.setattr(uvloop, "run", run)
    monkeypatch.setattr(sys, "argv", [program])
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(program, run_name="__main__")
    assert ended.value.code == process.EXIT_OK
    assert seen == [((YOUNG_OBJECTS, YOUNG_SEARCHES, MIDDLE_SEARCHES), True)]


def test_what_is_frozen_is_in_no_generation_any_more() -> None:
    kept = [[number] for number in range(1_000)]
    freeze_start()
    known = {id(each) for each in gc.get_objects()}
    assert not known.intersection(map(id, kept))


def test_young_cycles_are_still_found() -> None:
    freeze_start()

    class Node:
        alive = 0

        def __init__(self) -> None:
            Node.alive += 1
            self.me = self

        def __del__(self) -> None:
            Node.alive -= 1

    for _ in range(3 * YOUNG_OBJECTS):
        Node()
    assert Node.alive <= YOUNG_OBJECTS
