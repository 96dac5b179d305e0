"""What tests of a shared search have in common."""

from collections.abc import Iterator

import pytest
from tests.search import servers


@pytest.fixture(scope="session")
def server() -> Iterator[servers.Server]:
    """A PostgreSQL server; tests skip where there is none."""
    with servers.running() as found:
        yield found
