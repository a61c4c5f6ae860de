"""The small process that stands between the worker and one command; needs only the standard library.

Run as a program (`main`), never imported by the worker. It reads one line of JSON, the order, from stdin;
starts the command in a session of its own; and when the command ends, its time is over, a bound is passed,
stdin closes or the worker dies, kills and reaps every descendant, whatever sessions and parents they gave
themselves. Then it writes one line of JSON and the output that was kept. As there is one for each command,
every orphan it inherits is that command's.
"""
