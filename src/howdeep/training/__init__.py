"""Training: recipes, the loop, exact resume, more than one device."""
