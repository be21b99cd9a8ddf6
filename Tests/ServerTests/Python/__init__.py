"""Conversations of an independent client with a really running server."""
