"""When Python looks for reference cycles. The message path makes none, so it should not wait for a search.

Reference counting frees what is no longer used at once; the collector is there for cycles. A full collection visits
every object that can hold others, while nothing else runs: with 10,000 sessions these are 240,000, and take 0.1 s.
Python starts one whenever a quarter of them is new, which waves of clients and of messages bring about again and again.

So what the program has loaded by its start is never visited again, and full collections are rare. Young objects are
still searched, at less than a millisecond a time. Tests show that what ends leaves no cycles behind
(`tests/unit/gateway/test_garbage.py`, `tests/unit/dispatcher/test_garbage.py`).
"""

import gc
from typing import Final

YOUNG_OBJECTS: Final = 20_000
"""After so many more new objects than freed ones, these are searched, in about a millisecond.

What is under way comes and goes, and should not be searched: 2,000 messages of some ten objects each. Python's own
bound is 700, which every batch passes. What a search meets by chance then counts as old, and brings on a full one.
"""
YOUNG_SEARCHES: Final = 5
"""After so many such searches, what has survived them is searched once more: at most 100,000 objects, as of 6,000 new
sessions."""
MIDDLE_SEARCHES: Final = 20
"""After so many of these, all objects are searched if a quarter of them is new.

The program has grown by two million objects then. If all of them were in cycles, they would hold some 200 MB.
"""


def freeze_start() -> None:
    """Collect once, never visit again what there is now, and set the bounds above. Call it before the work begins."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_SEARCHES, MIDDLE_SEARCHES)
