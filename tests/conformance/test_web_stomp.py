"""RabbitMQ's web_stomp as an oracle: the same frames to it and to a gateway; docs/stomp.md lists every difference."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import pytest

from tests.conformance import report
from tests.conformance.cases import CASES
from tests.conformance.dialogue import Case, Dialogue, Server
from tests.support.gateways import Backend, RunningGateway, token
from tests.support.web_stomp import WebStomp, publishing, running_web_stomp

DOCUMENT = Path(__file__).parents[2] / "docs" / "stomp.md"
TABLE_HEAD = "| said | here | web_stomp | why |"
AT_ONCE = 8
"""Cases under way at the same time, with one server."""
ANSWER_WITHIN_S = (3.0, 3.0, 6.0, 12.0)
"""Of each attempt: those that differ are tried again with more time, in case the machine was busy.

A broker also sends again by itself what was refused, at times only after it has answered the next frame.
"""


ENDS_BY_THE_LETTER = re.compile(r"((?!ERROR|closed).)*(ERROR( for '[^']*')?; closed|open)|.*RECEIPT 'd'; closed")
"""Here an ERROR is the last word, names the RECEIPT that will not come if the frame could be read, and then comes the
end; and there is no other end but that of DISCONNECT. web_stomp closes after some ERRORs, and without a word after some
frames."""


def essence(case: Case, answer: str) -> str:
    """Return an answer without what differs as a rule: how a session ends that is refused, and offered heart-beats."""
    goodbye = answer.endswith("RECEIPT 'd'; closed")
    answer = re.sub(r"(ERROR.*|closed)$", "closed" if goodbye else "refused", answer)
    return answer if "heart-beat" in case.name else re.sub(r" heart-beat:\d+,\d+", "", answer)


def from_first_difference(here: str, there: str) -> tuple[str, str]:
    """Return both without the answers that they have in common before the first that differs."""
    ours, theirs = here.split("; "), there.split("; ")
    same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(ours, theirs, strict=False))))
    return "; ".join(ours[same:]), "; ".join(theirs[same:])


@pytest.fixture(scope="session")
def web_stomp() -> Iterator[WebStomp]:
    with running_web_stomp() as running:
        yield running


async def answers_of(
    server: Server, cases: Sequence[Case], first_number: int, answer_within_s: float
) -> dict[str, str]:
    limit = asyncio.Semaphore(AT_ONCE)

    async def hold(number: int, case: Case) -> str:
        async with limit:
            return await Dialogue(server, number, case, answer_within_s=answer_within_s).hold()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hold(number, case)) for number, case in enumerate(cases, first_number)]
    return {case.name: task.result() for case, task in zip(cases, tasks, strict=True)}


async def differences_between(
    here: Server, there: Server, cases: Sequence[Case], first_number: int, answer_within_s: float
) -> dict[str, tuple[str, str]]:
    """Return case → what both answer from the first difference on, for those cases that differ."""
    async with asyncio.TaskGroup() as group:
        said_here, said_there = (
            group.create_task(answers_of(each, cases, first_number, answer_within_s)) for each in (here, there)
        )
    ours, theirs = said_here.result(), said_there.result()
    for case in cases:
        assert ENDS_BY_THE_LETTER.fullmatch(ours[case.name]), f"{case.name}: {ours[case.name]}"
    pairs = {case.name: (essence(case, ours[case.name]), essence(case, theirs[case.name])) for case in cases}
    return {name: from_first_difference(*pair) for name, pair in pairs.items() if pair[0] != pair[1]}


def listed_differences() -> dict[str, tuple[str, str]]:
    """Return case → (answer here, answer of web_stomp) of the document's table."""
    lines = DOCUMENT.read_text().splitlines()
    first = lines.index(TABLE_HEAD) + 2
    rows: dict[str, tuple[str, str]] = {}
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        case, here, there, why = (cell.strip().replace("`", "") for cell in line.strip("|").split("|"))
        assert why, f"no reason is given for: {case}"
        rows[case] = (here, there)
    return rows


def test_every_case_has_its_own_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


async def test_every_difference_from_web_stomp_is_listed_with_its_reason(
    gateway: RunningGateway, back: Backend, web_stomp: WebStomp
) -> None:
    async with publishing(web_stomp.amqp_url) as publisher:
        here = Server(
            gateway.url,
            credentials=lambda number: f"Authorization:Bearer {token(f'user{number}')}\n",
            destination=lambda _: "/user/queue/demo",
            push=lambda number, body: back.push(f"user{number}", body),
        )
        there = Server(
            web_stomp.url,
            credentials=lambda _: web_stomp.credentials,
            destination=lambda number: f"/queue/case{number}",
            push=lambda number, body: publisher.publish(f"case{number}", body),
        )
        listed, suspects = listed_differences(), list(CASES)
        found: dict[str, tuple[str, str]] = {}
        for attempt, answer_within_s in enumerate(ANSWER_WITHIN_S):
            found = await differences_between(here, there, suspects, attempt * len(CASES), answer_within_s)
            suspects = [case for case in suspects if found.get(case.name) != listed.get(case.name)]
            if not suspects:
                break
    report.note(f"web_stomp: {len(CASES)} cases, {len(CASES) - len(listed)} with the same answers")
    unlisted = {case.name: found.get(case.name) for case in suspects}
    assert not unlisted, "these differ from docs/stomp.md (None: there is no difference any more)"
    assert listed.keys() <= {case.name for case in CASES}, "docs/stomp.md lists cases that nobody asks"
