"""The database: engine and session scope, models by subject, migrations, named SQL."""
