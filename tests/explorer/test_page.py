"""The server, asked over its socket as a browser would: what it answers, and what it refuses."""

import asyncio
import http.client
import io
import json
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image
from tests.show import cases
from tests.show.cases import depth, probed

from howdeep import cli, open_run
from howdeep.data.decoding import quiet_pillow
from howdeep.explorer import serve
from howdeep.explorer.guard import Guard
from howdeep.explorer.images import MAX_BYTES
from howdeep.explorer.server import Page, create_app
from howdeep.util.records import to_json

OWN = [1 - (unit / 6) * 0.5 for unit in range(1, 7)]
ORDER = list(range(6))


@pytest.fixture(scope="module")
def port(page: Page) -> Iterator[int]:
    """Where the page is served, by a thread."""
    listener = serve.listen("127.0.0.1", 0)
    guard = Guard(hosts=frozenset(serve.LOOPBACK), upload_bytes=MAX_BYTES)
    server = uvicorn.Server(uvicorn.Config(create_app([page], guard), log_level="warning"))
    with quiet_pillow():
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


def ask(port: int, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    """Return status and body; a body that is not bytes goes as JSON, and then with POST."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection.request("GET" if body is None else "POST", path, content, given)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def lines(port: int, path: str, body: dict) -> list[dict]:
    status, content = ask(port, path, body)
    assert status == 200, content
    return [json.loads(line) for line in content.splitlines()]


def question(gates: list, **more: Any) -> dict:
    return {"tab": "a", "gates": gates, "order": ORDER, **more}


def error(found: tuple[int, bytes]) -> tuple[int, str]:
    return found[0], json.loads(found[1])["error"]


def test_the_page_and_its_files_are_served_and_nothing_else(port: int) -> None:
    status, content = ask(port, "/")
    assert (status, b"<html" in content) == (200, True)
    for name in serve_files():
        assert ask(port, f"/static/{name}")[0] == 200
    for path in ("/static/app.py", "/static/..%2fapp.py", "/static/../app.py", "/static/%2fetc%2fpasswd", "/docs"):
        assert ask(port, path)[0] == 404


def serve_files() -> list[str]:
    from howdeep.explorer.server import STATIC

    return [path.name for path in STATIC.iterdir()]


def test_the_network_is_told_once(port: int) -> None:
    found = json.loads(ask(port, "/api/network")[1])
    assert (found["name"], found["n"], found["split"]) == ("cifar_resnet14", 179, "val")
    assert [unit["own"] for unit in found["units"]] == pytest.approx(OWN)
    assert [unit["output"] for unit in found["units"]] == ["16×8×8"] * 2 + ["32×4×4"] * 2 + ["64×2×2"] * 2
    assert [unit["like"] for unit in found["units"]][:2] == [0, 0]
    assert found["save"] == {"possible": True, "why": None}
    assert (found["deletions"], found["probe"]) == (None, None)


def test_colours_come_from_a_lesion_study_of_the_same_images_alone(port: int, run: Path) -> None:
    study = cases.lesion((0.0, 1.0, 2.0, 3.0, 4.0, 5.0))

    def told(**origin: str) -> dict | None:
        cases.written(run / "lesion.json", "lesion", study, **origin)
        return json.loads(ask(port, "/api/network")[1])["deletions"]

    found = told(data="digits", split="validation")
    others = told(data="digits", split="test"), told(data="photos", split="val")
    (run / "lesion.json").unlink()
    n = study.baseline.n
    costly = [False, False, True, True, True, True]
    source = f"lesion.json: val, n = {n}"
    assert found == {"change": [0, 1, 2, 3, 4, 5], "costly": costly, "n": n, "source": source}
    assert others == (None, None)


def test_a_probe_in_the_run_folder_says_what_the_first_units_would_give(port: int, run: Path) -> None:
    depths = (depth(0, 60.0, 0.1), *(depth(units, 60.0 - units, units, whole=units == 6) for units in range(1, 7)))
    by_head = replace(depth(4, 50.0, 4.5), head="kept")
    record = probed("cifar_resnet14", 8, (*depths[:5], by_head, *depths[5:])).probe
    written = {**to_json(record), "data": "my photos", "split": "val"}
    (run / "probe.json").write_text(json.dumps(written))
    found = json.loads(ask(port, "/api/network")[1])["probe"]
    (run / "probe.json").write_text(json.dumps({**written, "units": 7}))
    other = json.loads(ask(port, "/api/network")[1])["probe"]
    (run / "probe.json").unlink()
    assert other is None
    assert found["source"] == "my photos, val, n = 200"
    assert [one["error"] for one in found["first"]] == [59, 58, 57, 50, 55, 54]
    assert [one["head"] for one in found["first"]] == [False, False, False, True, False, True]
    assert [one["chosen"] for one in found["first"]] == [False, False, False, True, False, False]
    assert (found["first"][1]["ms"], found["first"][1]["macs"]) == (2, 3000)
    assert found["first"][1]["command"] == f"howdeep cut {run} --data 'my photos' --first 2 --out {run}-first-2"


def test_the_chart_of_lengths_has_the_gradient_of_a_study_of_the_same_paths_alone(port: int, run: Path) -> None:
    def drawn(units: int, data: str) -> bool:
        cases.written(run / "paths.json", "paths", cases.paths_of(units), data=data, split="test")
        return "gradient" in lines(port, "/api/answer", question(OWN))[-1]["figures"]["lengths"]

    found = drawn(6, "digits"), drawn(6, "photos"), drawn(5, "digits")
    (run / "paths.json").unlink()
    assert found == (True, False, False)


def test_the_numbers_come_before_the_charts(port: int) -> None:
    *progress, last = lines(port, "/api/answer", question([None, *OWN[1:]], watched=[3]))
    early = [line for line in progress if "answer" in line and line["answer"]["n"] == 179]
    assert len(early) == 1
    assert early[0]["answer"] == last["answer"]
    assert last["answer"]["closed"] == 1
    assert all(chart.startswith("<svg") for chart in last["figures"].values())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (question(OWN[:5]), "5 gates and 6 places"),
        (question([2.5, *OWN[1:]]), "gates.0"),
        (question(["x", *OWN[1:]]), "gates.0"),
        (question(OWN, watched=[179]), "there are 179 images"),
        (question(OWN, watched=[-1]), "watched.0"),
        (question(OWN, watched=[0] * 9), "watched"),
        (question(OWN, upload="unknown"), "drop it again"),
        ({"tab": "", "gates": OWN, "order": ORDER}, "tab"),
        ({"gates": OWN, "order": ORDER}, "tab"),
        ([], "the request"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_one_line(port: int, body: Any, message: str) -> None:
    status, said = error(ask(port, "/api/answer", body))
    assert status == 422
    assert message in said
    assert "\n" not in said


def test_what_is_not_json_or_not_for_this_host_is_refused(port: int) -> None:
    assert error(ask(port, "/api/answer", b"{"))[0] == 422
    assert error(ask(port, "/", Host="example.com"))[0] == 403
    assert error(ask(port, "/api/cancel", {"tab": "a"}, Origin="http://example.com"))[0] == 403


def test_pictures_are_those_of_the_sample(port: int, page: Page) -> None:
    picture = Image.open(io.BytesIO(ask(port, "/api/images/5.png")[1]))
    assert np.array_equal(np.asarray(picture), page.engine.sample.pixels[5, 0].numpy())
    assert error(ask(port, "/api/images/179.png"))[0] == 404
    assert ask(port, "/api/images/x.png")[0] == 422


def test_an_image_that_is_dropped_is_told_of_as_the_network_sees_it(port: int, page: Page) -> None:
    picture = Image.fromarray(page.engine.sample.pixels[5, 0].numpy()).resize((16, 16), Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    found = json.loads(ask(port, "/api/upload", stream.getvalue())[1])
    assert (found["width"], found["height"]) == (16, 16)
    seen = Image.open(io.BytesIO(ask(port, f"/api/uploads/{found['upload']}.png")[1]))
    assert seen.size == (8, 8)
    asked = question(OWN, upload=found["upload"], watched=[5])
    answer = lines(port, "/api/answer", asked)[-1]["answer"]
    assert answer["upload"][0]["name"] == answer["watched"][0]["top"][0]["name"]
    assert answer["upload"][0]["probability"] == answer["upload"][0]["before"]


def bomb(side: int) -> bytes:
    """Return a PNG of a few kilobytes that declares side × side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(side + 1) * 100, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (bomb(10_000), 422, "oversized"),
        (bomb(40_000), 422, "oversized"),
        (b"not an image at all", 422, "not an image"),
        (b"", 422, "empty"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, 422, "image"),
        (bytes(50_000_000), 413, "larger than 20,000,000 bytes"),
    ],
)
def test_what_is_no_usable_image_is_a_message_and_the_server_lives(
    port: int, content: bytes, status: int, message: str
) -> None:
    found = error(ask(port, "/api/upload", content))
    assert found[0] == status
    assert message in found[1]
    assert ask(port, "/")[0] == 200


def test_two_tabs_do_not_disturb_each_other(port: int) -> None:
    answers: dict[str, list[dict]] = {}

    def tab(name: str, gates: list) -> None:
        for _ in range(2):
            answers[name] = lines(port, "/api/answer", {**question(gates), "tab": name})

    tabs = [threading.Thread(target=tab, args=(name, [None] * out + OWN[out:])) for name, out in (("b", 1), ("c", 4))]
    for thread in tabs:
        thread.start()
    for thread in tabs:
        thread.join()
    assert (answers["b"][-1]["answer"]["closed"], answers["c"][-1]["answer"]["closed"]) == (1, 4)


def test_cancel_ends_the_work_of_a_tab(port: int, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    started = threading.Event()

    def endless(self, units, advance):
        while True:
            started.set()
            advance(1, 2)

    monkeypatch.setattr(type(page.engine), "greedy", endless)
    found: list[dict] = []
    waiting = threading.Thread(target=lambda: found.extend(lines(port, "/api/greedy", {"tab": "z", "units": 3})))
    waiting.start()
    assert started.wait(10)
    assert json.loads(ask(port, "/api/cancel", {"tab": "z"})[1]) == {"cancelled": True}
    waiting.join(10)
    assert found[-1] == {"cancelled": True}


class Here:
    """The process of a command, run in this one: another would import torch for seconds."""

    returncode: int | None = None

    def __init__(self, program: str, *arguments: str) -> None:
        assert (program, *arguments[:2]) == (sys.executable, "-m", "howdeep")
        self.arguments = list(arguments[2:])

    async def communicate(self) -> tuple[bytes, bytes]:
        self.returncode = await asyncio.to_thread(cli.run, self.arguments)
        return b"", b""

    async def wait(self) -> int | None:
        return self.returncode


@pytest.fixture(scope="module")
def saved(port: int) -> dict:
    """What the page is told of a cut, units 2 and 4 out."""

    async def start(*arguments: str, **_: int) -> Here:
        return Here(*arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("howdeep.explorer.jobs.asyncio.create_subprocess_exec", start)
        return lines(port, "/api/save", question([OWN[0], None, OWN[2], None, *OWN[4:]]))[-1]["saved"]


def test_a_saved_cut_is_the_run_folder_of_the_command(saved: dict, run: Path, tmp_path: Path) -> None:
    assert Path(saved["run"]) == run.with_name("run-cut-to-4-units")
    assert "--remove 2 4" in saved["command"]
    assert "2 of 6 units out" in saved["sentence"]
    assert saved["next"][0] == f"howdeep explore {run} --data digits --beside {saved['run']}"
    out = tmp_path / "by-hand"
    assert cli.run(["cut", str(run), "--data", "digits", "--remove", "2", "4", "--out", str(out)]) == 0
    one, other = (open_run(place).chain(print).state_dict() for place in (Path(saved["run"]), out))
    torch.testing.assert_close(one, other)


STAND_IN = """#!/bin/sh
# In the place of "howdeep cut", which imports torch for seconds: it begins a folder, then fails, hangs, or is done
# once the folder of the one that hangs was removed, or after ten seconds.
all="$*"
while [ "$1" != --out ]; do shift; done
echo begun > "$2/begun"
case "$all" in
*nowhere*) echo "howdeep: there is no nowhere" >&2; exit 2 ;;
*"--remove 2 3 4") exec sleep 60 ;;
esac
n=0
while [ -e "${2%-2}" ] && [ $n -lt 200 ]; do n=$((n + 1)); sleep 0.05; done
cp "RECORD" "$2"
"""


@pytest.fixture
def _stand_in(saved: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save with a process that takes no time; what the real command writes is tested above."""
    script = tmp_path / "python"
    script.write_text(STAND_IN.replace("RECORD", str(Path(saved["run"]) / "cut.json")))
    script.chmod(0o755)
    monkeypatch.setattr("howdeep.explorer.jobs.sys.executable", str(script))
    monkeypatch.setattr("howdeep.explorer.jobs.REPORT_EVERY", 0.05)


@pytest.mark.usefixtures("_stand_in")
def test_tabs_that_save_equally_many_units_have_a_folder_each_and_closing_one_removes_its_own(
    page: Page, run: Path
) -> None:
    async def both() -> tuple[set[str], list[dict]]:
        closed, kept = page.saving.save([2, 3, 4]), page.saving.save([4, 5, 6])
        await anext(closed)
        await anext(kept)
        folders = names()
        await closed.aclose()
        return folders, [line async for line in kept]

    def names() -> set[str]:
        return {path.name for path in run.parent.glob("run-cut-to-3-units*")}

    folders, told = asyncio.run(both())
    assert folders == {"run-cut-to-3-units", "run-cut-to-3-units-2"}
    assert told[-1]["saved"]["run"] == str(run.with_name("run-cut-to-3-units-2"))
    assert names() == {"run-cut-to-3-units-2"}
    assert "--remove 4 5 6" in told[-1]["saved"]["command"]
    assert (run.parent / "run-cut-to-3-units-2" / "begun").exists()


@pytest.mark.usefixtures("_stand_in")
def test_a_listener_that_goes_away_leaves_nothing_behind(page: Page, run: Path) -> None:
    """A server cancels the answer at every await, also of what is tidied up."""
    before = set(run.parent.iterdir())

    async def left() -> set[Path]:
        with anyio.CancelScope() as scope:
            async for _ in page.saving.save([2, 3, 4]):
                scope.cancel()
        for _ in range(200):
            if not (more := set(run.parent.iterdir()) - before):
                break
            await asyncio.sleep(0.05)
        return more

    assert asyncio.run(left()) == set()


@pytest.mark.usefixtures("_stand_in")
def test_a_cut_that_fails_leaves_nothing_behind(page: Page, run: Path) -> None:
    async def told() -> list[dict]:
        return [line async for line in replace(page.saving, data="nowhere").save([2, 3, 4, 5])]

    assert "nowhere" in asyncio.run(told())[-1]["error"]
    assert not list(run.parent.glob("run-cut-to-2-units*"))


@pytest.mark.parametrize(
    ("gates", "order", "message"),
    [
        (OWN, ORDER, "no unit is out"),
        ([0.25, None, *OWN[2:]], ORDER, "unit 1 has a gate of 0.25"),
        ([None, *OWN[1:]], [1, 0, *ORDER[2:]], "units stand at other places"),
    ],
)
def test_a_state_that_is_no_cut_is_not_saved(port: int, gates: list, order: list, message: str) -> None:
    status, said = error(ask(port, "/api/save", {**question(gates), "order": order}))
    assert status == 422
    assert message in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "host '0.0.0.0' is not allowed"),
        (["--port", "70000"], "port 70000 is not allowed: 0 to 65535"),
        (["--images", "0"], "images 0 is not allowed"),
        (["--split", "vall"], "vall"),
        (["--data", "nowhere"], "nowhere"),
    ],
)
def test_a_page_that_cannot_be_opened_is_one_line(
    run: Path, options: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert cli.run(["explore", str(run), *options]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]


def test_a_port_that_is_taken_is_one_line(run: Path, port: int, capsys: pytest.CaptureFixture) -> None:
    assert cli.run(["explore", str(run), "--port", str(port)]) == 2
    assert f"nothing can listen on 127.0.0.1:{port}" in capsys.readouterr().err
