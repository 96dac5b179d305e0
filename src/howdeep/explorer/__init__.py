"""The interactive page: take units out of a trained network and see at once what happens."""
