"""OCPI's objects, as dicts: what each version has, and how it writes what all have.

A module per version has two tables of pure functions by the name of our message: `TO` makes the version's object of
ours, `FROM` ours of the version's. Ours is the JSON of the message in evbridge.v1: the shape of 2.2.1 with what 2.3.0
adds.
"""
