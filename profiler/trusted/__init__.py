"""`--trust`: the command runs again in a process of its own, with limits, in which a file's code may run.

`options` gives commands the flag, `parent` starts the process and says how it ended, `child` is what runs in it, and
`linux` is what only that system can take from a process. It is no sandbox: see docs/security.md.
"""
