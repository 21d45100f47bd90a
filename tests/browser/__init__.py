"""The web application in a real browser, on the API with a small demo company; nothing else is reachable."""
