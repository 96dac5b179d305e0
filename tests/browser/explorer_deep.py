"""Networks that do not exist: what the server would say of them, answered in the browser."""

import json
from typing import Any

from playwright.sync_api import Page, Route
from tests.browser.explorer_page import asked

STAGES = ("16×32×32", "32×16×16", "64×8×8")


def pretend(page: Page, units: int) -> None:
    """Answer the page's questions for so many units, each of which costs a hundredth of a point.

    The first of the second third cannot be taken out.
    """
    page.route("**/api/network", lambda route: route.fulfill(json=_network(units)))
    page.route("**/api/answer", lambda route: route.fulfill(body=json.dumps(_answer(route)) + "\n"))


def locked(units: int) -> int:
    """Return the number of the unit that cannot be taken out."""
    return units // 3 + 1


def _network(number_of_units: int) -> dict[str, Any]:
    stays = locked(number_of_units)
    units = [
        {
            "index": number,
            "name": f"unit {number}",
            "removable": number != stays,
            "own": 1.0,
            "macs": 10**6,
            "ms": 0.1,
            "output": STAGES[3 * (number - 1) // number_of_units],
            "like": None,
        }
        for number in range(1, number_of_units + 1)
    ]
    return {
        "name": "cifar_resnet1202",
        "source": "runs/r1202",
        "units": units,
        "classes": ["cat", "dog"],
        "data": "pets",
        "split": "val",
        "n": 2,
        "precision": "fp32",
        "images": [{"label": 0}, {"label": 1}],
        "deletions": None,
        "probe": {
            "first": list(map(_first, range(1, number_of_units + 1))),
            "source": "probe.json: photos, val, n = 9",
        },
        "measures_itself": False,
        "save": {"possible": True, "why": None},
        "max_upload_bytes": 10,
    }


def _first(units: int) -> dict[str, Any]:
    """Return what so many first units would give: 9 are recommended."""
    error, cost = 100 / units, {"ms": 0.1 * units, "macs": 10**6 * units, "head": units == 8, "chosen": units == 9}
    return {"error": error, "low": error - 1, "high": error + 1, "command": f"howdeep cut r --first {units}", **cost}


def _answer(route: Route) -> dict[str, Any]:
    gates = asked(route.request)["gates"]
    units, closed = len(gates), gates.count(None)
    left = units - closed
    paths = {
        "total": f"{2**left:,}",
        "log2": left,
        "of": f"{2**units:,}",
        "shortest": 0,
        "longest": left,
        "mean": left / 2,
    }
    answer = {
        "n": 2,
        "error_percent": closed / 100,
        "low": 0.0,
        "high": 60.0,
        "change": closed / 100,
        "change_low": -1.0,
        "change_high": 2.0,
        "not_finite": 0,
        "closed": closed,
        "units": units,
        "kendall_tau": None,
        "paths": paths,
        "macs": left * 10**6,
        "macs_all": units * 10**6,
        "ms": left / 10,
        "ms_all": units / 10,
        "wrong": [],
        "newly_wrong": [],
        "newly_right": [],
        "watched": [],
        "upload": None,
        "seconds": closed / 7,
    }
    return {"answer": answer, "figures": {}}
