"""A PostgreSQL server of its own, in a temporary folder."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

PASSWORD = "p@ss/w0rd:&é%"


@dataclass(frozen=True)
class Server:
    """A server that can be stopped and started."""

    bin: Path
    folder: Path
    port: int
    account: str | None

    @property
    def url(self) -> str:
        """What --storage is."""
        return f"postgresql+psycopg://howdeep:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str) -> None:
        as_whom = {} if self.account is None else {"user": self.account, "extra_groups": []}
        asked = [str(self.bin / program), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(asked, check=True, stdout=subprocess.DEVNULL, cwd=self.folder, timeout=100, **as_whom)

    def start(self) -> None:
        listen = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self.run("pg_ctl", "start", "-w", "-o", listen, "-l", str(self.folder / "log"))

    def stop(self) -> None:
        self.run("pg_ctl", "stop", "-w", "-m", "immediate")


def programs() -> Path | None:
    """Return the folder of the newest server's programs."""
    found = [Path(folder) for folder in [os.path.dirname(shutil.which("initdb") or "")] if folder]
    return max([*Path("/usr/lib/postgresql").glob("*/bin"), *found], default=None, key=str)


@contextmanager
def running() -> Iterator[Server]:
    """Start a server that asks for a password; it is not reachable from elsewhere."""
    pytest.importorskip("psycopg", reason="no driver: pip install 'howdeep[postgresql]'")
    place = programs()
    if place is None:
        pytest.skip("no PostgreSQL server is installed")
    account = "postgres" if os.geteuid() == 0 else None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="howdeep-postgresql-", dir="/tmp"))  # not below what only root may enter
    try:
        (folder / "password").write_text(PASSWORD)
        if account is not None:
            for path in (folder, folder / "password"):
                shutil.chown(path, account)
        found = Server(place, folder, port, account)
        found.run("initdb", "-U", "howdeep", "-A", "scram-sha-256", "--pwfile", str(folder / "password"), "-E", "UTF8")
        found.start()
        yield found
        found.stop()
    finally:
        shutil.rmtree(folder)
