"""What stands before the names of a network's weights: the modules of others that it was a part of."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from howdeep.foreign.reading import is_average


@dataclass(frozen=True)
class Own:
    """Which names of a file are those of a network."""

    names: dict[str, str]
    """Theirs without what stands before it, by their whole name."""
    outside: dict[str, str]
    """The other names of the file, and why they are not the network's."""
    again: tuple[str, ...]
    """Prefixes under which the file holds the whole network once more."""


def own_names(names: Iterable[str], place: Callable[[str], str | None]) -> Own:
    """Return the names that belong to a network: those behind the prefix that gives most of its weights their places.

    A classifier, or another part, may stand outside that prefix where nothing inside takes its place
    (``backbone.conv1.weight`` beside ``fc.weight``).

    Args:
        names: The names of a file, dotted.
        place: Which of the network's weights a name without its prefix is; None for none.
    """
    names = list(names)
    found: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        for prefix in _prefixes(name):
            ours = place(name.removeprefix(prefix))
            if ours is not None:
                found[prefix].setdefault(ours, name)
    # Where two prefixes give as many weights, those that were trained count, then those that come first.
    main = max(found, key=lambda prefix: (len(found[prefix]), not is_average(prefix)), default="")
    apart = _apart(found, main)
    inside = {name: name.removeprefix(main) for name in names if name.startswith(main)} | apart
    why = f"outside {main.removesuffix('.')!r}"
    again = [prefix for prefix in found if prefix != main and len(found[prefix]) == len(found[main])]
    return Own(inside, {name: why for name in names if name not in inside}, tuple(again))


def tell_of_others(file: Path, again: tuple[str, ...], tell: Callable[[str], None]) -> None:
    """Say that a file holds the network more than once, and how the other is taken."""
    if again:
        places = " and ".join(repr(prefix.removesuffix(".")) for prefix in again)
        tell(f"{file}: the network is there again under {places}, left; --key {again[0].removesuffix('.')} takes that")


def _prefixes(name: str) -> Iterator[str]:
    """Yield what may stand before a name: nothing, or any number of its first parts with their dots."""
    parts = name.split(".")
    for count in range(len(parts)):
        yield "".join(f"{part}." for part in parts[:count])


def _apart(found: dict[str, dict[str, str]], main: str) -> dict[str, str]:
    """Return the names of the part that stands outside the main prefix, without theirs.

    Such a prefix gives no weight that the main one gives: a teacher's or an average's are not mixed in.
    """
    best: dict[str, str] = {}
    for prefix, places in found.items():
        outside = {ours: theirs for ours, theirs in places.items() if not theirs.startswith(main)}
        if len(outside) > len(best) and outside.keys().isdisjoint(found[main]):
            best = {theirs: theirs.removeprefix(prefix) for theirs in outside.values()}
    return best
