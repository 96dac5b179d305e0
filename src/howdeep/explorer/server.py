"""The server of the page: what it sends once, and what it answers to which request."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from howdeep.analysis.depths import Probe
from howdeep.analysis.effects import Effect
from howdeep.analysis.lesion import Lesion, UnitEffect, alike
from howdeep.analysis.paths import Paths
from howdeep.data.decoding import MAX_PIXELS
from howdeep.explorer.beside import side_by_side
from howdeep.explorer.engine import Engine
from howdeep.explorer.guard import UPLOAD_PATH, Guard, Guarded
from howdeep.explorer.images import MAX_BYTES, Uploads, png
from howdeep.explorer.jobs import Advance, Jobs, Line, Saving
from howdeep.explorer.records import State, check_state
from howdeep.show import figures
from howdeep.util.errors import UserError
from howdeep.util.intervals import worse_of
from howdeep.util.options import SPLIT_NAMES
from howdeep.util.records import from_json
from howdeep.util.text import counted

MEASURED_AT_ONCE = 120
"""Units up to which the page has their deletions measured without being asked."""
LESION, PATHS, PROBE = "lesion.json", "paths.json", "probe.json"
"""Records in the run folder that the page shows."""
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What does not change while the page is open."""

    engine: Engine
    data: str
    """What the data is called."""
    split: str
    """Of which the sample is."""
    like: tuple[int | None, ...]
    """Units with the same number may change places."""
    saving: Saving
    """How cuts are saved."""

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        engine, known, run = self.engine, self._lesion(), self.engine.target.run
        network = engine.target.network or {}
        cut = f" cut to {counted(len(engine.chain), 'unit')}" if run is not None and run.is_cut else ""
        return {
            "name": (network.get("library") or network.get("name") or engine.target.name) + cut,
            "source": engine.target.name,
            "units": self._units(),
            "classes": engine.classes,
            "data": self.data,
            "split": self.split,
            "n": len(engine.sample.pixels),
            "precision": engine.precision,
            "images": [{"label": int(label)} for label in engine.sample.labels],
            "deletions": known and self._known(known),
            "probe": self._probe(),
            "measures_itself": len(engine.chain) <= MEASURED_AT_ONCE,
            "save": {"possible": self.saving.impossible is None, "why": self.saving.impossible},
            "max_upload_bytes": MAX_BYTES,
            "max_upload_pixels": MAX_PIXELS,
        }

    def _units(self) -> list[dict[str, Any]]:
        chain = self.engine.chain
        parts = zip(chain.names, chain.units, self.engine.own.gates, self.engine.costs.units, self.like, strict=True)
        return [
            {
                "index": index,
                "name": name,
                "removable": unit.merge.removable,
                "own": gate,
                "macs": cost.macs,
                "ms": cost.ms,
                "output": "×".join(str(length) for length in cost.output),
                "like": like,
            }
            for index, (name, unit, gate, cost, like) in enumerate(parts, 1)
        ]

    def _known(self, lesion: Lesion) -> Line:
        n = lesion.baseline.n
        return _costs(lesion.units, n, f"{LESION}: {self.split}, n = {n:,}")

    def _lesion(self) -> Lesion | None:
        """Return the lesion study that lies in the run folder, if it is of these units and of images of the page."""
        found = self._record(LESION, Lesion)
        if found is None:
            return None
        lesion, file = found
        same = (file.get("data"), SPLIT_NAMES.get(file.get("split", ""))) == (self.saving.data, SPLIT_NAMES[self.split])
        names = [unit.name for unit in lesion.units]
        return lesion if same and lesion.kind == "delete" and names == self.engine.chain.names else None

    def paths(self) -> tuple[Paths | None, str]:
        """Return the paths in the run folder, if they are of this network and data, and their source.

        They may be of another split, which is said: no error is compared with them.
        """
        found, counts = self._record(PATHS, Paths), self.engine.own_lengths
        if found is None or found[1].get("data") != self.saving.data:
            return None, ""
        paths, file = found
        same = dict(zip(paths.lengths, map(int, paths.path_count), strict=True)) == counts
        return (paths if same else None), f"{PATHS}: {file.get('split')}, n = {paths.n:,}"

    def _probe(self) -> dict[str, Any] | None:
        """Return what the first units alone would give, by the probe in the run folder, if it is one of these units."""
        found, names = self._record(PROBE, Probe), self.engine.chain.names
        if found is None or "data" not in found[1]:  # which the command writes
            return None
        probe, file = found
        if probe.units != len(names) or any(
            depth.name != names[depth.units - 1] for depth in probe.depths if depth.units and not depth.whole
        ):
            return None
        first = []
        for units in range(1, len(names) + 1):
            at = (depth for depth in probe.depths if depth.units == units)
            best = min(at, key=lambda depth: depth.fitted.error_percent)
            first.append(
                {
                    "error": best.fitted.error_percent,
                    "low": best.fitted.low,
                    "high": best.fitted.high,
                    "ms": best.latency.median_ms,
                    "macs": best.macs,
                    "head": best.head == "kept",
                    "chosen": units == probe.choice.units,
                    "command": self.saving.first(units, file["data"]),
                }
            )
        return {"first": first, "source": f"{file['data']}, {file['split']}, n = {probe.n:,}"}

    def _record(self, name: str, kind: type[T]) -> tuple[T, dict[str, Any]] | None:
        """Return a record that lies in the run folder, and its file; None where there is none."""
        try:
            data = json.loads((Path(self.engine.target.name) / name).read_bytes())
            return from_json(kind, data), data
        except (OSError, ValueError, TypeError, UserError):
            return None


def like_of(engine: Engine) -> tuple[int | None, ...]:
    """Return which units may change places: those of equal shape have one number, None stays."""
    groups = alike(engine.cache.chain, engine.sample.batches[0].images)
    return tuple(
        next((number for number, group in enumerate(groups) if index in group), None)
        for index in range(len(engine.chain))
    )


STATIC = Path(__file__).parent / "static"
PALETTE = Path(figures.__file__).parents[1] / "palette.css"
"""Colours that the report has as well."""
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
MOST_WATCHED, MOST_UNITS = 8, 10_000
Gate = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None


class Tab(BaseModel):
    """Who asks."""

    tab: str = Field(min_length=1, max_length=64)


class Asked(Tab):
    """A state."""

    gates: list[Gate] = Field(max_length=MOST_UNITS)
    order: list[int] = Field(max_length=MOST_UNITS)

    @property
    def state(self) -> State:
        """The same as a record."""
        return State(gates=tuple(self.gates), order=tuple(self.order))


class Question(Asked):
    """A state, and what to tell of it."""

    watched: list[Annotated[int, Field(ge=0)]] = Field(default=[], max_length=MOST_WATCHED)
    upload: str | None = Field(default=None, max_length=64)
    dark: bool = False


class Fewer(Tab):
    """How many units shall be left."""

    units: int = Field(ge=0, le=MOST_UNITS)


@dataclass(frozen=True)
class Page:
    """What the server answers from."""

    engine: Engine
    summary: Summary
    uploads: Uploads
    saving: Saving
    jobs: Jobs


def create_app(pages: Sequence[Page], guard: Guard, *, started: Callable[[], None] = lambda: None) -> FastAPI:
    """Return the server of one network's page, or of two side by side: each is then a page of its own, at /1 and /2.

    Args:
        pages: What it answers from.
        guard: Who may ask.
        started: Called once it answers.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        started()
        yield
        for page in pages:
            await page.jobs.close()

    app = FastAPI(lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(Guarded, guard=guard)
    if len(pages) == 1:
        app.mount("/", _app_of(pages[0]))
        return app
    for number, page in enumerate(pages, 1):
        app.mount(f"/{number}", _app_of(page))
    _add_files(app, "beside.html")
    told = side_by_side([page.engine for page in pages])

    @app.get("/api/beside")
    async def _beside() -> JSONResponse:
        return JSONResponse(asdict(told))

    return app


def _app_of(page: Page) -> FastAPI:
    """Return what answers for one network."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_exception_handler(UserError, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    _add_files(app, "index.html")
    _add_pictures(app, page)
    _add_answers(app, page)
    _add_studies(app, page)
    return app


def _add_files(app: FastAPI, index: str) -> None:
    """Serve what a page is made of; every file was read before the first request."""
    paths = [PALETTE, *(path for path in STATIC.iterdir() if path.suffix in TYPES)]
    files = {path.name: (path.read_bytes(), TYPES[path.suffix]) for path in paths}

    @app.get("/")
    async def _index() -> Response:
        return Response(files[index][0], media_type="text/html")

    @app.get("/static/{name}")
    async def _static(name: str) -> Response:
        content, kind = files.get(name, (None, ""))
        return _missing(name) if content is None else Response(content, media_type=kind)


def _add_pictures(app: FastAPI, page: Page) -> None:
    """Serve what the network is, the images of the sample, and those that are dropped."""
    images = page.engine.sample.pixels

    @app.get("/api/network")
    async def _network() -> JSONResponse:
        return JSONResponse(page.summary.to_json())

    @app.get("/api/images/{index}.png")
    async def _image(index: int) -> Response:
        if not 0 <= index < len(images):
            return _missing(f"image {index}")
        return Response(png(images[index]), media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/api/uploads/{token}.png")
    async def _uploaded(token: str) -> Response:
        return Response(png(page.uploads.get(token).pixels), media_type="image/png")

    @app.post(UPLOAD_PATH)
    async def _upload(request: Request) -> JSONResponse:
        token, upload = await page.uploads.read(request.stream())
        return JSONResponse({"upload": token, "width": upload.width, "height": upload.height})


def _add_answers(app: FastAPI, page: Page) -> None:
    """Serve what a state does; the numbers need not wait for the charts."""
    engine = page.engine

    @app.post("/api/answer")
    async def _answer(asked: Question) -> StreamingResponse:
        state, n = _checked(page, asked), len(engine.sample.pixels)
        if any(image >= n for image in asked.watched):
            raise UserError(f"watched {asked.watched} is not allowed: there are {n} images")
        upload = None if asked.upload is None else page.uploads.get(asked.upload)

        def work(advance: Advance) -> Line:
            answer = engine.answer(state, asked.watched, upload, advance)
            numbers = {"answer": asdict(answer)}
            advance(len(engine.before), len(engine.before), numbers)
            wrong = f"{len(answer.wrong)} of {answer.n} images wrong"
            charts = {
                "confusion": figures.confusion_matrix(engine.classes, answer.confusion, wrong),
                "lengths": figures.path_lengths(engine.lengths(state), engine.own_lengths, *page.summary.paths()),
            }
            return {**numbers, "figures": {name: figures.svg(chart, dark=asked.dark) for name, chart in charts.items()}}

        return _streamed(page.jobs.run(asked.tab, work))

    @app.post("/api/cancel")
    async def _cancel(asked: Tab) -> JSONResponse:
        page.jobs.cancel(asked.tab)
        return JSONResponse({"cancelled": True})


def _add_studies(app: FastAPI, page: Page) -> None:
    """Serve what asks the network many times, and the cut that is saved."""
    engine = page.engine

    @app.post("/api/deletions")
    async def _deletions(asked: Tab) -> StreamingResponse:
        def work(advance: Advance) -> Line:
            n = len(engine.sample.pixels)
            return {"deletions": _costs(engine.deletions(advance), n, f"measured on these {n:,} images")}

        return _streamed(page.jobs.run(asked.tab, work))

    @app.post("/api/greedy")
    async def _greedy(asked: Fewer) -> StreamingResponse:
        def work(advance: Advance) -> Line:
            out = engine.greedy(asked.units, advance)
            gates = [None if index in out else gate for index, gate in enumerate(engine.own.gates)]
            return {"gates": gates, "order_out": [index + 1 for index in out]}

        return _streamed(page.jobs.run(asked.tab, work))

    @app.post("/api/save")
    async def _save(asked: Asked) -> StreamingResponse:
        return _streamed(page.saving.save(page.saving.removed(_checked(page, asked), engine.own)))


def _costs(alone: Sequence[Effect | UnitEffect | None], n: int, source: str) -> Line:
    """Return what each unit costs when it alone is out, whether that is beyond chance, and by which images."""
    intervals = [one and one.interval for one in alone]
    worse = iter(worse_of([interval for interval in intervals if interval is not None]))
    costly = [None if interval is None else next(worse) for interval in intervals]
    return {"change": [one and one.change for one in alone], "costly": costly, "n": n, "source": source}


def _checked(page: Page, asked: Asked) -> State:
    check_state(page.engine.chain, asked.state, page.summary.like)
    return asked.state


def _streamed(lines_of: AsyncIterator[Line]) -> StreamingResponse:
    """Return an answer of one line after another, the last of which is the result."""

    async def lines() -> AsyncIterator[str]:
        async for line in lines_of:
            yield json.dumps(line) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def _missing(name: str) -> JSONResponse:
    return JSONResponse({"error": f"there is no {name}"}, status_code=404)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": str(error)}, status_code=422)


async def _not_understood(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    return JSONResponse({"error": f"{place or 'the request'} is not allowed: {first['msg'].lower()}"}, status_code=422)
