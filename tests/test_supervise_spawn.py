"""Starting a worker: what comes for it in its first moment is not taken for the supervisor's."""

import signal
import subprocess
import sys

PROGRAM = """
import os, signal, socket, time
from corepy.supervise import spawn

reader, writer = socket.socketpair()
for end in (reader, writer):
    end.setblocking(False)
signal.set_wakeup_fd(writer.fileno())
signal.signal(signal.SIGTERM, lambda *_: None)


def become_worker(*_, **__):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(20)


spawn._become_worker = become_worker
pid = spawn.spawn([], {}, "", outlives=False)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
try:
    print(reader.recv(9))
except BlockingIOError:
    print("nothing")
os.kill(os.getpid(), signal.SIGTERM)  # its own it still hears
print(reader.recv(9))
"""


def test_a_signal_for_a_worker_that_is_not_yet_a_program_ends_that_one_alone():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split("\n")[:2] == [str(-signal.SIGTERM), "nothing"]
    assert done.stdout.split("\n")[2] == repr(bytes([signal.SIGTERM]))
