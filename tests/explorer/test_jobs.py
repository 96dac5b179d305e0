"""The works of several tabs: in turn, one at a time; the newest of a tab counts; mistakes are one line."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
import torch

from howdeep.explorer.jobs import Advance, Jobs, Line, Work
from howdeep.runtime.timing import threads_of
from howdeep.util.errors import UserError


def pieces(count: int, done: list, name: str) -> Work:
    """A work of so many pieces, each of which says that it was done."""

    def work(advance: Advance) -> Line:
        for piece in range(count):
            done.append(name)
            time.sleep(0.002)
            advance(piece + 1, count)
        return {"result": name}

    return work


async def lines_of(jobs: Jobs, tab: str, work: Work) -> list[Line]:
    return [line async for line in jobs.run(tab, work)]


def test_progress_comes_first_with_the_time_that_is_left_and_the_result_last() -> None:
    started = time.monotonic()
    *progress, last = asyncio.run(lines_of(Jobs(), "a", pieces(4, [], "x")))
    seconds = time.monotonic() - started
    assert last == {"result": "x"}
    assert [(line["progress"], line["step"], line["of"]) for line in progress] == [
        (0.25, 1, 4), (0.5, 2, 4), (0.75, 3, 4), (1.0, 4, 4)
    ]  # fmt: skip
    *before, end = [line["seconds_left"] for line in progress]
    assert end == 0
    assert all(0.002 * (3 - at) <= left <= seconds * (3 - at) / (at + 1) for at, left in enumerate(before))


def test_works_compute_with_the_threads_that_were_chosen_whatever_thread_they_are_in() -> None:
    def work(advance: Advance) -> Line:
        advance(1, 2)
        return {"threads": torch.get_num_threads(), "sum": float(torch.ones(100).sum())}

    async def several() -> list:
        jobs = Jobs(threads=2)
        return await asyncio.gather(*(lines_of(jobs, str(tab), work) for tab in range(3)))

    with threads_of(1):
        assert [lines[-1]["threads"] for lines in asyncio.run(several())] == [2, 2, 2]
        assert torch.get_num_threads() == 1


def test_two_tabs_take_turns_and_both_get_their_result() -> None:
    done: list[str] = []

    async def both() -> list:
        jobs = Jobs()
        return await asyncio.gather(*(lines_of(jobs, tab, pieces(10, done, tab)) for tab in ("a", "b")))

    one, other = asyncio.run(both())
    assert (one[-1], other[-1]) == ({"result": "a"}, {"result": "b"})
    assert done.index("b") < 3, "nobody waits for the whole work of another"
    assert "aaaa" not in "".join(done[:16])


def test_never_two_pieces_at_once() -> None:
    inside, most = threading.Semaphore(1), []

    def work(advance: Advance) -> Line:
        for _ in range(5):
            most.append(inside.acquire(blocking=False))
            time.sleep(0.002)
            inside.release()
            advance(1, 2)
        return {}

    async def three() -> None:
        jobs = Jobs()
        await asyncio.gather(*(lines_of(jobs, tab, work) for tab in "abc"))

    asyncio.run(three())
    assert all(most)
    assert len(most) == 15


def test_a_new_request_of_a_tab_ends_the_old_one_and_no_other_tab_s() -> None:
    done: list[str] = []

    async def three() -> list:
        jobs = Jobs()
        old = asyncio.create_task(lines_of(jobs, "a", pieces(1000, done, "old")))
        other = asyncio.create_task(lines_of(jobs, "b", pieces(20, done, "other")))
        await asyncio.sleep(0.02)
        new = await lines_of(jobs, "a", pieces(2, done, "new"))
        return [await old, new, await other]

    old, new, other = asyncio.run(three())
    assert old[-1] == {"cancelled": True}
    assert (new[-1], other[-1]) == ({"result": "new"}, {"result": "other"})
    assert done.count("old") < 100


def test_whoever_stops_listening_cancels() -> None:
    done: list[str] = []

    async def left() -> None:
        jobs = Jobs()
        running = jobs.run("a", pieces(1000, done, "x"))
        await anext(running)
        await running.aclose()  # type: ignore[attr-defined]
        await jobs.close()

    asyncio.run(left())
    assert len(done) < 10


def test_a_work_that_was_cancelled_before_its_turn_never_begins() -> None:
    done: list[str] = []

    async def waiting() -> list[Line]:
        jobs = Jobs()
        first = asyncio.create_task(lines_of(jobs, "a", lambda _: time.sleep(0.1) or {"result": "a"}))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(lines_of(jobs, "b", pieces(3, done, "b")))
        await asyncio.sleep(0.02)
        jobs.cancel("b")
        await first
        return await second

    assert asyncio.run(waiting()) == [{"cancelled": True}]
    assert done == []


def raises(error: Exception) -> Callable[[Advance], Line]:
    def work(_: Advance) -> Line:
        raise error

    return work


def test_a_mistake_of_the_user_is_one_line() -> None:
    assert asyncio.run(lines_of(Jobs(), "a", raises(UserError("no such unit")))) == [{"error": "no such unit"}]


def test_a_mistake_of_the_program_is_told_too_and_the_next_work_runs(caplog: pytest.LogCaptureFixture) -> None:
    async def both() -> tuple[list[Line], list[Line]]:
        jobs = Jobs()
        return await lines_of(jobs, "a", raises(KeyError("x"))), await lines_of(jobs, "a", pieces(1, [], "x"))

    broken, following = asyncio.run(both())
    assert "failed unexpectedly (KeyError" in broken[-1]["error"]
    assert "a job of the page failed" in caplog.text
    assert following[-1] == {"result": "x"}
