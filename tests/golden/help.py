"""Write the golden help texts: what ``howdeep COMMAND --help`` prints at 80 columns."""

import contextlib
import io
import os
from pathlib import Path

if __name__ == "__main__":
    os.environ |= {"COLUMNS": "80", "NO_COLOR": "1"}
    from howdeep import cli
    from howdeep.commands import COMMANDS
    from howdeep.commands.overview import overview

    folder = Path(__file__).parent / "help"
    folder.mkdir(exist_ok=True)
    for command in COMMANDS:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            cli.run([command, "--help"])
        (folder / f"{command}.txt").write_text(printed.getvalue())
    (folder / "overview.txt").write_text(f"{overview()}\n")
