"""Payments: the gateways' own tables, races, and what survives."""
