"""One turn: lease an account, send, hold, commit, stream; the attempt ladder.

A *turn* is one client request and its one answer; an *attempt* is one upstream request for it; a
*fault* is what went wrong upstream, as a value; the *ladder* says which attempt follows which;
the *hold* keeps events back until the first output; the *mover* carries committed bytes.
Knows trio; knows neither sockets nor files nor the web framework.
"""
