"""Chains handed over to a runtime: as files, and how long a forward pass takes there."""
