"""What mpirun calls for ssh. usage: rsh-client.py PORT HOST COMMAND..."""
import os
import socket
import sys

with socket.create_connection((sys.argv[2], int(sys.argv[1]))) as connection:
    connection.sendall((' '.join(sys.argv[3:]) + '\n').encode())
    while data := connection.recv(65536):
        os.write(1, data)
