"""The process between a subreaper and a command that Landlock and seccomp hold, by the `sandlock` library.

Run as a program (`python -I -m services.workers.launcher NOTES STATUS`), never imported by the worker: the
library's supervisor has threads.
"""
