"""The clients of the API, built as an app would install them."""
