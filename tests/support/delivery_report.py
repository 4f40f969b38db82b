"""What the judge of deliveries says."""

from dataclasses import dataclass, field
from typing import Final

MAX_EXAMPLES: Final = 5
"""Offending examples that a report keeps of each kind; the counts are complete."""


@dataclass(slots=True)
class Report:
    """Counts over all channels. `ok` is what the promises ask for."""

    attempted: int = 0
    confirmed: int = 0
    delivered: int = 0
    """Messages that some session got."""
    stored: int = 0
    """Confirmed, not delivered, kept for an offline user."""
    dropped: int = 0
    """Confirmed, not delivered, gone by the limits of promise 3 or with an emptied Redis."""
    lost: int = 0
    duplicated: int = 0
    """Seen again by the same device."""
    unmarked: int = 0
    """Of those, without `redelivered:true`."""
    wrongly_unmarked: int = 0
    """Of those, under a message-id that Redis knew as sent, or had to know, when SUBSCRIBE came (`History.noted`)."""
    renumbered: int = 0
    """Of those, under another message-id."""
    repeated: int = 0
    """Appended to a log again, with the one excuse: see `_may_be_repeated`."""
    repeated_unmarked: int = 0
    """Of those, without `possibly-repeated:true` where it has to stand: see `_lacks_its_mark`."""
    under_two_ids: int = 0
    """The same as `repeated`, without the excuse: one publish stands in a log under two ids."""
    stale: int = 0
    """Appended by a dispatcher behind another one that had followed it."""
    reordered: int = 0
    unexpected: int = 0
    signalled_gaps: int = 0
    unsignalled_gaps: int = 0
    needless_gaps: int = 0
    """`recovered:false` where nothing is missing: a client fetches everything again for nothing."""
    outrun: int = 0
    """Gaps of an open subscription behind a faster session of the same user (see `Fate.WINDOW`), told or to be told."""
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, reordered, unexpected, missing in silence, or told wrongly."""
        offences = self.lost, self.reordered, self.unexpected, self.unsignalled_gaps, self.needless_gaps
        return not any((*offences, self.wrongly_unmarked, self.repeated_unmarked, self.under_two_ids, self.stale))

    def note(self, kind: str, example: str) -> None:
        """Count one offence."""
        setattr(self, kind, getattr(self, kind) + 1)
        examples = self.examples.setdefault(kind, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(example)

    def describe(self) -> str:
        """Return the counts and the first examples of every offence, for people."""
        names = [name for name in self.__slots__ if name != "examples"]
        lines = [" ".join(f"{name}={getattr(self, name)}" for name in names)]
        lines += [f"{kind}: {example}" for kind, examples in self.examples.items() for example in examples]
        return "\n".join(lines)
