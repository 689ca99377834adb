"""Runs a command in a terminal of its own: in-terminal.py COMMAND [ARGUMENT...]

What it writes to the terminal goes to stdout, what comes on stdin is typed. Exits with the command's code, or 128 + signal.
The last line of stderr is the command's pid, written at the start.
"""
import os
import pty
import select
import signal
import sys

pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
# A test that ends early must not leave the command behind: closing the terminal hangs it up.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
os.write(2, b"%d\n" % pid)
sources = [terminal, 0]
while terminal in sources:
    for source in select.select(sources, [], [])[0]:
        try:
            data = os.read(source, 65536)
        except OSError:
            data = b""  # Nobody has the terminal open any more.
        if not data:
            sources.remove(source)
        elif source == terminal:
            os.write(1, data)
        else:
            os.write(terminal, data)
status = os.waitpid(pid, 0)[1]
sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
