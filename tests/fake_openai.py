#!/usr/bin/env python3
"""A server for tests that streams answers as OpenAI's does, on loopback, at a pace that is known.

The first part of the path says how it behaves: http://127.0.0.1:PORT/BEHAVIOUR/v1/chat/completions. It prints
its port and ends with its standard input. With a PEM of a certificate and its key it speaks TLS. A good
answer is EIGHT pieces, the first after 60 ms, the others 10 ms apart.
"""

import http.server
import json
import ssl
import sys
import threading
import time

FIRST, NEXT, EIGHT = 0.06, 0.01, 8
KEY = "Bearer a-key"


def event(text, finish=None):
    doc = {"choices": [{"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}]}
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def head(self, status, kind, length=None):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def whole(self, status, doc):
        data = json.dumps(doc).encode()
        self.head(status, "application/json", len(data))
        self.wfile.write(data)

    def stream(self, behaviour, body):
        self.head(200, "text/event-stream; charset=utf-8")
        self.chunk(b": hello\n\n" + event("").replace(b"{}", b'{"role": "assistant"}', 1))
        time.sleep(FIRST)
        for i in range(0 if behaviour == "empty" else EIGHT):
            if behaviour == "silent" and i == 3:
                time.sleep(30)
            if behaviour == "cut" and i == 3:
                self.chunk(b"")
                return
            if behaviour == "broken" and i == 3:
                self.chunk(b'data: {"error": {"message": "out of order"}}\n\n')
            if behaviour == "nonsense" and i == 3:
                self.chunk(b"data: {not json\n\n")
            data = event("piece ")
            if behaviour == "crlf":
                data = data.replace(b"\n", b"\r\n")
            if behaviour == "dribble":
                for k in range(len(data)):
                    self.chunk(data[k : k + 1])
            else:
                self.chunk(data)
            time.sleep(NEXT)
        self.chunk(event("", "stop"))
        if behaviour != "nodone":
            self.chunk(b"data: [DONE]\n\n")
        self.chunk(b"")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        behaviour = self.path.split("/")[1]
        good = body["stream"] is True and body["messages"][0]["role"] == "user" and body["max_tokens"] > 0
        if not good or self.path.split("/", 2)[2] != "v1/chat/completions":
            self.whole(400, {"error": {"message": "what is this?"}})
        elif behaviour == "key" and self.headers["Authorization"] != KEY:
            self.whole(401, {"error": {"message": "no such key"}})
        elif behaviour == "status":
            self.whole(503, {"error": {"message": "too many questions"}})
        elif behaviour == "plain":
            time.sleep(FIRST)
            self.whole(200, {"choices": [{"message": {"content": "an answer"}, "finish_reason": "stop"}]})
        elif behaviour == "redirect":
            self.send_response(302)
            self.send_header("Location", "/good/v1/chat/completions")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            try:
                self.stream(behaviour, body)
            except OSError:
                self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_):
        pass  # of clients that go away


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    if len(sys.argv) > 1:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[1])
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
