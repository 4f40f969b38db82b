from pushcluster_dispatcher.ingress.counting import count_part
from pushcluster_dispatcher.log.entries import Appended
from pushcluster_dispatcher.metrics import Metrics


def test_a_part_is_counted_like_the_whole_it_comes_from() -> None:
    metrics = Metrics()
    new, known = Appended(b"1-1", False, 2, b"", 0), Appended(b"1-2", True, 0, b"", 0)
    count_part(metrics, [new, known, new])
    value = metrics.registry.get_sample_value
    counted = {name: value(f"pushcluster_dispatcher_{name}_total") for name in ("received", "appended", "duplicates")}
    assert counted == {"received": 3, "appended": 2, "duplicates": 1}
    assert value("pushcluster_dispatcher_dropped_undelivered_total") == 4
