"""Find what only a search by the garbage collector would free."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_NO_LONGER_LISTED = {tuple, dict}
"""A search stops watching those of them that cannot be in a cycle."""


@dataclass
class Cycles:
    """What the block has left."""

    types: list[type] = field(default_factory=list)
    """Of each object in a cycle, and of all that only these refer to. Known once the block has ended."""


@contextmanager
def finding_cycles() -> Iterator[Cycles]:
    """Note all garbage that the block leaves and reference counting does not free."""
    cycles = Cycles()
    gc.collect()
    gc.disable()
    try:
        yield cycles
        before = dict(zip(map(id, objects := gc.get_objects()), map(type, objects), strict=True))
        del objects
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        cycles.types += map(type, gc.garbage)
        # A generator is ended first. If it was what closed the circle, its objects were freed then, and not saved.
        for each in (*gc.get_objects(), *gc.garbage):
            before.pop(id(each), None)
        cycles.types += (gone for gone in before.values() if gone not in _NO_LONGER_LISTED)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
