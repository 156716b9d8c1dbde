"""Hostile model files, made by small functions, and a harness that watches what the command line does with each.

No file of the corpus is stored: every one is made anew in a test's own folder. `case.py` says what a case is; the
generators lie by kind (`pickles.py`, `archives.py`, ...), `catalogue.py` joins their tables. `watch.py` runs the
command line on a file in a child process, with an audit hook; `server.py` does so in forks of one process that has
imported everything, `fuzz.py` on mutated files.

    python tests/corpus make FOLDER [NAME ...]       write the files, to look at them
    python tests/corpus fuzz --count 20000 --seed 0  the long fuzzing run
"""
