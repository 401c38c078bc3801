"""Real agent programs, run through relay and simulator: `python -m harness compat`.

Nouns: a *driver* knows one program; a *variant* is one way to run it (a row); a *scenario* is what
it is asked to do and what goes wrong meanwhile (a column); a *cell* is one run; its *evidence* is
what it left on both sides of the relay, and the *verdict* what is wrong with that.

Drivers, scenarios and verdicts are said and decided without I/O. `install`, `agent_process`
and `cell` act.
"""
