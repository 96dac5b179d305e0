"""A study on a server: what happens when it restarts, does not come back, or asks for a password."""

import threading
import time
import uuid

import pytest
from tests.search.servers import PASSWORD, Server

from howdeep.search import storage as storages
from howdeep.search.storage import Watch, open_study, pulse
from howdeep.util.errors import UserError


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def test_a_restart_of_the_server_is_waited_for(server: Server, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    study, made = open_study(server.url, name)
    assert made
    server.stop()
    asking = threading.Thread(target=lambda: study.set_user_attr("plan", [1, 2]))
    asking.start()
    server.start()
    asking.join(60)
    again, made = open_study(server.url, name)
    assert (made, again.user_attrs["plan"]) == (False, [1, 2])
    assert capfd.readouterr() == ("", "")


def test_a_server_that_stays_away_is_one_line_without_the_password(
    server: Server, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    study, _ = open_study(server.url, name)
    monkeypatch.setattr(storages, "PATIENCE", 0.3)
    server.stop()
    try:
        with pytest.raises(
            ConnectionError, match=r"^--storage \S+howdeep:\*\*\*@\S+ has not answered for 0 s \("
        ) as found:
            study.ask()
    finally:
        server.start()
    assert "\n" not in str(found.value)
    assert str(found.value).endswith("; the same command resumes")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("wrong", ["s3cret", "s3cret/with@signs", "s3cret%2Fwith%40signs"])
def test_a_wrong_password_is_one_line_without_it(
    wrong: str, server: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storages, "ATTEMPT_SECONDS", 0.01)
    for url in (
        f"postgresql+psycopg://howdeep:{wrong}@127.0.0.1:{server.port}/postgres",
        f"postgresql+psycopg://howdeep@127.0.0.1:{server.port}/postgres?password={wrong}",
    ):
        with pytest.raises(UserError, match=r"^--storage postgresql\+psycopg://\S+ cannot be used: ") as found:
            open_study(url, name)
        assert not any(piece in str(found.value) for piece in ("s3cret", "signs", PASSWORD, "\n"))


def test_a_process_is_silent_once_its_signs_of_life_end(server: Server, name: str) -> None:
    study, _ = open_study(server.url, name)
    watch = Watch(study, 0.1)
    with pulse(server.url, name, "there", 0.3):
        while watch.sign("there") is None:
            time.sleep(0.05)
        first = watch.sign("there")
        while watch.sign("there") == first:
            time.sleep(0.05)
    assert watch.silent(["there"]) == {}
    time.sleep(3 * watch.silence)
    assert watch.silent(["there"]) == {}, "whoever did not look has seen nobody silent"
    while not (silent := watch.silent(["there", "nobody"])):
        time.sleep(0.02)
    assert set(silent) == {"there"}
    assert silent["there"] > 3 * watch.silence
