"""UDP between two ends that check every byte: `answer HOST PORT`, `ask HOST PORT ROUNDS`, `stream HOST PORT COUNT`, `until-refused HOST PORT`.

A question is a number of 4 bytes and 0 to 1400 more, now and then up to the largest datagram there is; the answer is the same number and the
other bytes, each exclusive-ored with 0x5a. A question without an answer is asked again. `answer` takes questions until one says so (number
0xffffffff), and then prints how many it took and how many came behind a later one.
"""

import random
import socket
import sys
import time

FLIP = bytes(value ^ 0x5A for value in range(256))
LARGEST = 65507
LAST = b"\xff\xff\xff\xff"
SILENT = 1 << 31  # a number with this bit wants no answer


def family_of(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def answer(sock):
    taken = late = 0
    newest = -1
    while True:
        question, sender = sock.recvfrom(LARGEST)
        if question[:4] == LAST:
            print(taken, late)
            return
        number = int.from_bytes(question[:4], "little")
        taken += 1
        if number & SILENT:
            late += number < newest
            newest = max(newest, number)
        else:
            sock.sendto(question[:4] + question[4:].translate(FLIP), sender)


def ask(sock, rounds):
    dice = random.Random(7)
    again = sent = 0
    sock.settimeout(1)
    for number in range(rounds):
        length = dice.randint(1400, LARGEST - 4) if number % 97 == 50 else dice.choice((0, 4, 60, dice.randint(0, 1400)))
        if number == 500:
            length = LARGEST - 4
        question = number.to_bytes(4, "little") + dice.randbytes(length)
        expected = question[:4] + question[4:].translate(FLIP)
        sock.send(question)
        while True:
            try:
                reply = sock.recv(LARGEST)
            except TimeoutError:
                again += 1
                sock.send(question)
                continue
            if reply == expected:
                break
            if reply[:4] == question[:4] or int.from_bytes(reply[:4], "little") > number:
                sys.exit(f"question {number} of {len(question)} bytes: a wrong answer of {len(reply)}")
        sent += len(question)
    sock.send(LAST)
    print(sent, again)


def stream(sock, count):
    for number in range(count):
        sock.send((SILENT | number).to_bytes(4, "little") + bytes(60))
        if number % 16 == 0:
            time.sleep(0.0002)
    time.sleep(0.3)
    sock.send(LAST)


def until_refused(sock):
    """Asks until the kernel says that nobody is there. Says so when it is well under way."""
    sock.settimeout(0.2)
    number = 0
    while True:
        try:
            sock.send(number.to_bytes(4, "little"))
            sock.recv(LARGEST)
            number += 1
            if number == 1000:
                print("going", flush=True)
        except TimeoutError:
            pass
        except ConnectionRefusedError:
            print("refused", number)
            return


def main():
    what, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with socket.socket(family_of(host), socket.SOCK_DGRAM) as sock:
        if what == "answer":
            sock.bind((host, port))
            answer(sock)
            return
        sock.connect((host, port))
        if what == "ask":
            ask(sock, int(sys.argv[4]))
        elif what == "stream":
            stream(sock, int(sys.argv[4]))
        else:
            until_refused(sock)


main()
