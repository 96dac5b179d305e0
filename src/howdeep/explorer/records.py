"""What the page asks and what it receives: frozen records."""

from collections.abc import Sequence
from dataclasses import dataclass

from howdeep.analysis.routes import Route, places
from howdeep.chain import Chain
from howdeep.util.errors import UserError

HIGHEST_GATE = 2.0


@dataclass(frozen=True, kw_only=True)
class State:
    """Which units are open, how far, and in which order they stand."""

    gates: tuple[float | None, ...]
    """One per unit; None takes it out."""
    order: tuple[int, ...]
    """The unit that stands at each place, counted from 0."""

    @property
    def closed(self) -> list[int]:
        """The units that are out, counted from 0."""
        return [index for index, gate in enumerate(self.gates) if gate is None]

    @property
    def shuffled(self) -> bool:
        """Whether any unit stands at another's place."""
        return self.order != tuple(range(len(self.order)))

    def route(self, chain: Chain) -> Route:
        """Return the way of the images; links stay where they are."""
        at = places(chain)
        moved = {at[place]: (at[unit], self.gates[unit]) for place, unit in enumerate(self.order)}
        return tuple(moved.get(place, (place, 1.0)) for place in range(len(chain.body)))


def own_state(chain: Chain) -> State:
    """Return the network as it is: every unit with its own gate, at its own place."""
    gates = tuple(float(gate) for gate in chain.resolve(None))  # type: ignore[arg-type]
    return State(gates=gates, order=tuple(range(len(chain))))


def check_state(chain: Chain, state: State, like: Sequence[int | None]) -> None:
    """Refuse a state that this network cannot be in.

    Raises:
        UserError: A number is missing or out of range, a unit cannot be taken out, or cannot stand where it shall.
    """
    units = len(chain)
    if len(state.gates) != units or sorted(state.order) != list(range(units)):
        raise UserError(f"{len(state.gates)} gates and {len(state.order)} places for a network of {units} units")
    for index, gate in enumerate(state.gates):
        if gate is None and not chain.units[index].merge.removable:
            raise UserError(f"unit {index + 1} cannot be taken out: it changes the shape and has no shortcut")
        if gate is not None and not 0 <= gate <= HIGHEST_GATE:
            raise UserError(f"gate {gate:g} of unit {index + 1} is not allowed: 0 to {HIGHEST_GATE:g}")
    for place, unit in enumerate(state.order):
        if place != unit and (like[place] is None or like[place] != like[unit]):
            raise UserError(f"unit {unit + 1} cannot stand at place {place + 1}: the shapes differ")


@dataclass(frozen=True, kw_only=True)
class PathsLeft:
    """The paths through the branches that are open."""

    total: str
    """How many, exactly."""
    log2: float
    """Its logarithm."""
    of: str
    """How many the network has by itself."""
    shortest: int
    """Branches that the shortest path passes."""
    longest: int
    """And the longest."""
    mean: float
    """Mean over all paths."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One class that the network thinks likely."""

    name: str
    """Of the class."""
    probability: float
    """Now."""
    before: float
    """Of the network as it is."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """One image of the sample that somebody looks at."""

    image: int
    """Its place in the sample."""
    label: str
    """Its class."""
    top: tuple[Guess, ...]
    """Likeliest first."""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over the images of the sample, and how far it is from that of the network as it is: image by image."""

    value: float
    """Now."""
    change: float
    """Now minus before."""
    change_low: float | None
    """Lower end of the change's 95 % interval: paired, Student's; None with one image."""
    change_high: float | None
    """Upper end."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a network gets wrong in a state, and what it costs."""

    n: int
    """Images that are counted, the first ones of the sample."""
    of: int
    """Images of the sample; where that is more, the rest is under way."""
    error_percent: float
    """Share of wrong answers."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end."""
    change: float
    """Points of error more than the network as it is makes on the same images."""
    change_low: float
    """Lower end of the 95 % interval: paired."""
    change_high: float
    """Upper end."""
    loss: Mean | None
    """Cross-entropy in nats, which moves where no image changes sides; None where a logit is not finite."""
    probability: Mean | None
    """Probability of the right class, 0 to 1; None where a logit is not finite."""
    not_finite: int
    """Images with a logit that is not finite; they count as wrong."""
    closed: int
    """Units that are out."""
    units: int
    """Units there are."""
    kendall_tau: float | None
    """Kendall's τ of the order; None where nothing stands elsewhere."""
    paths: PathsLeft
    """Paths that are left."""
    macs: int
    """Multiply-adds per image that are left."""
    macs_all: int
    """Of the network as it is."""
    ms: float
    """Expected time of one image, one thread, in milliseconds: a sum of medians."""
    ms_all: float
    """Of the network as it is."""
    parameters: int
    """Trainable numbers that are left."""
    parameters_all: int
    """Of the network as it is."""
    wrong: tuple[int, ...]
    """Images that are wrong, by their place in the sample."""
    newly_wrong: tuple[int, ...]
    """Those that the network as it is gets right."""
    newly_right: tuple[int, ...]
    """The reverse."""
    confusion: tuple[tuple[int, ...], ...]
    """Images of a class (row) that were given a class (column); those with finite logits."""
    watched: tuple[Watched, ...]
    """The images that were asked for."""
    upload: tuple[Guess, ...] | None
    """What it says of the image that was dropped; None without one."""
    seconds: float
    """Time that this took."""
