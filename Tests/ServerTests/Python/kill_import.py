"""Kills `tomos import` (SIGKILL) as soon as it has reported so many instances, then lists what the archive holds.

  kill_import.py TOMOS FOLDER DATA COUNT     prints {"reported": n, "listed": n, "killed": bool}
"""
import json
import os
import pty
import re
import signal
import subprocess
import sys

tomos, folder, data, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
pid, terminal = pty.fork()          # progress is drawn often only on a terminal
if pid == 0:
    os.execv(tomos, [tomos, "import", "--data", data, folder])
said, reported, killed = "", 0, False
while True:
    try:
        chunk = os.read(terminal, 4096)
    except OSError:
        break
    if not chunk:
        break
    said += chunk.decode(errors="replace")
    reported = max([0] + [int(n) for n in re.findall(r"(\d+)/\d+", said)])
    if not killed and reported >= count:
        os.kill(pid, signal.SIGKILL)
        killed = True
_, status = os.waitpid(pid, 0)
listing = json.loads(subprocess.run([tomos, "list", "--json", "--data", data], check=True, capture_output=True).stdout)
print(json.dumps({"reported": reported, "listed": sum(s["instances"] for s in listing["series"]), "killed": os.WIFSIGNALED(status)}))
