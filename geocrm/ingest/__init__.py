"""Files of customers, sales, interactions, places and areas → the database, and back out again.

`formats` reads any supported file as bounded chunks of text columns, `columns` matches, coerces and validates them,
`load` streams them through COPY and upserts set by set, `undo` takes a batch back.
"""
