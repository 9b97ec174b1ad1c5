#!/usr/bin/env python3
"""A network that fails: forwards connections on loopback to the port given and spoils replies by a seed.

usage: fault_proxy.py PORT FAULTS, of which FAULTS is a list of "cut", "delay" and "corrupt"; half of the
connections fare well. It prints its port and ends with its standard input.
"""
import random
import socket
import sys
import threading
import time

TARGET, FAULTS = int(sys.argv[1]), sys.argv[2].split(",")
CHANCE, LOCK = random.Random(7), threading.Lock()


def pump(source, sink, spoil):
    try:
        while data := source.recv(65536):
            sink.sendall(spoil(data))
        sink.shutdown(socket.SHUT_WR)
    except (OSError, EOFError):
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def spoiler(fault, chance):
    def cut(data):
        if chance.random() < 0.5:
            raise EOFError
        return data[:len(data) // 2]

    def delay(data):
        time.sleep(0.05 + chance.random() * 0.3)
        return data

    def corrupt(data):
        data = bytearray(data)
        for _ in range(3):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(data)

    return {"cut": cut, "delay": delay, "corrupt": corrupt, "": lambda data: data}[fault]


def serve(client):
    with LOCK:
        fault = CHANCE.choice(FAULTS + [""] * len(FAULTS))
        chance = random.Random(CHANCE.random())
    try:
        upstream = socket.create_connection(("127.0.0.1", TARGET))
    except OSError:
        client.close()
        return
    for s in (client, upstream):
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threads = [threading.Thread(target=pump, args=(client, upstream, lambda data: data), daemon=True),
               threading.Thread(target=pump, args=(upstream, client, spoiler(fault, chance)), daemon=True)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    client.close()
    upstream.close()


listener = socket.create_server(("127.0.0.1", 0), backlog=64)
print(listener.getsockname()[1], flush=True)


def accept():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()
sys.stdin.read()
