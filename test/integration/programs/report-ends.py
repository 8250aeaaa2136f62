"""The two ends of a connection, step by step, for tests of socket-run's reports.

echo PORT                    sends back what comes, until the end
talk PORT COUNT SIZE         sends COUNT messages to an echo and reads them back
read PORT                    answers three greetings, says "ready", waits for SIGUSR1, reads to the end
write PORT BYTES             greets three times, sends BYTES, says "sent PORT", waits for SIGUSR1, closes
refuse PORT WHAT             two messages to an echo, then WHAT: option, urgent, splice; then two more
"""
import os, signal, socket, sys

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
mode, port = sys.argv[1], int(sys.argv[2])


def accept():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener.accept()[0]


def say(text):
    print(text, flush=True)


def talk(s, count, size):
    for _ in range(count):
        s.sendall(b"x" * size)
        left = size
        while left:
            left -= len(s.recv(left))


if mode == "echo":
    s = accept()
    while data := s.recv(65536):
        s.sendall(data)
elif mode == "read":
    s = accept()
    for _ in range(3):
        s.sendall(s.recv(1))
    say("ready")
    signal.sigwait([signal.SIGUSR1])
    total = 0
    while data := s.recv(65536):
        total += len(data)
    say(f"read {total}")
else:
    s = socket.create_connection(("127.0.0.1", port))
    if mode == "talk":
        talk(s, int(sys.argv[3]), int(sys.argv[4]))
    elif mode == "write":
        talk(s, 3, 1)
        s.sendall(os.urandom(int(sys.argv[3])))
        say(f"sent {s.getsockname()[1]}")
        signal.sigwait([signal.SIGUSR1])
    elif mode == "refuse":
        talk(s, 4, 100)
        what = sys.argv[3]
        if what == "option":
            s.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP
        elif what == "urgent":
            s.send(b"!", socket.MSG_OOB)
            talk(s, 0, 0)
        elif what == "splice":
            r, w = os.pipe()
            os.write(w, b"x" * 10)
            os.splice(r, s.fileno(), 10)
            s.recv(10, socket.MSG_WAITALL)
        talk(s, 2, 100)
    s.close()
