"""Two ends of a TCP connection that check every byte: `answer HOST PORT`, `ask HOST PORT ROUNDS`.

A question is 1 to 5000 bytes, now and then 100,000; the answer is the same bytes, each exclusive-ored with 0x5a. `ask` prints how many
bytes it sent and received.
"""

import random
import socket
import sys

FLIP = bytes(value ^ 0x5A for value in range(256))


def take(sock, length):
    parts = []
    while length > 0:
        part = sock.recv(min(length, 1 << 16))
        if not part:
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def answer(sock):
    while True:
        head = take(sock, 4)
        if head is None:
            return
        question = take(sock, int.from_bytes(head, "little"))
        sock.sendall(question.translate(FLIP))


def ask(sock, rounds):
    dice = random.Random(7)
    sent = received = 0
    for number in range(rounds):
        length = 100_000 if number % 97 == 50 else dice.randint(1, 5000)
        question = dice.randbytes(length)
        sock.sendall(length.to_bytes(4, "little") + question)
        if take(sock, length) != question.translate(FLIP):
            sys.exit(f"round {number}: another answer than expected")
        sent += length + 4
        received += length
    print(sent, received)


mode, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
if mode == "answer":
    with socket.create_server((host, port)) as listener:
        connection, _ = listener.accept()
        with connection:
            answer(connection)
else:
    with socket.create_connection((host, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ask(connection, int(sys.argv[4]))
