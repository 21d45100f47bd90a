"""The HTTP API: a route is parse, call, return."""
