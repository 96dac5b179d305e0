"""``python -m howdeep``, which is also what ``torchrun -m howdeep`` runs."""

from howdeep.cli import main

if __name__ == "__main__":
    main()
