"""Two ends of a TCP connection that stream to each other at the same time: `duplex answer|ask HOST PORT SECONDS SEED`.

Every eight bytes of a stream are the number of their place in it (with a mark of the direction), so that whatever is lost, doubled or
exchanged on the way is found, and said where. Sizes and pauses are drawn. After SECONDS the asking end ends its stream, the answering end then
its own. Each prints how many bytes it sent and received; `ended early` when the other end's stream is not whole words.
"""

import array
import random
import socket
import sys
import threading
import time

MARKS = {"ask": 0x5A << 56, "answer": 0xA5 << 56}


def words(mark, start, count):
    return array.array("Q", range(mark + start, mark + start + count)).tobytes()


def size(dice):
    kind = dice.randrange(32)
    if kind == 0:
        return dice.randint(1, 200_000)
    return dice.randint(1, 6000 if kind < 8 else 300)


def send(sock, mark, dice, enough, totals):
    at = 0
    block, block_at = b"", 0
    while not enough():
        length = size(dice)
        if at + length > block_at + len(block):
            block_at = at & ~7
            block = words(mark, block_at // 8, 64 << 10)
        sock.sendall(block[at - block_at : at - block_at + length])
        at += length
        kind = dice.randrange(256)
        if kind < 16:  # the longest pauses let all that was sent arrive
            time.sleep(dice.random() * (0.05 if kind == 0 else 0.002))
    rest = -at % 8
    sock.sendall(words(mark, at // 8, 1)[8 - rest :])
    totals["sent"] = at + rest
    sock.shutdown(socket.SHUT_WR)


def check(expected, got, at):
    """Says where the first wrong byte is, and which word of the stream was found there."""
    wrong = next(place for place, (one, other) in enumerate(zip(expected, got)) if one != other)
    text = got[wrong : wrong + 32].hex(" ", 8)
    sys.exit(f"byte {at + wrong}: {text} instead of {expected[wrong : wrong + 32].hex(' ', 8)}")


def receive(sock, mark, dice):
    at = 0
    while True:
        part = sock.recv(dice.choice((300, 5000, 65536)))
        if not part:
            return at
        start = at // 8
        expected = words(mark, start, len(part) // 8 + 2)[at - start * 8 :][: len(part)]
        if part != expected:
            check(expected, part, at)
        at += len(part)


def run(sock, mode, seconds, seed):
    other = "answer" if mode == "ask" else "ask"
    totals = {}
    over = threading.Event()
    start = time.monotonic()
    enough = (lambda: time.monotonic() - start > seconds) if mode == "ask" else over.is_set
    sender = threading.Thread(target=send, args=(sock, MARKS[mode], random.Random(seed), enough, totals), daemon=True)
    sender.start()
    received = receive(sock, MARKS[other], random.Random(seed + 1))
    over.set()
    sender.join()
    print(totals["sent"], received)


def connect(host, port):
    """The link may be down just now, which is no fault of the stream's: ten seconds long it is tried again."""
    for attempt in range(100):
        try:
            return socket.create_connection((host, port))
        except OSError:
            if attempt == 99:
                raise
            time.sleep(0.1)


mode, host, port, seconds, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
if mode == "answer":
    with socket.create_server((host, port)) as listener:
        connection, _ = listener.accept()
else:
    connection = connect(host, port)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
with connection:
    run(connection, mode, seconds, seed)
