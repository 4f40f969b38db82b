"""How long a gateway's own lease is held, and when it has to be asked for anew."""

import pytest

from pushcluster_contract.limits import LEASE_MS
from pushcluster_gateway.registry.lease import OwnLease, ResyncCause


class TestLease:
    def test_it_is_held_for_its_time_after_the_renewal_was_sent(self) -> None:
        assert not OwnLease().held(5)
        lease, cause = OwnLease().renewed(existed=False, run_id="a", sent_s=5)
        assert cause is None, "the first one is made, not missing"
        assert lease.held(5 + LEASE_MS / 1_000 - 0.001)
        assert not lease.held(5 + LEASE_MS / 1_000)

    @pytest.mark.parametrize(
        ("existed", "run_id", "cause"),
        [
            (True, "a", None),
            (False, "a", ResyncCause.LEASE_LOST),
            (True, "b", ResyncCause.REDIS_RESTARTED),
            (False, "b", ResyncCause.LEASE_LOST),
        ],
    )
    def test_a_missing_lease_or_another_redis_asks_for_a_resync(
        self, existed: bool, run_id: str, cause: ResyncCause | None
    ) -> None:
        lease, _ = OwnLease().renewed(existed=False, run_id="a", sent_s=5)
        renewed, why = lease.renewed(existed=existed, run_id=run_id, sent_s=7)
        assert why is cause
        assert renewed == OwnLease(7, run_id, redis_answering_since_s=7 if why else 5)

    def test_redis_has_been_answering_since_no_lease_could_run_out(self) -> None:
        lease = OwnLease()
        assert lease.redis_answering_for_s(100) == 0
        for sent_s in (10, 16, 22):
            lease = lease.failed().renewed(existed=True, run_id="a", sent_s=sent_s)[0]
        assert lease.redis_answering_for_s(25) == 15
        assert lease.redis_answering_for_s(30) == 0, "it may have stopped answering everybody"

    @pytest.mark.parametrize(
        ("sent_s", "existed", "run_id"),
        [(22 + LEASE_MS / 1_000, True, "a"), (24, False, "a"), (24, True, "b")],
        ids=["it had run out", "it was missing", "another Redis"],
    )
    def test_a_redis_that_lost_leases_begins_to_answer_anew(self, sent_s: float, existed: bool, run_id: str) -> None:
        lease = OwnLease(renewed_s=22, run_id="a", redis_answering_since_s=5)
        lease, _ = lease.renewed(existed=existed, run_id=run_id, sent_s=sent_s)
        assert lease.redis_answering_for_s(sent_s + 1) == 1

    def test_after_a_renewal_without_an_answer_the_next_one_asks_for_a_resync(self) -> None:
        lease, _ = OwnLease().renewed(existed=False, run_id="a", sent_s=5)
        lease, why = lease.failed().renewed(existed=True, run_id="a", sent_s=9)
        assert why is ResyncCause.LEASE_UNCERTAIN
        assert lease.renewed(existed=True, run_id="a", sent_s=11)[1] is None

    def test_before_there_ever_was_a_lease_a_failure_means_nothing(self) -> None:
        assert OwnLease().failed().renewed(existed=False, run_id="a", sent_s=5)[1] is None

    def test_it_has_lapsed_when_renewals_got_no_answer_until_it_was_over(self) -> None:
        never, held = OwnLease().failed(), OwnLease(renewed_s=5)
        assert not never.lapsed(1_000), "there was none"
        assert not held.lapsed(1_000), "the process was frozen: Redis may be there"
        assert not held.failed().lapsed(5 + LEASE_MS / 1_000 - 0.001)
        assert held.failed().lapsed(5 + LEASE_MS / 1_000)
