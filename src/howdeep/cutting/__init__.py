"""A shallower network from a trained one."""
