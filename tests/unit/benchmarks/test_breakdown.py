import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks.breakdown import LINES, parse_erlang_map, render
from benchmarks.measure import ProcessTimes
from tests.support.waiting import eventually_sync

BUSY = """
def waste():
    sum(range(2_000))

print("ready", flush=True)
while True:
    waste()
"""


def test_an_erlang_map_is_read_with_quoted_names_and_over_lines() -> None:
    text = "#{rabbit_channel => 12,\n  'Elixir.Some-thing' => 7,ra_server_proc =>\n 1}\n"

    assert parse_erlang_map(text) == {"rabbit_channel": 12, "Elixir.Some-thing": 7, "ra_server_proc": 1}


def test_each_part_stands_with_its_share_and_only_the_largest_of_what_was_counted_in_it() -> None:
    times = ProcessTimes({"rabbitmq": 3.0, "redis": 0.5, "gateway-0": 0.25, "gateway-1": 0.25})
    many = Counter({f"process_{n}": 1 for n in range(LINES)}) + Counter({"large": 2})

    lines = render(times, {"rabbitmq": many, "gateway": Counter({"flush": 3, "take": 1})}).splitlines()

    assert lines[0].startswith("rabbitmq: 75% of the processor time")
    assert lines[1] == "   20%  large"
    assert len(lines) == 1 + LINES + 3
    assert lines[LINES + 1].startswith("gateway: 12% ")
    assert lines[-2:] == ["   75%  flush", "   25%  take"]


def test_a_sampled_program_says_which_function_used_the_processor(tmp_path: Path) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    file, wasting = tmp_path / "samples.json", f"{tmp_path.name}/busy.py: waste"
    command = [sys.executable, "-m", "benchmarks.sampled", str(file), "busy"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == b"ready\n"
            program.send_signal(signal.SIGUSR1)

            def counted() -> bool:
                program.send_signal(signal.SIGUSR2)
                if wasting not in _read(file):
                    program.send_signal(signal.SIGUSR1)  # it has hardly used the processor, or not written so far
                    return False
                return True

            eventually_sync(counted, within_s=20)
        finally:
            program.kill()


def _read(file: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    return found
