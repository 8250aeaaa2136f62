"""A connection that changes hands while it is busy: `holders HOST PORT ROUNDS ACTION`, against `exchange.py answer`.

Every byte is checked. Before the action it is busy for a second, in which the road changes; ROUNDS come after it. Actions: see `ACTIONS`.
"""

import os
import random
import socket
import struct
import sys
import threading
import time

FLIP = bytes(value ^ 0x5A for value in range(256))


def take(sock, length):
    parts = []
    while length > 0:
        part = sock.recv(min(length, 1 << 16))
        if not part:
            sys.exit("the stream ended too early")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def question(dice):
    length = 70_000 if dice.randrange(50) == 0 else dice.randint(1, 3000)
    return dice.randbytes(length)


def ask(sock, rounds, seed):
    dice = random.Random(seed)
    for number in range(rounds):
        text = question(dice)
        sock.sendall(len(text).to_bytes(4, "little") + text)
        if take(sock, len(text)) != text.translate(FLIP):
            sys.exit(f"round {number}: another answer than expected")


def wait(child):
    _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit(f"the child ended with {status:#x}")


def in_child(work):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child


def fork(sock, rounds):
    """The child goes on, then the parent again."""
    wait(in_child(lambda: ask(sock, rounds // 2, 2)))
    ask(sock, rounds // 2, 3)


def become(sock, rounds, env):
    os.set_inheritable(sock.fileno(), True)
    os.execve(sys.executable, [sys.executable, __file__, "fd", str(sock.fileno()), str(rounds)], env)


def exec_library(sock, rounds):
    """Another program, with the library."""
    become(sock, rounds, dict(os.environ))


def exec_stranger(sock, rounds):
    """Another program, without the library."""
    become(sock, rounds, {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"})


def dup(sock, rounds):
    """A copy goes on, the original is closed."""
    other = sock.dup()
    sock.close()
    ask(other, rounds, 2)


def passed(sock, rounds):
    """SCM_RIGHTS, to a process that was forked before it had the descriptor."""
    here, there = socket.socketpair()

    def work():
        _, fds, _, _ = socket.recv_fds(there, 1, 1)
        with socket.socket(fileno=fds[0]) as mine:
            ask(mine, rounds, 2)

    child = in_child(work)
    socket.send_fds(here, [b"x"], [sock.fileno()])
    wait(child)


def threads(sock, rounds):
    """One thread sends all of the questions while another takes the answers."""
    dice = random.Random(2)
    texts = [question(dice) for _ in range(rounds)]

    def send():
        for text in texts:
            sock.sendall(len(text).to_bytes(4, "little") + text)

    sender = threading.Thread(target=send)
    sender.start()
    for number, text in enumerate(texts):
        if take(sock, len(text)) != text.translate(FLIP):
            sys.exit(f"round {number}: another answer than expected")
    sender.join()


def half_close(sock, rounds):
    """The last questions are followed by the end of this direction; all of their answers still come, then the end."""
    dice = random.Random(2)
    texts = [dice.randbytes(1000) for _ in range(min(rounds, 40))]
    for text in texts:
        sock.sendall(len(text).to_bytes(4, "little") + text)
    sock.shutdown(socket.SHUT_WR)
    for text in texts:
        if take(sock, len(text)) != text.translate(FLIP):
            sys.exit("another answer than expected")
    if sock.recv(1):
        sys.exit("there is something after the last answer")


def reset(sock, rounds):
    """close() that resets the connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


ACTIONS = {
    "fork": fork,
    "exec-library": exec_library,
    "exec-stranger": exec_stranger,
    "dup": dup,
    "SCM_RIGHTS": passed,
    "threads": threads,
    "half-close": half_close,
    "reset": reset,
}

if sys.argv[1] == "fd":
    with socket.socket(fileno=int(sys.argv[2])) as inherited:
        ask(inherited, int(sys.argv[3]), 2)
else:
    host, port, count, action = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    with socket.create_connection((host, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        start = time.monotonic()
        while time.monotonic() - start < 1:
            ask(connection, 100, 1)
        ACTIONS[action](connection, count)
