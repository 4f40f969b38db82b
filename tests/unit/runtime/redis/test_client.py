import asyncio

import pytest
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from pushcluster_contract.errors import InvalidInput, Unavailable
from pushcluster_runtime.redis.client import connect, translate, translated


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("refused"),
        RedisTimeoutError("slow"),
        BusyLoadingError("loading"),
        ReadOnlyError("replica"),
        OutOfMemoryError("full"),
        MasterDownError("down"),
        ClusterDownError("down"),
        NoPermissionError("no"),
        ResponseError("OOM command not allowed when used memory > 'maxmemory'."),
        ResponseError("LOADING Redis is loading the dataset in memory"),
        ResponseError("MISCONF Errors writing to the AOF file"),
        ResponseError("MOVED 1 127.0.0.1:6379"),
    ],
    ids=lambda error: f"{type(error).__name__}-{str(error).split()[0]}",
)
def test_errors_that_pass_with_time_become_unavailable(error: RedisError) -> None:
    assert isinstance(translate(error), Unavailable)


@pytest.mark.parametrize(
    "error",
    [ResponseError("ERR wrong"), ResponseError("TOOMANYSESSIONS 64"), NoScriptError("NOSCRIPT"), ResponseError("OOPS")],
    ids=str,
)
def test_errors_of_the_caller_stay_as_they_are(error: RedisError) -> None:
    assert translate(error) is error


async def test_an_error_is_translated_where_it_is_raised_and_keeps_its_cause() -> None:
    with pytest.raises(Unavailable, match="Redis: refused") as raised, translated():
        raise RedisConnectionError("refused")
    assert isinstance(raised.value.__cause__, RedisConnectionError)


@pytest.mark.parametrize("error", [None, RedisConnectionError("refused")], ids=["answered", "failed"])
async def test_a_cancellation_that_a_call_swallows_ends_its_task_all_the_same(error: RedisError | None) -> None:
    began = asyncio.Event()

    async def swallow() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if error is not None:
                raise error from None

    async def call_for_ever() -> None:
        while True:
            with translated():
                await swallow()

    task = asyncio.create_task(call_for_ever())
    await began.wait()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()


def test_another_kind_of_url_is_refused_without_quoting_its_password() -> None:
    with pytest.raises(InvalidInput) as raised:
        connect("http://:secret@host", name="x")
    assert "secret" not in str(raised.value)
