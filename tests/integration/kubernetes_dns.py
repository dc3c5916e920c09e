"""Run in a network of its own: DNS as in a cluster, a Triton behind the name, and the gateway.

``python kubernetes_dns.py ENVOY OPTION...`` prints what the gateway responds.
"""

import contextlib
import http.client
import http.server
import socket
import struct
import subprocess
import sys
import threading
import time

NAME, ADDRESS = "triton.oneflow-serving.svc.cluster.local", "127.0.0.9"
RESOLV_CONF = """\
nameserver 127.0.0.53
search oneflow-serving.svc.cluster.local svc.cluster.local cluster.local
options ndots:5
"""
#: Another than 8000, at which the gateway listens in this network, too.
TRITON_PORT = 8888
SECONDS = 20
NO_SUCH_NAME = 3


def answer(question):
    """Answer a question of DNS: the one name has the one address, and there is no other."""
    labels, at = [], 12
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode())
        at += 1 + length
    (kind,) = struct.unpack(">H", question[at + 1 : at + 3])
    found = ".".join(labels) == NAME
    record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton(ADDRESS)
    records = [record] if found and kind == 1 else []
    flags = 0x8580 | (0 if found else NO_SUCH_NAME)
    head = question[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0)
    return head + question[12 : at + 5] + b"".join(records)


def serve_dns():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.53", 53))
        while True:
            question, client = server.recvfrom(512)
            server.sendto(answer(question), client)


class Triton(http.server.BaseHTTPRequestHandler):
    """Says that it is ready."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ready")

    def log_message(self, *words):
        pass


def ask():
    client = http.client.HTTPConnection("127.0.0.1", 8000, timeout=SECONDS)
    with contextlib.closing(client):
        client.request("GET", "/v2/health/ready")
        response = client.getresponse()
        return response.status, response.read().decode()


def main(command):
    triton = http.server.ThreadingHTTPServer((ADDRESS, TRITON_PORT), Triton)
    for serve in (serve_dns, triton.serve_forever):
        threading.Thread(target=serve, daemon=True).start()
    envoy = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    said = None
    try:
        deadline = time.monotonic() + SECONDS
        while said != (200, "ready") and time.monotonic() < deadline:
            time.sleep(0.1)
            with contextlib.suppress(OSError):
                said = ask()
    finally:
        envoy.kill()
        envoy.wait()
    print(said)


if __name__ == "__main__":
    main(sys.argv[1:])
