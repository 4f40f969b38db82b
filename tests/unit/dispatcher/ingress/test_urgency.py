import pytest

from pushcluster_dispatcher.ingress.urgency import URGENT_PART, is_urgent


@pytest.mark.parametrize(
    ("told", "put_aside", "held_part", "is_old", "urgent"),
    [
        (False, False, 0.0, False, False),
        (False, False, URGENT_PART - 0.01, False, False),
        (False, False, URGENT_PART, False, True),
        (False, False, 1.5, False, True),
        (True, False, 0.0, False, True),
        (False, True, 0.0, False, True),
        (False, False, 0.0, True, True),
    ],
)
def test_a_batch_is_urgent_when_anybody_waits_for_it(
    told: bool, put_aside: bool, held_part: float, is_old: bool, urgent: bool
) -> None:
    assert is_urgent(told=told, put_aside=put_aside, held_part=held_part, is_old=is_old) is urgent
