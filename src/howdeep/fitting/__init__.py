"""How deep? The search under budgets, and its answer."""
