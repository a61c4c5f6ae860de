"""What happens next, as pure functions: no I/O, no clock, no randomness.

A *happening* is what the conductor tells the machine (an attempt ended, a candidate was
stacked, the clock reads so much). `decide` answers with the *events* to append to the
journal; `fold` is what an event does to the state; `wanted` reads from a state which
*commands* should be under way. The conductor appends, folds, and keeps the wanted
commands going; after a crash it does the same from the stored state, which is why every
command is idempotent.

    run, happening --decide--> events --append--> journal --fold--> run' --wanted--> commands
"""
