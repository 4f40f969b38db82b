from pushcluster_dispatcher.ingress.refused_partitions import GRACE_S, RefusedPartitions


def test_a_refusal_counts_once_it_has_lasted_however_often_it_was_tried() -> None:
    refusals = RefusedPartitions()
    for now in (100.0, 105.0, 100.0 + GRACE_S):
        refusals.refused(3, f"404 at {now:g}", now)
    assert refusals.describe(100.0 + GRACE_S) == ""
    assert refusals.describe(100.1 + GRACE_S) == "partition 3 could not be consumed for 10 s: 404 at 110"


def test_the_first_of_several_is_named_and_the_others_are_counted() -> None:
    refusals = RefusedPartitions()
    refusals.refused(7, "403", 0.0)
    refusals.refused(3, "403", 0.0)
    assert refusals.describe(GRACE_S + 1) == "partition 3 and 1 more could not be consumed for 10 s: 403"
    refusals.refused(11, "403", 0.0)
    assert refusals.describe(GRACE_S + 1) == "partition 3 and 2 more could not be consumed for 10 s: 403"
    assert (refusals.count(GRACE_S), refusals.count(GRACE_S + 1)) == (0, 3)


def test_a_partition_that_is_consumed_or_waits_for_something_else_is_not_refused_any_more() -> None:
    refusals = RefusedPartitions()
    refusals.refused(3, "404", 0.0)
    refusals.drop(3)
    assert refusals.describe(GRACE_S + 1) == ""
    refusals.refused(3, "404", GRACE_S)
    assert refusals.describe(GRACE_S + 1) == "", "it counts from anew"


def test_a_lost_connection_forgets_all_refusals() -> None:
    refusals = RefusedPartitions()
    refusals.refused(3, "404", 0.0)
    refusals.forget()
    assert refusals.describe(GRACE_S + 1) == ""
