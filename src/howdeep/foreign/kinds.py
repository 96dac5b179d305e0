"""What a file is, by its content: names of files lie, and a download that failed is a page of HTML."""

import struct
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from howdeep.errors import UserError

HEAD = 512
"""Bytes at the start of a file that tell what it is."""
UNPACK = "unpack it first"
KINDS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the weights themselves: fetch them with git lfs pull"),
    (b"\x1f\x8b", f"is compressed with gzip; {UNPACK}"),
    (b"BZh", f"is compressed with bzip2; {UNPACK}"),
    (b"\xfd7zXZ", f"is compressed with xz; {UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"is compressed with Zstandard; {UNPACK}"),
    (b"7z\xbc\xaf", f"is a 7-Zip archive; {UNPACK}"),
    (b"Rar!", f"is a RAR archive; {UNPACK}"),
    (b"\x89HDF", "is HDF5, as Keras writes it; expected a PyTorch checkpoint or safetensors"),
    (b"\x93NUMPY", "is a NumPy array; expected a PyTorch checkpoint or safetensors"),
    (b"GGUF", "is GGUF; expected a PyTorch checkpoint or safetensors"),
    (b"\x89PNG", "is a PNG image, not weights"),
    (b"\xff\xd8\xff", "is a JPEG image, not weights"),
    (b"%PDF", "is a PDF document, not weights"),
)
"""How files begin that are often taken for weights, and what is said of them."""
ZIP, PICKLE = b"PK", b"\x80"
"""How PyTorch's two formats begin."""
OLDEST = {"pickle", "storages", "tensors"}
"""Entries of the archive that PyTorch wrote before version 0.2."""
SHOWN = 3
"""Entries of an archive that an error lists."""


def is_safetensors(path: Path) -> bool:
    """Return whether a file is safetensors, whatever its name: a length, then that much JSON.

    Raises:
        UserError: The file is something else than weights, which the error names.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    opens = head[8:9] == b"{"
    if opens and struct.unpack("<Q", head[:8])[0] <= path.stat().st_size - 8:
        return True
    _require_weights(path, head)
    return opens and not head.startswith((ZIP, PICKLE))


def _known(head: bytes) -> str | None:
    """Return what a file is that is certainly no weights; None where it may be."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        return "is empty: truncated or damaged"
    if text.startswith(b"<"):
        return "is a page of HTML or XML, not weights: a download that failed?"
    if text.startswith((b"{", b"[")):
        return "is JSON, not weights; an index of shards names the files that hold them"
    return next((what for start, what in KINDS if head.startswith(start)), None)


def _require_weights(path: Path, head: bytes) -> None:
    """Refuse what is no checkpoint, and archives that reach outside themselves."""
    if what := _known(head):
        raise UserError(f"{str(path)!r} {what}")
    names = _archive_names(path, head)
    for name in names:
        if ".." in PurePosixPath(name.replace("\\", "/")).parts or name.startswith("/"):
            raise UserError(f"{str(path)!r} is refused: its entry {name!r} points outside the archive")
    if any(PurePosixPath(name).name == "constants.pkl" for name in names):
        raise UserError(f"{str(path)!r} is a TorchScript program; save its state_dict instead")
    if any(PurePosixPath(name).name == "archive_format" for name in names):
        raise UserError(f"{str(path)!r} is a program of torch.export; save the network's state_dict instead")
    if set(names) >= OLDEST:
        cure = "load it with torch.load where you trust it, and save its state_dict"
        raise UserError(f"{str(path)!r} is of PyTorch's first format, which needs code of its own to be read; {cure}")
    if names and not any(PurePosixPath(name).name == "data.pkl" for name in names):
        raise UserError(f"{str(path)!r} is an archive of {', '.join(map(repr, names[:SHOWN]))}; {UNPACK}")


def _archive_names(path: Path, head: bytes) -> list[str]:
    try:
        if head.startswith(ZIP) and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return archive.namelist()
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                return archive.getnames()
    # Damaged archives: both libraries raise whatever their parsing of bytes ends in.
    except (zipfile.BadZipFile, tarfile.TarError, ValueError, LookupError, RuntimeError, EOFError, struct.error):
        raise UserError(f"{str(path)!r} is truncated or damaged") from None
    return []
