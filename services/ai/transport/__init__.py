"""What lies between a provider's wire format and the wire, the same for all providers.

``adapter``: the course of a call. ``clients``: the SDKs' clients. ``http``: the session under them. ``failures``: what went
wrong. It takes long to import, so only the adapters do, which are imported themselves when they are first wanted.
"""
