"""Recording: a relay that serves as usual, and writes down what both its sides say.

`recorder` stands in the relay's seams, `tape` keeps one request and its answer, `worker` takes them
to a process of its own, in which `writer` brings them to the disk without what is secret.
"""
