"""Which modules are mutated, and where their unit tests are: one rule and one short table."""

import ast
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

PROGRAMS: Final = {
    "contract/pushcluster_contract": "tests/unit/contract",
    "runtime/pushcluster_runtime": "tests/unit/runtime",
    "operator/pushcluster_operator": "tests/unit/operator",
    "gateway_image/pushcluster_gateway": "tests/unit/gateway",
    "dispatcher_image/pushcluster_dispatcher": "tests/unit/dispatcher",
}
"""Each package, and the folder of its unit tests."""

CLIENT_LIBRARIES: Final = frozenset(
    {
        "aiohttp", "hiredis", "kopf", "kubernetes", "pika", "prometheus_client", "redis", "signal", "ssl", "uvloop",
        "websockets",
    }
)  # fmt: skip
"""The rule: a module that imports none of them decides. One that imports one is a shell."""

DECIDE_ALL_THE_SAME: Final = (
    "pushcluster_runtime.redis.wire",
    "pushcluster_runtime.amqp.frames",
    "pushcluster_gateway.registry.*",
    "pushcluster_dispatcher.egress.copies",
    "pushcluster_dispatcher.log.user_log",
    "pushcluster_dispatcher.messages",
    "pushcluster_dispatcher.api.*",
)
"""They import a client library for its types, or decide beside what they send."""

DECIDE_NOTHING: Final = (
    "*.__main__",
    "pushcluster_*.main",
    "pushcluster_*.interfaces",
    "pushcluster_runtime.logging",
    "pushcluster_dispatcher.api.openapi",
)
"""They wire, describe or start."""


@dataclass(frozen=True)
class Target:
    """A module to mutate."""

    name: str
    path: Path
    tests: str

    @property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def is_own(self, test: str) -> bool:
        """Return whether a test stands in a file that is named after the module."""
        folder, _, file = test.partition("::")[0].rpartition("/")
        stem = self.name.rpartition(".")[2]
        return f"{folder}/".startswith(f"{self.tests}/") and file.startswith((f"test_{stem}.", f"test_{stem}_"))


def find_targets(root: Path = ROOT) -> list[Target]:
    """Return the modules that decide. Raises ValueError if a pattern of the table fits no module any more."""
    modules = find_modules(root)
    for pattern in (*DECIDE_ALL_THE_SAME, *DECIDE_NOTHING):
        if not any(fnmatchcase(each.name, pattern) for each in modules):
            raise ValueError(f"tests/mutation/targets.py: no module is called {pattern} any more")
    return [each for each in modules if _decides(each)]


def find_modules(root: Path = ROOT) -> list[Target]:
    """Return all modules of all programs, those that decide and the others."""
    return [
        Target(
            ".".join(path.relative_to((root / package).parent).with_suffix("").parts).removesuffix(".__init__"),
            path,
            tests,
        )
        for package, tests in PROGRAMS.items()
        for path in sorted((root / package).rglob("*.py"))
    ]


def _decides(target: Target) -> bool:
    def fits(patterns: tuple[str, ...]) -> bool:
        return any(fnmatchcase(target.name, each) for each in patterns)

    if fits(DECIDE_NOTHING):
        return False
    return fits(DECIDE_ALL_THE_SAME) or not imported(target.source) & CLIENT_LIBRARIES


def imported(source: str) -> set[str]:
    """Return what a module imports when it runs: libraries by their first name, modules also in full."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names | {name.partition(".")[0] for name in names}
