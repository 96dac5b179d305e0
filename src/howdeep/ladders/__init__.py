"""Families of networks at several depths: trained side by side, and diagnosed."""
