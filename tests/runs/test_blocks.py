"""Long work in blocks: stopped, killed or shared out, it ends with the numbers of one go."""

import io
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from tests.processes import fork
from tests.runs import workers
from tests.runs.workers import KEY, squares

from howdeep.runs.resume import Journal
from howdeep.util.errors import Stopped, UserError

WHOLE = [squares(block) for block in range(6)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "record.json"


def noted(seen: list[int], *, stop_at: int | None = None) -> Callable[[int], dict]:
    """Return work that notes which blocks were asked for, and is interrupted at one of them."""

    def compute(block: int) -> dict:
        if block == stop_at:
            raise KeyboardInterrupt
        seen.append(block)
        return squares(block)

    return compute


def test_blocks_come_back_in_order_and_nothing_is_kept_without_a_place(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[int] = []
    assert Journal().blocks("squares", 6, noted(seen)) == WHOLE
    assert seen == list(range(6))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Stopped, match="stopped; nothing was kept; with --json FILE"):
        Journal().blocks("squares", 6, noted(seen, stop_at=2))


def test_an_interrupted_work_resumes_with_what_is_left(place: Path) -> None:
    seen: list[int] = []
    with pytest.raises(Stopped, match="stopped; the same command resumes") as stopped:
        Journal.open(place, KEY).blocks("squares", 6, noted(seen, stop_at=4))
    assert stopped.value.status == 130
    assert seen == [0, 1, 2, 3]
    journal = Journal.open(place, KEY)
    assert journal.blocks("squares", 6, noted(seen)) == WHOLE
    assert seen == [0, 1, 2, 3, 4, 5]
    assert journal.blocks("squares", 6, noted(seen)) == WHOLE
    assert seen == [0, 1, 2, 3, 4, 5]


def test_a_killed_process_loses_no_finished_block(place: Path) -> None:
    assert workers.finish(fork(workers.killed, place, 3)) == [-signal.SIGKILL]
    seen: list[int] = []
    assert Journal.open(place, KEY).blocks("squares", 6, noted(seen)) == WHOLE
    assert seen == [3, 4, 5]


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_line_that_was_cut_short_is_computed_again_and_spoils_no_other(place: Path, cut: int) -> None:
    with pytest.raises(Stopped):
        Journal.open(place, KEY).blocks("squares", 6, noted([], stop_at=3))
    (file,) = place.parent.glob("record.json.part*")
    file.write_text(file.read_text().rstrip()[:-cut])
    seen: list[int] = []
    for _ in range(2):  # the second time, what was written behind the broken line is read
        assert Journal.open(place, KEY).blocks("squares", 6, noted(seen)) == WHOLE
        assert seen == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("key", "differs"),
    [
        ({"network": "a", "data": "c"}, "data"),
        ({"network": "x", "data": "b"}, "network"),
        ({**KEY, "k": 3}, r"k \(None, now 3\)"),
    ],
)
def test_blocks_of_other_work_are_refused_with_what_differs(place: Path, key: dict, differs: str) -> None:
    Journal.open(place, KEY).blocks("squares", 2, squares)
    seen: list[int] = []
    with pytest.raises(UserError, match=rf"part0 holds work of another {differs}; remove it"):
        Journal.open(place, key).blocks("squares", 6, noted(seen))
    assert seen == []
    assert Journal.open(place, KEY).blocks("squares", 6, noted(seen)) == WHOLE
    assert seen == [2, 3, 4, 5]


def test_a_key_is_compared_as_it_was_written_down(place: Path) -> None:
    """JSON turns tuples into lists; that is no other work."""
    key = {**KEY, "lengths": (1, 2), "limit": None}
    Journal.open(place, key).blocks("squares", 2, squares)
    seen: list[int] = []
    assert Journal.open(place, key).blocks("squares", 6, noted(seen)) == WHOLE
    assert seen == [2, 3, 4, 5]
    with pytest.raises(UserError, match="another lengths"):
        Journal.open(place, {**key, "lengths": (1, 3)}).blocks("squares", 6, squares)


def test_finished_work_leaves_the_record_and_what_is_not_its_own(place: Path) -> None:
    others = [place, place.with_name("record.json.partial"), place.with_name("other.json.part0")]
    for other in others:
        other.write_text("{}")
    journal = Journal.open(place, KEY)
    journal.blocks("squares", 6, squares)
    place.with_name("record.json.part1").write_text("")
    assert len(list(place.parent.iterdir())) == 5
    journal.remove()
    assert sorted(place.parent.iterdir()) == sorted(others)
    journal.remove()
    Journal().remove()


def test_another_error_keeps_the_blocks_and_passes(place: Path) -> None:
    def compute(block: int) -> dict:
        if block == 2:
            raise UserError("broken")
        return squares(block)

    with pytest.raises(UserError, match=r"^broken$"):
        Journal.open(place, KEY).blocks("squares", 6, compute)
    seen: list[int] = []
    assert Journal.open(place, KEY).blocks("squares", 6, noted(seen)) == WHOLE
    assert seen == [2, 3, 4, 5]


def test_a_bar_is_shown_on_terminals_only() -> None:
    said = {}
    for terminal in (True, False):
        file = io.StringIO()
        Journal(console=Console(file=file, force_terminal=terminal, width=100)).blocks("squares", 6, squares)
        said[terminal] = file.getvalue()
    assert "squares" in said[True]
    assert said[False].strip() == ""


# --- two processes


def test_two_processes_have_the_numbers_of_one_to_the_bit(tmp_path: Path) -> None:
    alone = fork(workers.studied, tmp_path)
    both = workers.start_ranks(workers.studied, tmp_path)
    assert workers.finish(alone, *both) == [0, 0, 0]
    one, *two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1"))
    for study in workers.STUDIES:
        assert two[0][study] == two[1][study] == one[study], study


def test_two_processes_share_the_blocks_and_one_resumes_where_both_were_killed(place: Path) -> None:
    log = place.with_name("log")
    assert workers.finish(*workers.start_ranks(workers.shared, place, log, True)) == [-signal.SIGKILL] * 2
    seen: list[int] = []
    found = Journal.open(place, KEY).blocks("squares", 9, lambda block: noted(seen)(block) | {"rank": 2})
    assert [one["rank"] for one in found] == [0, 1, 0, 1, 2, 2, 2, 2, 2]
    assert seen == [4, 5, 6, 7, 8]
    assert [{**one, "rank": None} for one in found] == [{**squares(block), "rank": None} for block in range(9)]


def test_two_processes_resume_where_one_was_stopped(place: Path) -> None:
    with pytest.raises(Stopped):
        Journal.open(place, KEY).blocks("squares", 9, lambda n: noted([], stop_at=3)(n) | {"rank": 2})
    log = place.with_name("log")
    assert workers.finish(*workers.start_ranks(workers.shared, place, log, False)) == [0, 0]
    both = [json.loads(log.with_suffix(f".{rank}").read_text()) for rank in (0, 1)]
    assert both[0] == both[1]
    assert [one["rank"] for one in both[0]] == [2, 2, 2, 0, 1, 0, 1, 0, 1]


def test_both_processes_refuse_blocks_of_other_work(place: Path) -> None:
    Journal.open(place, KEY).blocks("squares", 2, squares)
    log = place.with_name("log")
    assert workers.finish(*workers.start_ranks(workers.refused, place, log)) == [0, 0]
    said = {log.with_suffix(f".{rank}").read_text() for rank in (0, 1)}
    assert len(said) == 1
    assert "another data" in said.pop()


def test_an_error_in_one_process_is_the_error_of_both(place: Path) -> None:
    log = place.with_name("log")
    assert workers.finish(*workers.start_ranks(workers.broken, place, log)) == [0, 0]
    assert [log.with_suffix(f".{rank}").read_text() for rank in (0, 1)] == ["image 4 is broken"] * 2
    seen: list[int] = []
    Journal.open(place, KEY).blocks("squares", 9, noted(seen))
    assert seen == [4, 6, 8]
