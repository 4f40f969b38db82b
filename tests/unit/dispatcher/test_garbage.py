"""What is done with a batch is freed at once, by reference counting (`pushcluster_runtime/garbage.py`)."""

from tests.support.garbage import finding_cycles
from tests.support.waiting import eventually, settle
from tests.unit.dispatcher.ingress.partition_bench import Bench, running


async def dispatch(bench: Bench, *bodies: bytes, destination: str = "/queue/demo") -> None:
    """Take messages all the way to their acknowledgement, and forget what the played services know of them."""
    bench.deliver(*bodies, headers={"destination": destination})
    await eventually(lambda: bench.barriers)
    await settle()
    bench.confirm_all()
    bench.barriers[-1].set_result(None)
    await eventually(lambda: bench.channel.acks[-1:] == [bench.delivered])
    for known in (bench.barriers, bench.copies.open, bench.copies.sent, bench.log.batches, bench.log.attempts):
        known.clear()
    bench.rejects.put_aside.clear()
    await settle()


async def test_an_acknowledged_batch_leaves_no_cycle() -> None:
    async with running() as bench:
        await dispatch(bench, b"first")  # what is made once for all stays
        with finding_cycles() as cycles:
            await dispatch(bench, b"1")
            await dispatch(bench, b"2", b"3")
            await dispatch(bench, b"rejected", destination="nowhere")
        assert [each.__name__ for each in cycles.types] == []
