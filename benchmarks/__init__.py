"""The relay beside yardsticks: the same work through each, in one interleaved run.

`python -m benchmarks`, or `make bench`; `README.md` says what is measured and how to read it.

A *subject* is something that is measured: the stub itself (direct), a yardstick, a relay. The
*stub* (`stub.c`) answers in the backend's place, the *load generator* (`load.c`) is the client. A
*measurement* is one piece of work, and its *metrics* are what is read off it: measured once per
round and subject, folded over the rounds, shown as the rows of one *table* and judged against the
speed *targets*.

Everything stays on 127.0.0.1. Needs Linux (/proc, epoll) and a C compiler.
"""
