"""Runs a command in a terminal of its own: in-terminal.py COMMAND [ARGUMENT...]

What it writes to the terminal goes to stdout, what comes on stdin is typed. Exits with the command's code, or 128 + signal.
The last line of stderr is the command's pid, written at the start.

The terminal is as large as TERMINAL_SIZE says, COLUMNSxROWS; without it its size is not known. With several sizes, a blank between
two, each SIGUSR1 makes it as large as the next one.
"""
import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios

sizes = os.environ.pop("TERMINAL_SIZE", "").split()


def next_size(*_):
    if sizes:
        columns, rows = map(int, sizes.pop(0).split("x"))
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


ready, go = os.pipe()
pid, terminal = pty.fork()
if pid == 0:
    os.close(go)
    os.read(ready, 1)  # Until the size is right.
    os.close(ready)
    os.execvp(sys.argv[1], sys.argv[1:])
next_size()
os.close(ready)
os.close(go)
# A test that ends early must not leave the command behind: closing the terminal hangs it up.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
signal.signal(signal.SIGUSR1, next_size)
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
