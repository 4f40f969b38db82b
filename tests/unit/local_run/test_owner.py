"""Telling a run that is alive from one whose owner is gone."""

import dataclasses
import os
from pathlib import Path

from local_run.owner import Owner


def test_this_process_is_not_gone() -> None:
    assert not Owner.current().is_gone()


def test_an_owner_survives_its_text() -> None:
    assert Owner.parse(str(Owner.current())) == Owner.current()


def test_text_that_names_no_owner_is_none() -> None:
    assert Owner.parse("") is None
    assert Owner.parse("somebody") is None


def test_the_same_number_after_another_start_is_another_process() -> None:
    current = Owner.current()
    assert dataclasses.replace(current, started=current.started - 1).is_gone()


def test_a_number_that_nobody_has_is_gone() -> None:
    nobody = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    assert dataclasses.replace(Owner.current(), pid=nobody).is_gone()


def test_a_process_of_another_machine_is_never_gone() -> None:
    elsewhere = Owner("elsewhere:1", os.getpid(), 1)
    assert not elsewhere.is_gone()
