"""Which modules are mutated, and where their unit tests are: one rule and one short table."""

import ast
import re
import tomllib
from dataclasses import dataclass
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

PURE_CONTRACT: Final = "decides purely|decisions know"
"""The rule: the contract decides, and so does what contracts of this name in pyproject.toml keep free of I/O."""

DECIDE_BESIDE_IO: Final = (
    "pushcluster_runtime.amqp.confirms",
    "pushcluster_runtime.amqp.frames",
    "pushcluster_runtime.backoff",
    "pushcluster_runtime.hops",
    "pushcluster_runtime.redis.wire",
    "pushcluster_runtime.settings",
    "pushcluster_operator.controller.held_children",
    "pushcluster_operator.controller.work_queue",
    "pushcluster_operator.kube.leader",
    "pushcluster_gateway.auth.authenticator",
    "pushcluster_gateway.auth.jwks",
    "pushcluster_gateway.auth.key_refresher",
    "pushcluster_gateway.auth.settings",
    "pushcluster_gateway.broker.queue_quota",
    "pushcluster_gateway.drain",
    "pushcluster_gateway.registry.cursor_flusher",
    "pushcluster_gateway.registry.lease_keeper",
    "pushcluster_gateway.registry.store",
    "pushcluster_gateway.session.outcomes",
    "pushcluster_gateway.session.refusals",
    "pushcluster_gateway.settings",
    "pushcluster_dispatcher.api.batch",
    "pushcluster_dispatcher.api.requests",
    "pushcluster_dispatcher.egress.copies",
    "pushcluster_dispatcher.egress.copy_budget",
    "pushcluster_dispatcher.ingress.batches",
    "pushcluster_dispatcher.ingress.counting",
    "pushcluster_dispatcher.ingress.fencing",
    "pushcluster_dispatcher.ingress.outcome_reports",
    "pushcluster_dispatcher.ingress.partition",
    "pushcluster_dispatcher.log.user_log",
    "pushcluster_dispatcher.messages",
    "pushcluster_dispatcher.settings",
)
"""Shells that decide too."""


@dataclass(frozen=True)
class Target:
    """A module to mutate."""

    name: str
    path: Path
    tests: str

    @property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def is_in(self, name: str) -> bool:
        """Return whether `name` is this module, or a package that it stands in."""
        return f"{self.name}.".startswith(f"{name}.")

    def is_own(self, test: str) -> bool:
        """Return whether a test stands in a file that is named after the module."""
        folder, _, file = test.partition("::")[0].rpartition("/")
        stem = self.name.rpartition(".")[2]
        return f"{folder}/".startswith(f"{self.tests}/") and file.startswith((f"test_{stem}.", f"test_{stem}_"))


def find_targets(root: Path = ROOT) -> list[Target]:
    """Return the modules that decide. Raises ValueError if a name of the table or of a contract fits no module."""
    modules = find_modules(root)
    names = {"pushcluster_contract", *find_pure(), *DECIDE_BESIDE_IO}
    for name in sorted(names):
        if not any(each.is_in(name) for each in modules):
            raise ValueError(f"tests/mutation/targets.py: no module is called {name} any more")
    return [each for each in modules if any(each.is_in(name) for name in names)]


def find_pure() -> set[str]:
    """Return the modules and packages that pyproject.toml keeps free of I/O."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    return {name for each in contracts if re.search(PURE_CONTRACT, each["name"]) for name in each["source_modules"]}


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
