"""Prints which Python of this machine runs the benchmarks: `python -m benchmarks.interpreter`.

The images have a Python that was built with optimizations (profiles, link time). One that was not takes up to twice as
much processor time for the same code, and figures would show that instead of the product. So each Python that is
installed here runs the same loop, and the quickest one is taken.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Final

MINORS: Final = range(11, 14)
"""Of Python 3: from what the product needs to what its images have."""
BETTER: Final = 0.95
"""Another Python is taken if it needs at most this part of the time of the one that runs this."""
ROUNDS: Final = 3
WITHIN_S: Final = 30.0

LOOP: Final = """
import time
def run(rounds):
    kept, total = {}, 0
    for n in range(rounds):
        kept[n & 1023] = (n, str(n))
        total += len(kept[n & 1023][1])
    return total
run(10_000)
began = time.process_time()
run(300_000)
print(time.process_time() - began)
"""


def main() -> None:
    """Print the path of the interpreter."""
    own = getattr(sys, "_base_executable", sys.executable)
    print(choose(own, {path: seconds for path in (own, *find()) if (seconds := measure(path)) is not None}))


def find() -> Iterable[str]:
    """Return the interpreters on the path, and the system's own, which another one may hide."""
    names = [f"python3.{minor}" for minor in MINORS]
    found = [shutil.which(name, path=path) for name in names for path in (None, "/usr/bin:/usr/local/bin")]
    return dict.fromkeys(path for path in found if path is not None)


def measure(path: str) -> float | None:
    """Return the processor seconds that an interpreter needs for the loop. None if it cannot run it."""
    seconds = []
    for _ in range(ROUNDS):
        try:
            done = subprocess.run([path, "-I", "-c", LOOP], capture_output=True, timeout=WITHIN_S, check=True)
            seconds.append(float(done.stdout))
        except (OSError, subprocess.SubprocessError, ValueError):
            return None
    return min(seconds)


def choose(own: str, seconds: Mapping[str, float]) -> str:
    """Return the quickest interpreter, or `own` if no other one is clearly quicker."""
    best = min(seconds, key=lambda path: seconds[path], default=own)
    return best if own not in seconds or seconds[best] <= BETTER * seconds[own] else own


if __name__ == "__main__":
    main()
