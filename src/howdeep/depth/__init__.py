"""How deep? What depth costs, what it brings, which depth fits, and a shallower network from a trained one."""
