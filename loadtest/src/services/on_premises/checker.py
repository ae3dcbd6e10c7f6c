"""Two HTTP servers beside Apache.

- The echo answers over plain HTTP with what it received. Apache signs people in and passes their requests on.
- The checker answers over TLS and signs people in itself. Unlike Apache, it checks the channel binding, as Exchange's
  Extended Protection does: NTLM (alone and inside SPNEGO) by pyspnego, Kerberos by MIT's library.

Arguments: the folder with its files, the port of the echo, the port of the checker.
"""

import base64
import hashlib
import json
import os
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import spnego
import spnego.channel_bindings

# The module of the system's Python, which has no wheel in the registry.
sys.path.append("/usr/lib/python3/dist-packages")
import gssapi  # noqa: E402
import gssapi.raw  # noqa: E402

HOME, ECHO, CHECKER = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.environ["NTLM_USER_FILE"] = f"{HOME}/users"
os.environ["KRB5_CONFIG"] = f"{HOME}/krb5.conf"

with open(f"{HOME}/certificate.pem") as file:
    CERTIFICATE = ssl.PEM_cert_to_DER_cert(file.read().split("-----END")[0] + "-----END CERTIFICATE-----\n")
BINDING = b"tls-server-end-point:" + hashlib.sha256(CERTIFICATE).digest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body of an answer leave together; two small packets would wait for each other.
    wbufsize = 64 * 1024
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def answer(self, status, content=None, challenge=None):
        text = json.dumps(content or {}).encode()
        self.send_response(status)
        if challenge is not None:
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class Echo(Handler):
    def do(self):
        body = self.body().decode()
        self.answer(200, {"user": self.headers.get("X-Remote-User"), "body": body, "method": self.command})

    do_GET = do_POST = do


class NtlmContext:
    def __init__(self, inside_spnego):
        protocol = "negotiate" if inside_spnego else "ntlm"
        options = spnego.NegotiateOptions.use_negotiate if inside_spnego else spnego.NegotiateOptions.use_ntlm
        self.context = spnego.server(
            protocol=protocol,
            options=options,
            channel_bindings=spnego.channel_bindings.GssChannelBindings(application_data=BINDING),
        )

    def step(self, token):
        return self.context.step(token)

    def user(self):
        return str(self.context.client_principal) if self.context.complete else None


class KerberosContext:
    def __init__(self):
        credentials = gssapi.Credentials(usage="accept", store={"keytab": f"{HOME}/http.keytab"})
        self.context = gssapi.SecurityContext(
            creds=credentials,
            usage="accept",
            channel_bindings=gssapi.raw.ChannelBindings(application_data=BINDING),
        )

    def step(self, token):
        return self.context.step(token)

    def user(self):
        return str(self.context.initiator_name) if self.context.complete else None


class Checker(Handler):
    """One object serves one connection, so what it holds belongs to the connection."""

    context = None
    signed_in = None

    def do(self):
        body = self.body().decode()
        header = self.headers.get("Authorization")
        if header is None and self.signed_in is None:
            return self.answer(401, challenge="NTLM" if self.path.startswith("/ntlm") else "Negotiate")
        if header is not None:
            scheme, _, text = header.partition(" ")
            token = base64.b64decode(text)
            try:
                if self.context is None:
                    is_ntlm = b"NTLMSSP\0" in token
                    self.context = NtlmContext(scheme == "Negotiate") if is_ntlm else KerberosContext()
                given = self.context.step(token)
                user = self.context.user()
            except Exception as error:  # whatever the library refuses
                print("refused:", type(error).__name__, error, file=sys.stderr, flush=True)
                self.context = None
                return self.answer(401, challenge=scheme)
            if user is None:
                return self.answer(401, challenge=f"{scheme} {base64.b64encode(given).decode()}")
            self.context, self.signed_in = None, user
        self.answer(200, {"user": self.signed_in, "body": body, "method": self.command})

    do_GET = do_POST = do


def serve(port, handler, tls=None):
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever).start()


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{HOME}/certificate.pem", f"{HOME}/key.pem")
serve(CHECKER, Checker, context)
serve(ECHO, Echo)
