"""Real OpenAI-compatible servers, none of them ours, with the relay before them.

`python -m harness servers`: each is installed from the package index into a folder of its own,
started on loopback, and asked through the relay by the official SDK in both protocols, streamed and
whole. Nothing but the installation leaves this machine.

Nouns: a *kind* is one server program (`kinds`, one file each, with its pinned packages beside it);
a *row* is one wire of one of them; a *column* is one thing that is done through the relay.

`install` makes their folders, `running` starts them, `turns` asks and judges, `command` prints.
"""
