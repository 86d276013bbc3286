"""Thunderbird sets an account up by itself: a fresh profile, an address and a password typed into its own Account Hub, nothing else.

    thunderbird_setup.py WORK-DIR HTTP-PORT CA-FILE ADDRESS PASSWORD SCREENSHOT-FOUND SCREENSHOT-READ

Every name leads to this computer, as a local name server would lead autoconfig.DOMAIN, and port 80 to HTTP-PORT. Prints one line for each step,
then "account: " and what Thunderbird has made of the answer, as JSON. Ends with 0 when it has read a message by it.
"""

import json
import os
import subprocess
import sys

from marionette import Marionette
from thunderbird import COMMON, PATIENCE, PROGRAM, STEPS, active_port, display, end, look_at, preferences, wait_for

# The hub of this window, and the step of it that is shown.
HUB = """
const until = async (what, found) => {
  const end = Date.now() + 60000;
  for (;;) {
    const value = await found();
    if (value) return value;
    if (Date.now() > end) throw new Error(`never came: ${what}`);
    await new Promise(done => setTimeout(done, 50));
  }
};
const hub = () => document.querySelector("account-hub-container")?.shadowRoot.querySelector("account-hub-email");
const shows = id => {
  const step = hub()?.querySelector(`#${id}`);
  // What it says instead of going on.
  const trouble = hub()?.querySelector(".account-hub-step:not([hidden]) .notification[type=error], .error:not([hidden])");
  if (trouble?.textContent.trim()) throw new Error(`${id} does not come: ${trouble.textContent.trim()}`);
  return step && !step.hidden && step;
};
const type = (step, id, text) => {
  const input = step.querySelector(`#${id}`);
  input.value = text;
  input.dispatchEvent(new Event("input", { bubbles: true }));
};
const go = async () => {
  const button = await until("a button to go on", () => {
    const button = hub().querySelector("account-hub-footer #forward");
    return !button.disabled && !button.hidden && button;
  });
  button.click();
};
"""

FIND = {
    "trusts the authority": """
const [pem] = arguments;
const certificates = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
certificates.addCertFromBase64(pem.replace(/-----[^-]*-----|\\s/g, ""), "C,,");
""",
    "asks for a name and an address": """
const [, address] = arguments;
await until("the window", () => document.readyState == "complete" && window.openAccountHub);
await window.openAccountHub("MAIL");
const step = await until("the first step", () => shows("emailAutoConfigSubview"));
await until("its fields", () => step.querySelector("#email"));
type(step, "realName", "Ann");
type(step, "email", address);
await go();
""",
    "finds the settings": """
await until("what it has found", () => shows("emailConfigFoundSubview"));
""",
}

USE = {
    "asks for the password": """
const [, , password] = arguments;
await go();
const step = await until("the step for the password", () => shows("emailPasswordSubview"));
await until("its field", () => step.querySelector("#password"));
type(step, "password", password);
await go();
""",
    "has logged in and made the account": """
await until("the account", () => shows("emailAddedSuccessSubview") || shows("emailSyncAccountsSubview"));
if (!shows("emailAddedSuccessSubview")) {
  await go();
  await until("the last step", () => shows("emailAddedSuccessSubview"));
}
await go();
""",
}

MADE = """
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const account = MailServices.accounts.accounts.find(one => one.incomingServer.type != "none");
const { type, hostName, hostname, port, socketType, username } = account.incomingServer;
const out = MailServices.outgoingServer.servers[0].QueryInterface(Ci.nsISmtpServer);
const sending = { hostName: out.hostname, port: out.port, socketType: out.socketType, username: out.username };
// The name of the attribute differs between its versions.
return { type, hostName: hostName ?? hostname, port, socketType, username, sending };
"""

OPEN = """
pane.displayFolder(mailbox("INBOX").URI);
await until("the messages", () => rowOf("read me") >= 0);
"""


def fresh(http_port):
    """The preferences of somebody who has just installed it: nothing of any account, and no way out of this computer."""
    kept = {name: value for name, value in preferences(0, 0, "").items() if not name.startswith(("mail.a", "mail.i", "mail.server"))}
    return {
        **kept,
        "network.proxy.type": 0,
        "network.dns.forceResolve": "127.0.0.1",
        # What it asks for over TLS nobody answers: a home's name server has no certificate for the provider's domain either.
        "network.socket.forcePort": f"80={http_port};443=9",
        "mailnews.auto_config_url": "http://ispdb.invalid/none/",
    }


def main(work, http_port, ca_file, address, password, found, read):
    profile, home = os.path.join(work, "profile"), os.path.join(work, "home")
    os.makedirs(profile)
    os.makedirs(home)
    with open(os.path.join(profile, "user.js"), "w") as file:
        for name, value in fresh(int(http_port)).items():
            file.write(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n")
    with open(ca_file) as file:
        pem = file.read()
    server, number = display()
    log = open(os.path.join(work, "thunderbird.log"), "wb")
    environment = {**os.environ, "HOME": home, "DISPLAY": number, "TMPDIR": work}
    options = ["--profile", profile, "--no-remote", "--marionette", "--remote-allow-system-access"]
    thunderbird = subprocess.Popen([PROGRAM, *options], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    remote = None
    try:
        remote = Marionette(wait_for("Thunderbird's port", lambda: active_port(profile)), PATIENCE)

        def step(name, script):
            value = remote.run(script, pem, address, password)
            print(name, flush=True)
            return value

        def picture(file):
            image = remote.screenshot()
            with open(file, "wb") as out:
                out.write(image)
            look_at(image)

        for name, script in FIND.items():
            step(name, HUB + script)
        picture(found)
        for name, script in USE.items():
            step(name, HUB + script)
        print("account:", json.dumps(remote.run(MADE)), flush=True)
        step("opens INBOX", COMMON + OPEN)
        step("reads a message", COMMON + STEPS["reads a message"])
        picture(read)
        remote.ask("Marionette:Quit", {"flags": ["eAttemptQuit"]})
        thunderbird.wait(PATIENCE)
    except Exception:
        if remote:
            with open(found + ".failed.png", "wb") as out:
                out.write(remote.screenshot())
        raise
    finally:
        end(thunderbird)
        end(server)


if __name__ == "__main__":
    main(*sys.argv[1:])
