"""Where the processor time between publisher and client goes: by function, Erlang process and Redis command."""

import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from benchmarks.measure import ProcessTimes
from benchmarks.plane import Plane, Program, Services
from pushcluster_runtime.redis.client import connect

LINES: Final = 8
"""How many lines each part gets."""
DUMPED_WITHIN_S: Final = 10.0
POLL_S: Final = 0.05
MEANING: Final = {
    "rabbitmq": "reductions of its Erlang processes",
    "redis": "time in commands (a command that a script calls counts twice: in the script, and by itself)",
    "dispatcher": "samples of the function that runs",
    "gateway": "samples of the function that runs",
}
_REDUCTIONS: Final = """
lists:foldl(fun(Pid, Sums) ->
  case process_info(Pid, [reductions, dictionary, initial_call]) of
    [{reductions, Count}, {dictionary, Dictionary}, {initial_call, Bare}] ->
      {Module, _, _} = proplists:get_value('$initial_call', Dictionary, Bare),
      maps:update_with(Module, fun(Sum) -> Sum + Count end, Count, Sums);
    _ -> Sums
  end end, #{}, processes()).
"""
"""How much each kind of Erlang process has worked so far. A reduction is about one function call."""


async def break_down(plane: Plane, load: Callable[[], Awaitable[None]]) -> str:
    """Run the load and return the top lines of every part. The plane's programs must be sampled (`sampled.py`)."""
    services, programs = plane.services, (*plane.dispatchers, *plane.gateways)
    broker, redis = await read_reductions(services), await read_command_times(services)
    for program in programs:
        start_dump(program)
    before = plane.times()
    await load()
    times = plane.times().since(before)
    functions: dict[str, Counter[str]] = {"dispatcher": Counter(), "gateway": Counter()}
    for program in programs:
        functions[program.name.partition("-")[0]].update(Counter(await read_dump(program)))
    redis = await read_command_times(services) - redis
    broker = await read_reductions(services) - broker
    return render(times, {"rabbitmq": broker, "redis": redis, **functions})


def render(times: ProcessTimes, counts: Mapping[str, Counter[str]]) -> str:
    """Return each part with its share of all processor time. Below each part stand the shares of what ran in it."""
    lines = []
    for part, counted in counts.items():
        lines.append(f"{part}: {times.matching(part) / times.total():.0%} of the processor time, by {MEANING[part]}")
        lines += build_lines(counted)
    return "\n".join(lines)


def build_lines(counted: Counter[str]) -> list[str]:
    """Return the names that were counted most, each with its share."""
    total = counted.total()
    return [f"  {count / total:4.0%}  {name}" for name, count in counted.most_common(LINES)]


async def read_reductions(services: Services) -> Counter[str]:
    """Return a mapping: module of an Erlang process → reductions since it started."""
    return parse_erlang_map(await asyncio.to_thread(services.rabbitmq.exec, "rabbitmqctl", "eval", _REDUCTIONS))


def parse_erlang_map(text: str) -> Counter[str]:
    """Return the contents of an Erlang map such as `#{name => 12, 'other-name' => 3}`."""
    return Counter({name: int(count) for name, count in re.findall(r"'?([\w.$@-]+)'?\s*=>\s*(\d+)", text)})


async def read_command_times(services: Services) -> Counter[str]:
    """Return a mapping: command → µs that Redis has spent in it since it started."""
    async with connect(services.redis_url, name="benchmark") as client:
        stats = await client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): int(values["usec"]) for name, values in stats.items()})


def start_dump(program: Program) -> None:
    """Let a program record what its launcher records: `sampled.py`, `arrivals.py`."""
    program.process.send_signal(signal.SIGUSR1)


async def read_dump(program: Program) -> Any:
    """Let a program stop to record, and return what it has recorded. Raises TimeoutError if it writes nothing."""
    program.samples.unlink(missing_ok=True)
    program.process.send_signal(signal.SIGUSR2)
    async with asyncio.timeout(DUMPED_WITHIN_S):
        while not program.samples.exists():
            await asyncio.sleep(POLL_S)
    return json.loads(program.samples.read_text())
