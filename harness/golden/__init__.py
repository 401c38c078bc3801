"""Cassettes as golden answers: what a relay answered once, it is to answer again.

`again` lets a relay of today answer the requests of a cassette, with the cassette as its upstream;
`judging` says what it answers otherwise.
"""
