"""``howdeep fit`` on a clock of training steps, in a process that can be killed: python -m tests.search.fitting ….

A step of a network takes half a second per three units whatever this machine does meanwhile, and nothing else takes
time: not measuring, and not waiting, of which the seconds are written to standard error.
"""

import sys
from types import SimpleNamespace

from howdeep import cli
from howdeep.commands import training as commands
from howdeep.runtime.precision import Trial
from howdeep.search import candidates, phases
from howdeep.training import loop

STEP_SECONDS = 0.5


def main() -> int:
    worked, step = [0.0], loop.train_step

    def timed(engine, *given, **options):
        worked[0] += STEP_SECONDS * len(engine) / 3
        return step(engine, *given, **options)

    def trials(config, steps, tried=None) -> list[Trial]:
        return [Trial("fp32", "contiguous", STEP_SECONDS * len(steps.chain) / 3, 3, None, 0.0, 1)]

    loop.train_step, candidates.trials_of = timed, trials
    phases.time = SimpleNamespace(perf_counter=lambda: worked[0])
    commands.perf_counter = phases.time.perf_counter
    phases.Clock.excuse = lambda self, seconds: print(f"waited {seconds} s", file=sys.stderr)
    return cli.run(["fit", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
