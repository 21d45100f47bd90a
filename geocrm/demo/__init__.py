"""The demo company: Cairnwell Outdoor Supply, generated with known truth on real geography.

`company` makes it (arrays and frames, no database), `load` puts it into a database, `scale` makes millions of
customers of the same kind for measurements. docs/methods/demo-company.md describes the business and its truth.
"""
