"""The newcomer's first minute: simulator and relay, shown at work.

Nouns: a *scene* is one thing that the relay does for a client, played for real; a *fact* is what
was observed and whether it is as it should be; the *stage* is what every scene plays on: simulated
backend, relay process, client, page; the *page* is what the reader sees.

`scenes` tells what is played and what must come of it, `requests` what is asked, `facts` judges;
`client` is the agent, `shell` the relay's owner, `tap` the backend that keeps what it sent,
`printing` the page; `running` starts and plays it all. `mixed` is a scene with backends and relays
of its own, and a command too.
"""
