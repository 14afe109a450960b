"""What goes wrong inside a task group comes out as itself."""

from __future__ import annotations

import asyncio

import pytest

from zppo.algorithm.tasks import task_group
from zppo.errors import TeacherError


async def _fail(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


def test_an_error_of_a_task_and_of_the_body_surface_as_themselves():
    async def in_task():
        async with task_group() as tasks:
            tasks.create_task(_fail(TeacherError("no answer")))
            await asyncio.sleep(10)

    async def in_body():
        async with task_group() as tasks:
            waiting.append(tasks.create_task(asyncio.sleep(10)))
            raise TeacherError("no answer")

    waiting: list[asyncio.Task[None]] = []
    for run in (in_task, in_body):
        with pytest.raises(TeacherError, match="no answer"):
            asyncio.run(run())
    assert waiting[0].cancelled()


def test_the_error_a_user_can_act_on_comes_first():
    async def run():
        async with task_group() as tasks:
            tasks.create_task(_fail(KeyError("a consequence")))
            tasks.create_task(_fail(ExceptionGroup("nested", [TeacherError("the cause")])))

    with pytest.raises(TeacherError, match="the cause"):
        asyncio.run(run())


def test_cancellation_from_outside_stays_a_cancellation():
    async def run():
        async def inner():
            async with task_group() as tasks:
                tasks.create_task(asyncio.sleep(10))
                await asyncio.sleep(10)

        task = asyncio.create_task(inner())
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())


def test_results_of_tasks_are_there_afterwards():
    async def run():
        async with task_group() as tasks:
            task = tasks.create_task(asyncio.sleep(0, 3))
        return task.result()

    assert asyncio.run(run()) == 3
