"""The only reader of YAML, environment and flags.

`load` is what a command calls. A *key* is one setting with its place in the tree; a *source* is the
file, the environment or the flags. A source returns what it was *given*; what is wrong with it
becomes a `Problem`, so that all of them are reported together.

`settings` composes the classes that the packages below declare; `keys` is the table of all keys and
`values` says what each one takes; `yaml_file`, `environment` and `flags` are the sources; `loading`
merges them; `instances` fills in what a further block of the backend leaves to the first; `rules`
hold between keys; `folders` turns paths into places on this machine. `dropped` lists keys that are
refused with a reason; `example` and `shown` tell the owner what there is and what is in force;
`live` reads it all again while the relay runs.
"""

from codexrelay.config.folders import legacy_folders
from codexrelay.config.loading import Loaded, load
from codexrelay.config.settings import BackendsSettings, ServerSettings, Settings

__all__ = ["BackendsSettings", "Loaded", "ServerSettings", "Settings", "legacy_folders", "load"]
