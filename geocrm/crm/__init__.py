"""Customers, their sites, contacts, sales and interactions, and our places: read, written, recorded."""
