"""Reads an Apple configuration profile and holds it against the table of documented keys.

    mobileconfig.py TABLE PROFILE CA-DER

Fails with the reason; else prints what a device would set up, as JSON: the keys of each mail payload, in order.
"""

import json
import plistlib
import re
import sys

TYPES = {"string": str, "integer": int, "boolean": bool, "array": list, "data": bytes}
UUID = re.compile(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}")


def check(payload, table):
    kind = payload.get("PayloadType")
    if kind not in table:
        raise SystemExit(f"an unknown payload: {kind}")
    keys = {**table["common"], **table[kind]}
    for key, value in payload.items():
        if key not in keys:
            raise SystemExit(f"{kind}: {key} is no documented key")
        wanted, _, *values = keys[key]
        # A bool is an int in Python.
        if type(value) is not TYPES[wanted]:
            raise SystemExit(f"{kind}: {key} is {type(value).__name__}, not {wanted}")
        if values and value not in values:
            raise SystemExit(f"{kind}: {key} is {value!r}")
    for key, (_, presence, *_) in keys.items():
        if presence == "required" and key not in payload:
            raise SystemExit(f"{kind}: {key} is missing")
    if not UUID.fullmatch(payload["PayloadUUID"]):
        raise SystemExit(f"{kind}: {payload['PayloadUUID']} is no UUID")


def main(table, profile, ca_der):
    with open(table) as file:
        table = json.load(file)
    with open(profile, "rb") as file:
        top = plistlib.load(file, fmt=plistlib.FMT_XML)
    if top.get("PayloadType") != "Configuration":
        raise SystemExit("it is no configuration profile")
    for payload in [top, *top["PayloadContent"]]:
        check(payload, table)
    for key in ("PayloadUUID", "PayloadIdentifier"):
        found = [payload[key] for payload in [top, *top["PayloadContent"]]]
        if len(set(found)) != len(found):
            raise SystemExit(f"{key} is not unique: {found}")
    roots = [p for p in top["PayloadContent"] if p["PayloadType"] == "com.apple.security.root"]
    with open(ca_der, "rb") as file:
        if [root["PayloadContent"] for root in roots] != [file.read()]:
            raise SystemExit("the authority in it is another one")
    mail = [p for p in top["PayloadContent"] if p["PayloadType"] == "com.apple.mail.managed"]
    print(json.dumps(mail))


if __name__ == "__main__":
    main(*sys.argv[1:])
