"""Alerts: what failed and what recovered becomes messages, which reach every channel once, whatever dies or is down.

change (something failed or recovered) -> message (all of one run) -> outbox (the store) -> delivery (a channel's log).
Knows nothing of Dagster: what is observed there comes in as changes.
"""
