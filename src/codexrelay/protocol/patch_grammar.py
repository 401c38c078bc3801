"""The form of a patch: what `apply_patch`, the built-in tool, takes as its input.

A patch stands between `*** Begin Patch` and `*** End Patch` and says of each file that it is added
(`+` before each line), deleted, or updated: moved, or changed where `@@` and the kept lines say.
"""

from __future__ import annotations

from typing import Final

#: In Lark's notation, which the backend takes for the format of a custom tool (wire notes 2.3).
PATCH_GRAMMAR: Final = r"""
start: begin change+ end
begin: "*** Begin Patch" NEWLINE
end: "*** End Patch" NEWLINE?

change: add | delete | update
add: "*** Add File: " PATH NEWLINE new_line+
delete: "*** Delete File: " PATH NEWLINE
update: "*** Update File: " PATH NEWLINE move? hunk*
move: "*** Move to: " PATH NEWLINE

hunk: place+ line+ end_of_file? | line+ end_of_file?
place: "@@" (" " TEXT)? NEWLINE
new_line: "+" TEXT? NEWLINE
line: (" " | "+" | "-") TEXT? NEWLINE
end_of_file: "*** End of File" NEWLINE

PATH: /[^\r\n]+/
TEXT: /[^\r\n]+/
NEWLINE: /\r?\n/
"""
