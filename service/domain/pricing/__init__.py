"""What charging costs, and why: sessions and tariffs in, explanations out. Pure and decimal; no clock, no float.

    session.py   a plan, or periods as in a CDR -> periods in seconds and kWh
    tariff.py    a Tariff -> elements whose restrictions can be asked
    clock.py     the local time of day, with the changes of the clock
    pieces.py    periods -> pieces in which every restriction holds throughout, or not at all
    quote.py     pieces x elements -> lines, step_size, sums, bounds: the Quote
    lint.py      what is wrong with a tariff, or may surprise
    audit.py     a CDR against the quote of its own periods
    table.py     a Quote as text for people

Which rule is OCPI's and which was chosen stands at the top of pricing.proto.
"""
