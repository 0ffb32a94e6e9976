"""Rates, rehydration and memory, measured beside peers in one run: `python -m bench`.

    bank, structs                      the domain that every row runs, with dataclasses and with msgspec Structs
    dispatching, rehydrating, ...      what is measured of Rehydrate, one module per noun
    places, preloading                 the stores that rows have in common, and what is in them before the clock runs
    peer_*, floor                      what stands beside it: another library, raw SQLite, a loop that does no work
    stock                              a store that is filled once, for a row whose contestants only read it
    rows, families                     which of them stand in one row, and the ratios that were aimed at
    running, alone, summary, report    each measurement in a process of its own, medians, the table

`docs/performance.md` says exactly what each of them does.
"""
