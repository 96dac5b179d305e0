"""Numbers as a person would say them; no password of a URL is in what the program says or writes."""

import sys

import pytest
import torch

from howdeep import cli
from howdeep.runs import folder as runs
from howdeep.util.text import bytes_text, masked, seconds_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://u:s3cret@h/db", "postgresql://u:***@h/db"),
        (
            "--storage=postgresql+x://u:s3cret@h:5/db is bad",
            "--storage=postgresql+x://u:***@h:5/db is bad",
        ),
        ("mysql://u:s3/cr@et@h/db", "mysql://u:***@h/db"),
        ("mysql://:s3cret@h/db", "mysql://:***@h/db"),
        ("x://u:s3%40cret@h?a=b&password=s3cret&c=d", "x://u:***@h?a=b&password=***&c=d"),
        ("x://u@h/db?password=s3cret", "x://u@h/db?password=***"),
        ("see https://sqlalche.me/e/20/e3q8", "see https://sqlalche.me/e/20/e3q8"),
        ("sqlite:///folder/study.db and hf:owner/name@main", "sqlite:///folder/study.db and hf:owner/name@main"),
    ],
)
def test_passwords_of_urls_are_masked_and_nothing_else(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_what_others_say_of_a_url_is_masked_in_every_spelling() -> None:
    url = "postgresql://u:s3%2Fcret@x word@h/db"
    for said in ("no host 'x word@h'", "password s3/cret is wrong", "bad s3%2Fcret", f"could not parse {url}"):
        assert not {"s3", "cret", "word"} & set(masked(said, url).replace("/", " ").replace("'", " ").split())


@pytest.mark.parametrize("url", ["postgresql://u:s3 cret@h/db", "postgresql://u:s3'cret@h/db?password=s3'cret"])
def test_the_command_of_a_record_is_masked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["howdeep", "fit", "--storage", url, f"--storage={url}"])
    assert "cret" not in runs.provenance(torch.device("cpu"))["command"]


@pytest.mark.parametrize(
    "asked",
    [
        ["fit", "--storage", "postgresql://user:s3cret@host/db", "--data", "digits", "--train-budget", "5 parsecs"],
        [
            "fit",
            "--storag",
            "postgresql://a-user-of-a-long-name:s3cret-that-is-long-enough-to-be-broken-s3cret@host/db",
        ],
        ["postgresql://user:s3cret@host/db"],
        ["fit", "--storage", "postgresql://user:s3cret@127.0.0.1:1/db", "--data", "digits", "--train-budget", "5s"],
        ["fit", "--storage", "nonsense://user:s3cret@127.0.0.1:1/db", "--data", "digits", "--train-budget", "5s"],
    ],
    ids=["bad value", "bad option", "bad command", "no server", "no driver"],
)
def test_no_complaint_holds_a_password(asked: list[str], tmp_path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(asked) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("howdeep: ")
    assert "s3cret" not in err.replace(" ", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h"), (86400, "24.0 h")],
)
def test_durations_are_told_as_a_person_would(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(None, "unknown"), (5_000_000, "5 MB"), (2_340_000_000, "2.3 GB")])
def test_amounts_of_memory_are_told_as_a_person_would(count: int | None, text: str) -> None:
    assert bytes_text(count) == text
