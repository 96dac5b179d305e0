"""The run folder: what is in it, its checkpoints, and TARGET, which opens it for a command."""
