"""What tests of words share."""

import pytest


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are put together and not drawn, which takes most of the time of a report."""
    monkeypatch.setattr("howdeep.show.report.sections.picture", lambda chart, finding="": "")
