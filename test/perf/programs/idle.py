"""Two processes with many TCP connections between them that say nothing: the share of a CPU that the busier one takes, in percent.

idle.py CONNECTIONS SECONDS
"""

import os
import resource
import socket
import sys
import time

count, seconds = int(sys.argv[1]), float(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
address = listener.getsockname()


def idle(connections):
    for each in connections:
        each.sendall(b"x")
    for each in connections:
        assert each.recv(1) == b"x"
    time.sleep(0.5)  # whatever follows on the set-up
    before, began = time.process_time(), time.monotonic()
    time.sleep(seconds)
    return 100 * (time.process_time() - before) / (time.monotonic() - began)


read_end, write_end = os.pipe()
if os.fork() == 0:
    share = idle([socket.create_connection(address) for _ in range(count)])
    os.write(write_end, str(share).encode())
    os._exit(0)
mine = idle([listener.accept()[0] for _ in range(count)])
print("cpu_percent", max(mine, float(os.read(read_end, 100))))
