"""A geographic CRM on PostGIS: customers, sales and territories, joined where they are."""

__version__ = "0.1.0"
