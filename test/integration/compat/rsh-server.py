"""The far end of what stands for ssh under mpirun: runs the command lines that come in. usage: rsh-server.py PORT"""
import socket
import subprocess
import sys

with socket.create_server(('', int(sys.argv[1]))) as listener:
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile('r') as lines:
            command = lines.readline()
            subprocess.Popen(['sh', '-c', command], stdin=subprocess.DEVNULL, stdout=connection, stderr=connection)
