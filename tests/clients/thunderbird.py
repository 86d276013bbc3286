"""Thunderbird on an account served by mailweir, driven through its own windows.

    thunderbird.py WORK-DIR PORT tls|starttls CA-FILE USER PASSWORD SCREENSHOT [SENDING-PORT SENT]

Starts a display and Thunderbird with a profile set up for the account, and does what a person does: reads the message called
"read me", stars "star me", moves "move me" to Work, deletes "delete me", files a draft called "a draft". What then stands at the
provider is looked at by the caller. With SENDING-PORT it writes and sends "a letter" instead, and files its own copy in the mailbox SENT
as it always does. Prints one line for each step; ends with 0 when Thunderbird has done them all.
"""

import json
import os
import struct
import subprocess
import sys
import time
import zlib

from marionette import Marionette

# A first start on a busy machine takes some ten seconds.
PATIENCE = 90
PROGRAM = "/usr/lib/thunderbird/thunderbird"

# Put before each script: waits for a condition inside Thunderbird, and what the steps share.
COMMON = """
const until = async (what, found) => {
  const end = Date.now() + 60000;
  for (;;) {
    const value = await found();
    if (value) return value;
    if (Date.now() > end) throw new Error(`never came: ${what}`);
    await new Promise(done => setTimeout(done, 50));
  }
};
const server = MailServices.accounts.accounts[0].incomingServer;
const mailbox = name => server.rootFolder.descendants.find(f => f.name.toLowerCase() == name.toLowerCase());
const pane = await until("the three panes", () => {
  const pane = document.getElementById("tabmail")?.currentAbout3Pane;
  return pane?.document.readyState == "complete" && pane.displayFolder && pane;
});
const rowOf = subject => {
  for (let row = 0; row < (pane.gDBView?.rowCount ?? 0); row++) {
    if (pane.gDBView.getMsgHdrAt(row).mime2DecodedSubject == subject) return row;
  }
  return -1;
};
const select = async subject => {
  const row = await until(`a row for ${subject}`, () => rowOf(subject) + 1) - 1;
  pane.threadTree.selectedIndex = row;
  await until(`${subject} selected`, () =>
    pane.gDBView.selection.count == 1 && pane.gDBView.hdrForFirstSelectedMessage.mime2DecodedSubject == subject);
  return pane.gDBView.hdrForFirstSelectedMessage;
};
// A window to write in, with the subject and the body in it.
const write = async (subject, body) => {
  const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
  fields.to = "bob@example.net";
  fields.subject = subject;
  fields.body = body;
  const parameters = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
  parameters.type = Ci.nsIMsgCompType.New;
  parameters.format = Ci.nsIMsgCompFormat.PlainText;
  parameters.identity = MailServices.accounts.accounts[0].defaultIdentity;
  parameters.composeFields = fields;
  MailServices.compose.OpenComposeWindowWithParams(null, parameters);
  const composer = await until("the window to write in", () => {
    const window = Services.wm.getMostRecentWindow("msgcompose");
    return window?.gMsgCompose?.editor && !window.gWindowLocked && window;
  });
  await until("the subject", () => composer.document.getElementById("msgSubject").value == subject);
  const begin = body.slice(0, 20).trim();
  await until("the body", () => composer.gMsgCompose.editor.document.body.textContent.includes(begin));
  return composer;
};
// The text of the message that is shown, whichever process shows it.
const shown = async () => {
  const browser = pane.messageBrowser?.contentWindow?.getMessagePaneBrowser?.();
  return browser?.contentDocument?.body?.textContent ?? "";
};
"""

STEPS = {
    "trusts the authority and knows the password": """
const [pem, user, password] = arguments;
const certificates = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
certificates.addCertFromBase64(pem.replace(/-----[^-]*-----|\\s/g, ""), "C,,");
for (const place of ["imap://localhost", "smtp://localhost"]) {
  const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
  login.init(place, null, place, user, password, "", "");
  await Services.logins.addLoginAsync(login);
}
""",
    "opens INBOX": """
pane.displayFolder(mailbox("INBOX").URI);
await until("the messages", () => rowOf("read me") >= 0 && pane.gDBView.rowCount >= 5);
await until("the other mailboxes", () => mailbox("Work") && mailbox("Trash") && mailbox("Drafts"));
""",
    "reads a message": """
const header = await select("read me");
await until("its text", async () => (await shown()).includes("Plain words to be read"));
await until("it to count as read", () => header.isRead);
""",
    "stars a message": """
const header = await select("star me");
pane.commandController.doCommand("cmd_markAsFlagged");
await until("the star", () => header.isFlagged);
""",
    "moves a message": """
await select("move me");
pane.commandController.doCommand("cmd_moveMessage", mailbox("Work"));
await until("it to leave", () => rowOf("move me") < 0);
""",
    "deletes a message": """
await select("delete me");
pane.commandController.doCommand("cmd_delete");
await until("it to leave", () => rowOf("delete me") < 0);
""",
    "files a draft": """
const composer = await write("a draft", "Words that are not finished\\n");
composer.goDoCommand("cmd_saveAsDraft");
await until("the draft to be filed", () => composer.gMsgCompose.compFields.draftId && !composer.gSaveOperationInProgress);
composer.close();
""",
    "shows what it has read": """
await select("read me");
await until("its text", async () => (await shown()).includes("Plain words to be read"));
""",
}

# Some 300 kB, so that sending it twice shows in what the provider counts.
SENDING = {
    "trusts the authority and knows the password": STEPS["trusts the authority and knows the password"],
    "opens INBOX": """
pane.displayFolder(mailbox("INBOX").URI);
await until("the messages", () => (pane.gDBView?.rowCount ?? 0) > 0);
""",
    "sends a letter": """
const composer = await write("a letter", "Words that are finished, and many of them\\n".repeat(7500));
composer.goDoCommand("cmd_sendNow");
await until("it to be sent and filed", () => composer.closed);
""",
}


def preferences(port, socket_type, user, sending_port=None, sent=None):
    server, identity = "mail.server.server1.", "mail.identity.id1."
    sending = {
        identity + "smtpServer": "smtp1",
        identity + "fcc": True,
        identity + "fcc_folder": f"imap://{user.replace('@', '%40')}@localhost/{sent}",
        identity + "fcc_folder_picker_mode": "1",
        "mail.smtpservers": "smtp1",
        "mail.smtp.defaultserver": "smtp1",
        "mail.smtpserver.smtp1.hostname": "localhost",
        "mail.smtpserver.smtp1.port": int(sending_port or 0),
        "mail.smtpserver.smtp1.username": user,
        "mail.smtpserver.smtp1.authMethod": 3,
        "mail.smtpserver.smtp1.try_ssl": socket_type,
        # A long text in plain; nobody is to be asked anything.
        "mail.compose.big_attachments.notify": False,
        "mail.SpellCheckBeforeSend": False,
        "mail.spellcheck.inline": False,
    }
    return (sending if sending_port else {}) | {
        # Any free port; it is written into the profile.
        "marionette.port": 0,
        "mail.accountmanager.accounts": "account1,account2",
        "mail.accountmanager.defaultaccount": "account1",
        "mail.accountmanager.localfoldersserver": "server2",
        "mail.account.account1.identities": "id1",
        "mail.account.account1.server": "server1",
        "mail.account.account2.server": "server2",
        identity + "fullName": "Ann",
        identity + "useremail": user,
        identity + "valid": True,
        identity + "draft_folder": f"imap://{user.replace('@', '%40')}@localhost/Drafts",
        identity + "drafts_folder_picker_mode": "0",
        server + "type": "imap",
        server + "name": "mailweir",
        server + "hostname": "localhost",
        server + "port": port,
        server + "userName": user,
        server + "socketType": socket_type,
        server + "authMethod": 3,
        # Not before it has been told the authority and the password.
        server + "login_at_startup": False,
        server + "check_new_mail": False,
        "mail.server.server2.type": "none",
        "mail.server.server2.name": "Local Folders",
        "mail.server.server2.hostname": "Local Folders",
        "mail.server.server2.userName": "nobody",
        # No first-run pages, and no word to anybody outside.
        "mail.provider.suppress_dialog_on_startup": True,
        "mail.spotlight.firstRunDone": True,
        "mail.winsearch.firstRunDone": True,
        "mail.rights.version": 1,
        "mail.shell.checkDefaultClient": False,
        "mailnews.start_page.enabled": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "datareporting.policy.dataSubmissionPolicyBypassNotification": True,
        "app.update.enabled": False,
        "network.captive-portal-service.enabled": False,
        "network.connectivity-service.enabled": False,
        "network.proxy.type": 1,
        "network.proxy.http": "127.0.0.1",
        "network.proxy.http_port": 9,
        "network.proxy.ssl": "127.0.0.1",
        "network.proxy.ssl_port": 9,
    }


def wait_for(what, found):
    end = time.monotonic() + PATIENCE
    while True:
        value = found()
        if value:
            return value
        if time.monotonic() > end:
            raise SystemExit(f"gave up waiting for {what}")
        time.sleep(0.05)


def display():
    """A display of our own, its number chosen by the server itself."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as told:
        number = told.readline().strip()
    if not number:
        raise SystemExit("Xvfb does not start")
    return server, f":{number}"


def active_port(profile):
    try:
        with open(os.path.join(profile, "MarionetteActivePort")) as file:
            return int(file.read() or 0)
    except FileNotFoundError:
        return 0


def look_at(picture):
    """The picture must be one: a PNG of a window's size whose rows are not all alike, as those of an empty window would be."""
    if picture[:8] != b"\x89PNG\r\n\x1a\n" or picture[-8:-4] != b"IEND":
        raise SystemExit("the screenshot is no PNG")
    packed, at = b"", 8
    while at < len(picture):
        length, kind = struct.unpack(">I4s", picture[at : at + 8])
        data = picture[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height = struct.unpack(">II", data[:8])
        if kind == b"IDAT":
            packed += data
        at += 12 + length
    pixels = zlib.decompress(packed)
    row = len(pixels) // height
    different = len({pixels[n * row : (n + 1) * row] for n in range(height)})
    if width < 800 or height < 600 or different < 200:
        raise SystemExit(f"the screenshot shows nothing: {width}x{height}, {different} different rows")


def end(process):
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main(work, port, tls, ca_file, user, password, screenshot, sending_port=None, sent=None):
    profile, home = os.path.join(work, "profile"), os.path.join(work, "home")
    os.makedirs(profile)
    os.makedirs(home)
    wanted = preferences(int(port), {"starttls": 2, "tls": 3}[tls], user, sending_port, sent)
    with open(os.path.join(profile, "user.js"), "w") as file:
        for name, value in wanted.items():
            file.write(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n")
    with open(ca_file) as file:
        pem = file.read()
    server, number = display()
    log = open(os.path.join(work, "thunderbird.log"), "wb")
    environment = {**os.environ, "HOME": home, "DISPLAY": number, "TMPDIR": work}
    options = ["--profile", profile, "--no-remote", "--marionette", "--remote-allow-system-access"]
    thunderbird = subprocess.Popen([PROGRAM, *options], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        remote = Marionette(wait_for("Thunderbird's port", lambda: active_port(profile)), PATIENCE)
        for name, script in (SENDING if sending_port else STEPS).items():
            remote.run(COMMON + script, pem, user, password)
            print(name, flush=True)
        picture = remote.screenshot()
        with open(screenshot, "wb") as file:
            file.write(picture)
        look_at(picture)
        # The ordinary way out: what is still to be said to the server is said. The answer may not come any more.
        remote.ask("Marionette:Quit", {"flags": ["eAttemptQuit"]})
        thunderbird.wait(PATIENCE)
    finally:
        end(thunderbird)
        end(server)


if __name__ == "__main__":
    main(*sys.argv[1:])
