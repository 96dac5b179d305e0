"""Networks of several depths: trained side by side, diagnosed, searched under budgets."""
