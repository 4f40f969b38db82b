"""Judges deliveries against the promises 1 to 4 of the README. Pure: logs in, a report out.

The same judge serves the simulation and the runs against real services. It trusts nothing that a gateway says about
itself: publishers log attempts and confirms, clients log what they saw, and the log's history says what was there to
be seen.
"""

from collections.abc import Iterable, Mapping, Sequence

from pushcluster_contract.ids import ZERO_ID, StreamId
from tests.support.delivery_log import Attempt, Channel, Entry, Fate, History, Seen, Subscribed
from tests.support.delivery_report import Report


def check(histories: Mapping[Channel, History]) -> Report:
    """Judge everything that happened."""
    report = Report()
    for (user, destination), history in histories.items():
        _Judge(f"{user} {destination}", history, report).judge()
    return report


class _Judge:
    """One channel."""

    def __init__(self, name: str, history: History, report: Report) -> None:
        self._name = name
        self._history = history
        self._report = report
        self._index = {attempt.body: n for n, attempt in enumerate(history.attempts)}
        self._entries: dict[str, list[Entry]] = {}
        for entry in history.log:
            self._entries.setdefault(entry.body, []).append(entry)
        self._by_id = {entry.id: entry for entry in history.log}
        self._repeats: set[StreamId] = set()
        """Entries that may repeat an earlier one."""

    def judge(self) -> None:
        self._judge_log()
        known: dict[str, set[str]] = {}
        known_ids: dict[tuple[str, str], set[StreamId]] = {}
        for number, subscription in enumerate(self._history.subscriptions):
            name = f"{self._name} subscription {number} of {subscription.device}"
            of_device = known.setdefault(subscription.device, set())
            before = set(of_device)
            self._judge_frames(name, subscription, of_device)
            of_session = known_ids.setdefault((subscription.device, subscription.session), set())
            self._judge_marks(name, subscription, known_ids.setdefault((subscription.device, ""), set()), of_session)
            self._judge_signals(name, subscription)
            self._judge_claim(name, subscription)
            self._judge_holes(name, subscription, before)
        self._judge_user()

    def _judge_log(self) -> None:
        newest, last = -1, ZERO_ID
        successor: Entry | None = None  # the first of the highest term
        appended: dict[str, list[Entry]] = {}
        for entry in self._history.log:
            if entry.body not in self._index:
                self._report.note("unexpected", f"{self._name}: {entry.id} holds {entry.body!r}: nobody published it")
                continue
            if entry.id <= last:
                self._report.note("reordered", f"{self._name}: {entry.id} was appended after {last}")
            last = entry.id
            if successor is not None and entry.term < successor.term and not self._fence_went(entry, successor):
                self._report.note("stale", f"{self._name}: {entry.id} {entry.body!r} behind what a successor appended")
            # An emptied Redis has forgotten its appenders too.
            if not entry.forgotten and (successor is None or entry.term > successor.term):
                successor = entry
            earlier = appended.setdefault(entry.body, [])
            if earlier:
                self._judge_repeat(entry, [each for each in earlier if each.fate is not Fate.VANISHED])
            elif self._index[entry.body] < newest:
                self._report.note("reordered", f"{self._name}: {entry.body!r} ({entry.id}) behind a later message")
            earlier.append(entry)
            newest = max(newest, self._index[entry.body])

    def _judge_repeat(self, entry: Entry, earlier: Sequence[Entry]) -> None:
        """Judge an entry whose message stood in the log before."""
        standing = [each for each in earlier if not each.forgotten]
        if not standing:
            return
        ids = ", ".join(str(each.id) for each in standing)
        if not self._may_be_repeated(entry, standing):
            self._report.note("under_two_ids", f"{self._name}: {entry.body!r} is in the log as {ids} and {entry.id}")
            return
        self._report.repeated += 1
        self._repeats.add(entry.id)
        if self._lacks_its_mark(entry, standing):
            text = f"{self._name}: {entry.id} does not say that it may repeat {entry.body!r}, in the log as {ids}"
            self._report.note("repeated_unmarked", text)

    def _may_be_repeated(self, entry: Entry, standing: Sequence[Entry]) -> bool:
        """Whether the message came to a dispatcher once more, and nothing told that it had been appended.

        It comes once more where the broker loses the channel of the dispatcher that holds it, or where its publisher
        sends it again. What tells is its message id, for as long as Redis remembers that.
        """
        attempt = self._history.attempts[self._index[entry.body]]
        if attempt.identified and not standing[-1].id_expired:
            return False
        return len(standing) <= _count_until(entry, [*attempt.returned_at, *attempt.published_again_at])

    def _lacks_its_mark(self, entry: Entry, standing: Sequence[Entry]) -> bool:
        """Whether an entry that may be a repetition hides it.

        A dispatcher marks what the broker has delivered before, unless it has a message id. So what is not marked was
        appended for a first delivery. Of one publish that stands in the log before anything that a later delivery of it
        appends, or nowhere: the fence is between the two. So each later entry without a mark needs a publish of its
        own, or a Redis that somebody has emptied of the fence.
        """
        attempt = self._history.attempts[self._index[entry.body]]
        if entry.marked or attempt.identified or self._fence_went(entry, standing[0]):
            return False
        unmarked = sum(not each.marked for each in standing[1:]) + 1
        return unmarked > _count_until(entry, attempt.published_again_at)

    def _fence_went(self, late: Entry, earlier: Entry) -> bool:
        """Whether Redis was emptied of the fence of the late entry, before the earlier one was appended.

        Its dispatcher has raised it, is frozen with the append under way, and somebody empties Redis. Then whoever had
        the partition before, and is fed again, appends with its lower token, and the late append is not refused.
        """
        if late.fenced_at is None or earlier.appended_at is None:
            return False
        return any(late.fenced_at <= at <= earlier.appended_at for at in self._history.emptied_at)

    def _judge_frames(self, name: str, subscription: Subscribed, known: set[str]) -> None:
        """Order, doubles and strangers among what a client saw; `known` is what its device has seen so far."""
        report = self._report
        newest_id, newest_index = ZERO_ID, -1
        if subscription.last_message_id is not None and subscription.seen and subscription.seen[0].recovered is None:
            first = subscription.seen[0].id
            report.note("unexpected", f"{name}: resumed, and {first} does not say whether everything was recovered")
        for frame in subscription.seen:
            index = self._index.get(frame.body)
            entry = self._by_id.get(frame.id)
            if index is None or (entry is not None and entry.body != frame.body):
                report.note("unexpected", f"{name}: {frame.id} {frame.body!r} is not what was published")
                continue
            if entry is None and self._history.log:
                report.note("unexpected", f"{name}: {frame.id} {frame.body!r} stands in no log")
            if frame.id <= newest_id:
                report.note("reordered", f"{name}: {frame.id} came after {newest_id}")
            newest_id = max(newest_id, frame.id)
            if frame.body in known:
                report.duplicated += 1
                report.unmarked += not frame.redelivered
                report.renumbered += len(self._entries.get(frame.body, ())) > 1
            elif index < newest_index and not self._is_excused(frame):
                report.note("reordered", f"{name}: {frame.body!r} came after a later message")
            known.add(frame.body)
            if entry is None or entry.fate is not Fate.VANISHED:
                # What Redis lost is appended anew: whoever saw some of it before gets it all again, from its beginning.
                newest_index = max(newest_index, index)

    def _is_excused(self, frame: Seen) -> bool:
        """Whether its place behind later messages has been judged with the log."""
        return frame.id in self._repeats or any(each.forgotten for each in self._entries.get(frame.body, ()))

    def _judge_marks(
        self, name: str, subscription: Subscribed, known: set[StreamId], of_session: set[StreamId]
    ) -> None:
        """What comes again says so; the sets are the ids that its device and its session have seen so far."""
        for frame in subscription.seen:
            if frame.id in known and not frame.redelivered:
                noted_at = min((at for at, sent in self._history.noted if sent >= frame.id), default=None)
                if noted_at is not None and noted_at < subscription.asked_at:
                    self._report.note("wrongly_unmarked", f"{name}: {frame.id} {frame.body!r}, noted at {noted_at:.2f}")
                elif subscription.session and frame.id in of_session and self._history.lossless:
                    self._report.note("wrongly_unmarked", f"{name}: {frame.id} {frame.body!r}, in the same session")
            known.add(frame.id)
            of_session.add(frame.id)

    def _judge_signals(self, name: str, subscription: Subscribed) -> None:
        """`recovered:false` stands only where something is missing, or where the log was lost with its numbers."""
        gone_with_its_numbers = {Fate.VANISHED, Fate.WIPED}
        log = self._history.log
        if not self._history.fates_known or any(each.forgotten or each.fate in gone_with_its_numbers for each in log):
            return
        last = subscription.has or ZERO_ID
        told = subscription.seen
        if subscription.lies:
            told = told[1:]  # whatever it is told about the id that it gave
            last = subscription.seen[0].id if subscription.seen else ZERO_ID
        elif subscription.recovered is False and not subscription.seen and not self._is_gone(last, None):
            self._report.note("needless_gaps", f"{name}: the RECEIPT, and nothing after {last} is gone")
        for frame in told:
            if frame.recovered is False and not self._is_gone(last, frame.id):
                self._report.note("needless_gaps", f"{name}: {frame.id}, and nothing is missing after {last}")
            last = frame.id

    def _judge_claim(self, name: str, subscription: Subscribed) -> None:
        """Who claims an id that was never in the log is not told that everything was recovered."""
        claim, log = subscription.last_message_id, self._history.log
        if (
            not subscription.lies
            or claim is None
            or subscription.subscribed_at is None
            or not self._history.fates_known
        ):
            return
        # An id whose entry would be gone, and everything after it is there, is as good as a true one.
        may_be_one = claim == ZERO_ID or claim in self._by_id or any(entry.id.seq == claim.seq + 1 for entry in log)
        if subscription.recovered is not False and not may_be_one:
            self._report.note("unsignalled_gaps", f"{name}: claims {claim}, which no log had, and is told nothing")

    def _is_gone(self, after: StreamId, before: StreamId | None) -> bool:
        """Whether an entry between these two has left the log."""
        return any(
            entry.id > after and (before is None or entry.id < before) and entry.fate is not Fate.KEPT
            for entry in self._history.log
        )

    def _judge_holes(self, name: str, subscription: Subscribed, before: set[str]) -> None:
        """Nothing that a subscription had to get is missing, or it was told so."""
        got = before | {frame.body for frame in subscription.seen}
        signals = [frame for frame in subscription.seen if frame.recovered is False]
        self._report.signalled_gaps += len(signals)
        if subscription.recovered is False and not (subscription.seen and subscription.seen[0].recovered is False):
            self._report.signalled_gaps += 1
        for entry in self._expected(subscription):
            attempt = self._attempt(entry)
            if attempt is None or entry.body in got or attempt.expires:
                continue
            if self._follows_a_wiped_one(entry):
                continue
            if entry.fate is Fate.KEPT:
                self._report.note("lost", f"{name}: {entry.id} {entry.body!r} is in the log and was never seen")
            elif entry.fate is Fate.VANISHED:
                continue  # it comes again under another id, or `_judge_user` finds it lost
            elif self._went_with_its_log(subscription, entry) and not _had_begun(subscription, entry.id):
                continue  # an emptied Redis looks like a log that has just begun, unless one knows better
            else:
                self._judge_gap(name, subscription, entry)

    def _judge_gap(self, name: str, subscription: Subscribed, entry: Entry) -> None:
        outrun = entry.fate is Fate.WINDOW and subscription.open
        told_later = outrun and not any(frame.id > entry.id for frame in subscription.seen)
        if not told_later and not _is_signalled(subscription, entry.id):
            self._report.note("unsignalled_gaps", f"{name}: {entry.id} {entry.body!r} ({entry.fate.name.lower()})")
        elif outrun and not self._missed_before(subscription, entry):
            self._report.outrun += 1

    def _expected(self, subscription: Subscribed) -> Iterable[Entry]:
        seen, since = subscription.seen, subscription.subscribed_at
        end = None if subscription.open else (seen[-1].id if seen else ZERO_ID)
        start = subscription.has
        if start is None and seen:
            start = seen[0].id
        for entry in self._history.log:
            if end is not None and entry.id > end:
                continue
            attempt = self._attempt(entry)
            begins_after = since is not None and attempt is not None and attempt.attempted_at > since
            if begins_after or (start is not None and entry.id > start):
                yield entry

    def _follows_a_wiped_one(self, entry: Entry) -> bool:
        """Whether its log began anew: what a session that was connected then gets of it is not promised.

        Sequence numbers begin anew as well, so they may happen to go on where the session stood.
        """
        return any(each.fate is Fate.WIPED and each.id < entry.id for each in self._history.log)

    def _went_with_its_log(self, subscription: Subscribed, entry: Entry) -> bool:
        """Whether the log began anew before the subscription got anything that follows the entry."""
        following = min((frame.id for frame in subscription.seen if frame.id > entry.id), default=None)
        return any(
            each.fate is Fate.WIPED and each.id >= entry.id and (following is None or each.id < following)
            for each in self._history.log
        )

    def _missed_before(self, subscription: Subscribed, entry: Entry) -> bool:
        attempt = self._attempt(entry)
        since = subscription.subscribed_at
        return attempt is None or since is None or attempt.attempted_at <= since

    def _judge_user(self) -> None:
        """Every confirmed message reached some session of the user, or waits for one."""
        report, history = self._report, self._history
        online = any(subscription.open for subscription in history.subscriptions)
        delivered = self._delivered()
        for attempt in history.attempts:
            report.attempted += 1
            report.confirmed += attempt.confirmed
            entries = self._entries.get(attempt.body, [])
            if attempt.body in delivered:
                report.delivered += 1
            elif attempt.expires or attempt.body in history.rejected or not attempt.confirmed:
                continue
            elif entries and (entries[-1].fate in {Fate.LIMITS, Fate.WIPED} or self._follows_a_wiped_one(entries[-1])):
                report.dropped += 1
            elif entries and entries[-1].fate is Fate.KEPT and not online:
                report.stored += 1
            else:
                where = f"{entries[-1].id} {entries[-1].fate.name.lower()}" if entries else "in no log"
                report.note("lost", f"{self._name}: {attempt.body!r} was confirmed and reached nobody ({where})")

    def _delivered(self) -> set[str]:
        """Bodies that a session got: with ack modes `client*` it has acknowledged them, or asked for what follows."""
        delivered: set[str] = set()
        told: dict[str, StreamId] = {}
        for subscription in self._history.subscriptions:
            if subscription.has is not None:
                told[subscription.device] = max(told.get(subscription.device, ZERO_ID), subscription.has)
        for subscription in self._history.subscriptions:
            has = told.get(subscription.device, ZERO_ID)
            for frame in subscription.seen:
                settled = subscription.open or frame.id in subscription.handled or frame.id <= has
                if settled or not subscription.acknowledges:
                    delivered.add(frame.body)
            if not subscription.acknowledges:
                delivered.update(self._by_id[id_].body for id_ in subscription.unread if id_ in self._by_id)
        return delivered

    def _attempt(self, entry: Entry) -> Attempt | None:
        index = self._index.get(entry.body)
        return None if index is None else self._history.attempts[index]


def _count_until(entry: Entry, times: Sequence[float]) -> int:
    """Return how many of these times had come when the entry was appended; all, if nobody knows when that was."""
    return sum(entry.appended_at is None or at <= entry.appended_at for at in times)


def _had_begun(subscription: Subscribed, missing: StreamId) -> bool:
    """Whether the subscription had a place in the log when the entry was appended."""
    return subscription.has is not None or any(frame.id < missing for frame in subscription.seen)


def _is_signalled(subscription: Subscribed, missing: StreamId) -> bool:
    """Whether `recovered:false` stands between what was seen before and after the missing entry."""
    previous: Sequence[Seen] = [frame for frame in subscription.seen if frame.id < missing]
    following = subscription.seen[len(previous) :]
    if not previous and subscription.recovered is False:
        return True
    return bool(following) and following[0].recovered is False
