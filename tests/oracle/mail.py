"""A mail server on a free port: prints the port, then writes each message as one JSON line to FILE.

mail.py FILE [cert.pem key.pem]: with a certificate it requires STARTTLS and the login alerts / s3cret-of-mail.
Recipients refuse@… are refused for good, busy@… once each, full@… as long as the file full is there, slow@… after the
connection was cut once in the text.
"""

import asyncio
import email
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

file, *certificate = sys.argv[1:]
seen = set()


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        name = address.split("@")[0]
        if name == "refuse":
            return "550 5.1.1 no such mailbox"
        if name == "busy" and address not in seen:
            seen.add(address)
            return "450 4.2.0 greylisted, try again later"
        if name == "full" and os.path.exists("full"):
            return "452 4.2.2 mailbox full"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        record = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": {name.lower(): str(value) for name, value in message.items()},
            "text": message.get_content(),
            "is_encrypted": session.ssl is not None,
            "defects": [str(defect) for defect in message.defects],
        }
        with open(file, "a") as out:
            out.write(json.dumps(record) + "\n")
        slow = [to for to in envelope.rcpt_tos if to.startswith("slow@") and to not in seen]
        if slow:
            seen.update(slow)
            server.transport.abort()
            return "250 never seen"
        return "250 OK"


def login(server, session, envelope, mechanism, data):
    right = (data.login, data.password) == (b"alerts", b"s3cret-of-mail")
    return AuthResult(success=right, handled=False)


def smtp():
    if not certificate:
        return SMTP(Handler(), hostname="localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return SMTP(
        Handler(), hostname="localhost", tls_context=context, require_starttls=True, authenticator=login, auth_required=True
    )


async def main():
    server = await asyncio.get_running_loop().create_server(smtp, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
