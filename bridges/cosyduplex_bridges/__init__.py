"""Doors for clients of other servers: each translates one dialect to the session engine, and no more."""
