"""Whether a batch can wait for its barrier, and so for its acknowledgement. Pure: no I/O, no clock.

Clients never wait for either: their copies leave before. A batch that waits shares its barrier and its acknowledgement
with what comes meanwhile (`log/barrier.py`). A batch is urgent in these cases:

- A producer hears only behind the barrier that a message is stored.
- A rejected message is in `push.rejected` already. It would come there once more if this dispatcher died now.
- RabbitMQ delivers no more than the prefetch. What is held must not use it up, or waiting would slow producers down.
- What is old is given back before long (`time_limit.py`).

A session that ends waits too. It asks for its last barrier itself.
"""

from typing import Final

URGENT_PART: Final = 0.25
"""The part of its prefetch, in messages or in bytes, that a session may hold while nothing is urgent.

The rest is for what comes while the barrier is under way.
"""


def is_urgent(*, told: bool, put_aside: bool, held_part: float, is_old: bool) -> bool:
    """Return whether a batch that was just appended needs its barrier at once.

    `told` says that a producer will be told of one of its messages, and `put_aside` that one was rejected. `held_part`
    is the part of its prefetch that the session holds unacknowledged, and `is_old` says that something of it is old.
    """
    return told or put_aside or is_old or held_part >= URGENT_PART
