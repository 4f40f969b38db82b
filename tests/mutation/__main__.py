"""`make test-mutation`: change the deciding modules in one point at a time, and see which change no test notices."""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Final

from tests.mutation import harmless
from tests.mutation.mutants import Mutant, find_mutants
from tests.mutation.report import REQUIRED_PERCENT, Fate, Verdict, build_table, compute_score
from tests.mutation.runner import Trial, check_the_unchanged, record, try_all
from tests.mutation.targets import ROOT, find_targets

SAMPLE: Final = 300
SURVIVORS: Final = ROOT / "build" / "mutation" / "survivors.toml"
PROGRESS_EVERY: Final = 25


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make test-mutation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="which mutants the sample has")
    parser.add_argument("--sample", type=int, default=SAMPLE, help="how many mutants the sample has")
    parser.add_argument("--all", action="store_true", help="every mutant; takes hours")
    parser.add_argument("--module", action="append", default=[], help="only these, all of them: pushcluster_gateway.a*")
    parser.add_argument("--deep", action="store_true", help="ask the simulation too about what unit tests let live")
    parser.add_argument("--verbose", action="store_true", help="say of each mutant which test killed it")
    parser.add_argument("--jobs", type=int, default=2, help="how many mutants run at a time")
    return parser.parse_args(arguments)


def choose(mutants: Sequence[Mutant], patterns: Sequence[str], seed: int, sample: int | None) -> list[Mutant]:
    """Return all mutants of the modules that a pattern names, or without patterns a sample of all."""
    if patterns:
        return [each for each in mutants if any(fnmatchcase(each.module, pattern) for pattern in patterns)]
    if sample is None or sample >= len(mutants):
        return list(mutants)
    return random.Random(seed).sample(list(mutants), sample)


def main(arguments: Sequence[str]) -> int:
    """Return 0 if enough mutants died, 1 if too many survived, 2 if the run itself is not valid."""
    options = _parse(arguments)
    targets = {each.name: each for each in find_targets()}
    mutants = [mutant for each in targets.values() for mutant in find_mutants(each.name, each.source)]
    reasons = harmless.parse_harmless(harmless.FILE.read_text(encoding="utf-8"))
    if stale := harmless.find_stale(reasons, mutants):
        print("\n".join(f"harmless.toml: no such mutant any more: {harmless.describe(each)}" for each in stale))
        return 2
    chosen = choose(mutants, options.module, options.seed, None if options.all else options.sample)
    if not chosen:
        print(f"no module that is mutated fits {', '.join(options.module)}")
        return 2
    print(f"{len(chosen)} of {len(mutants)} mutants in {len(targets)} modules", flush=True)
    trial = Trial(targets, record(options.jobs, print), options.deep)
    if failed := check_the_unchanged(trial, chosen):
        print("\n".join(f"fails although nothing was changed: {each}" for each in failed))
        return 2
    verdicts = [Verdict(each, Fate.HARMLESS, reasons[each.key]) for each in chosen if each.key in reasons]
    for verdict in _follow(trial, [each for each in chosen if each.key not in reasons], options.jobs):
        verdicts.append(verdict)
        if options.verbose or verdict.fate is not Fate.KILLED:
            by = f" by {verdict.by}" if verdict.by else ""
            mutant = verdict.mutant
            print(f"{verdict.fate.value}{by}: {mutant.kind}: {harmless.describe(mutant.key)}", flush=True)
    return _conclude(verdicts)


def _follow(trial: Trial, mutants: Sequence[Mutant], jobs: int) -> Iterator[Verdict]:
    began = time.monotonic()
    for count, verdict in enumerate(try_all(trial, mutants, jobs), start=1):
        yield verdict
        if count % PROGRESS_EVERY == 0:
            print(f"… {count} of {len(mutants)} after {time.monotonic() - began:.0f} s", flush=True)


def _conclude(verdicts: Sequence[Verdict]) -> int:
    alive = sorted(
        (each for each in verdicts if each.fate in {Fate.SURVIVED, Fate.UNSEEN}), key=lambda each: each.mutant.key
    )
    SURVIVORS.parent.mkdir(parents=True, exist_ok=True)
    entries = [harmless.build_entry(each.mutant, f"{each.mutant.kind}, {each.fate.value}") for each in alive]
    SURVIVORS.write_text("\n".join(entries), encoding="utf-8")
    score = compute_score(verdicts)
    print(f"\n{build_table(verdicts)}\n")
    print(f"score: {score:.1f} % of those that are not harmless were killed; {REQUIRED_PERCENT:.0f} % are required")
    if alive:
        print(f"the {len(alive)} survivors are in {SURVIVORS.relative_to(ROOT)}")
    return 0 if score >= REQUIRED_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
