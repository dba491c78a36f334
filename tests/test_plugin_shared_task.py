"""Several callers that wait for one task."""

import asyncio

import pytest

from corepy.plugin.shared_task import shared_result


def test_the_end_of_a_caller_is_not_that_of_the_others():
    async def main():
        shared = asyncio.get_running_loop().create_future()
        one, other = (asyncio.create_task(shared_result(shared)) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
        assert one.cancelled()
        shared.set_result("found")
        return await other

    assert asyncio.run(main()) == "found"


def test_a_caller_that_is_cancelled_together_with_the_result_ends():
    async def main():
        shared = asyncio.get_running_loop().create_future()
        caller = asyncio.create_task(shared_result(shared))
        await asyncio.sleep(0)
        shared.set_result("found")
        await asyncio.sleep(0)
        caller.cancel()  # before it can take the result
        await asyncio.wait([caller])
        return caller.cancelled()

    assert asyncio.run(main())


def test_a_failure_after_the_end_of_a_caller_is_not_an_error_of_the_event_loop():
    """A validation that was cut off made the server log the failure of its queries for keys."""

    async def main():
        loop = asyncio.get_running_loop()
        reported = []
        loop.set_exception_handler(lambda _, context: reported.append(context))
        shared = loop.create_future()
        one, other = (asyncio.create_task(shared_result(shared)) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
        shared.set_exception(OSError("refused"))
        with pytest.raises(OSError, match="refused"):
            await other
        return reported

    assert asyncio.run(main()) == []


def test_the_end_of_the_task_is_that_of_its_callers():
    async def main():
        shared = asyncio.get_running_loop().create_future()
        caller = asyncio.create_task(shared_result(shared))
        await asyncio.sleep(0)
        shared.cancel()
        await asyncio.wait([caller])
        return caller.cancelled()

    assert asyncio.run(main())
