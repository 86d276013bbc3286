//! Greeting, CAPABILITY, LOGIN, AUTHENTICATE, ID, LOGOUT and the faults before login (RFC 3501 §6.1, §6.2).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::answer::Status;
use crate::harness::client::{Client, quoted};
use crate::harness::world::{Kind, World};
use crate::over_dovecot;

over_dovecot!(
    greeting_and_capabilities,
    login_in_every_form,
    wrong_passwords,
    authenticate,
    before_login_only_a_few_commands,
    logout,
    pipelined_commands_are_answered_in_order,
    broken_commands_leave_the_session_alive
);

fn plain(user: &str, password: &str) -> String {
    STANDARD.encode(format!("\0{user}\0{password}"))
}

fn greeting_and_capabilities(kind: Kind) {
    let world = World::new(kind, |_| {});
    let mut c = world.connection();
    assert!(c.greeting.starts_with("* OK"), "{}", c.greeting);
    let before = c.cmd_ok("CAPABILITY").lines().join(" ");
    for word in ["IMAP4rev1", "SASL-IR", "AUTH=PLAIN", "AUTH=LOGIN", "STARTTLS", "ID"] {
        assert!(before.split(' ').any(|w| w == word), "{word} before login: {before}");
    }
    assert!(!before.contains("LOGINDISABLED"), "plaintext_login = loopback, and this is: {before}");
    let mut c = world.client();
    let after = c.cmd_ok("CAPABILITY").lines().join(" ");
    let offered =
        ["IMAP4rev1", "IDLE", "NAMESPACE", "UNSELECT", "ENABLE", "ESEARCH", "CONDSTORE", "QRESYNC", "SPECIAL-USE"];
    for word in offered.into_iter().chain(["LIST-EXTENDED", "LIST-STATUS", "CHILDREN", "ID"]) {
        assert!(after.split(' ').any(|w| w == word), "{word} after login: {after}");
    }
    assert!(!after.contains("STARTTLS") || !after.contains("AUTH="), "{after}");
    let id = c.cmd_ok("ID (\"name\" \"test\" \"version\" NIL)").lines();
    assert!(id.iter().any(|l| l.starts_with("* ID ")), "{id:?}");
    c.cmd_ok("ID NIL");
    let namespace = c.cmd_ok("NAMESPACE").lines();
    assert!(namespace.iter().any(|l| l.starts_with("* NAMESPACE ((\"\" ")), "{namespace:?}");
}

fn login_in_every_form(kind: Kind) {
    let world = World::new(kind, |_| {});
    let (user, password) = world.credentials();
    let ok = |mut c: Client| c.cmd_ok("NOOP");
    ok(world.connection().login(user, password));

    let mut c = world.connection();
    c.c(&format!("a LOGIN {user} {password}")).s("a OK<*>");
    ok(c);

    let mut c = world.connection();
    c.c(&format!("a login {{{}}}", user.len())).s("+<*>");
    c.c(&format!("{user} {{{}}}", password.len())).s("+<*>").c(password).s("a OK<*>");
    ok(c);

    let mut c = world.connection();
    c.raw(format!("a LOGIN {{{}+}}\r\n{user} {{{}+}}\r\n{password}\r\n", user.len(), password.len()).as_bytes());
    c.s("a OK<*>");
    ok(c);

    // A second login is out of order.
    let mut c = world.client();
    assert_eq!(c.cmd(&format!("LOGIN {} {}", quoted(user), quoted(password))).status, Status::Bad);
    c.cmd_ok("NOOP");
}

fn wrong_passwords(kind: Kind) {
    let world = World::new(kind, |_| {});
    let (user, password) = world.credentials();
    let mut c = world.connection();
    for (u, p) in [(user, "wrong"), ("nobody@example.org", password)] {
        let answer = c.cmd(&format!("LOGIN {} {}", quoted(u), quoted(p)));
        assert_eq!(answer.status, Status::No);
        assert!(answer.text.starts_with("[AUTHENTICATIONFAILED]"), "{}", answer.text);
        assert!(!answer.text.contains(p), "the password comes back: {}", answer.text);
    }
    let answer = c.cmd(&format!("AUTHENTICATE PLAIN {}", plain(user, "wrong")));
    assert_eq!(answer.status, Status::No);
    c.login(user, password).cmd_ok("NOOP");
}

fn authenticate(kind: Kind) {
    let world = World::new(kind, |_| {});
    let (user, password) = world.credentials();
    let mut c = world.connection();
    c.c(&format!("a AUTHENTICATE PLAIN {}", plain(user, password))).ok("a");
    c.cmd_ok("NOOP");

    let mut c = world.connection();
    c.c("a AUTHENTICATE PLAIN").s("+<*>").c(&plain(user, password)).ok("a");
    c.cmd_ok("NOOP");

    let mut c = world.connection();
    c.c("a AUTHENTICATE LOGIN").s("+ VXNlcm5hbWU6").c(&STANDARD.encode(user)).s("+ UGFzc3dvcmQ6");
    c.c(&STANDARD.encode(password)).ok("a");
    c.cmd_ok("NOOP");

    // Cancelled, unreadable, unknown: refused, and the session goes on.
    let mut c = world.connection();
    c.c("a AUTHENTICATE PLAIN").s("+<*>").c("*").bad("a");
    c.c("b AUTHENTICATE PLAIN").s("+<*>").c("!!!");
    let line = String::from_utf8_lossy(&c.line()).into_owned();
    assert!(line.starts_with("b NO") || line.starts_with("b BAD"), "{line}");
    assert_ne!(c.cmd("AUTHENTICATE NOT-A-MECHANISM").status, Status::Ok);
    c.login(user, password).cmd_ok("NOOP");
}

fn before_login_only_a_few_commands(kind: Kind) {
    let world = World::new(kind, |_| {});
    world.connection().cmd_ok("NOOP");
    for command in ["SELECT INBOX", "LIST \"\" *", "FETCH 1 FLAGS", "IDLE", "STATUS INBOX (MESSAGES)"] {
        // A connection each: a server may close on too many such commands, as Dovecot does on the third.
        assert_eq!(world.connection().cmd(command).status, Status::Bad, "{command}");
    }
    let (user, password) = world.credentials();
    let mut c = world.connection().login(user, password);
    for command in ["FETCH 1 FLAGS", "UID FETCH 1 FLAGS", "SEARCH ALL", "CLOSE", "CHECK", "UNSELECT"] {
        assert_eq!(c.cmd(command).status, Status::Bad, "{command} without a mailbox");
    }
}

fn logout(kind: Kind) {
    let world = World::new(kind, |_| {});
    let mut before_login = world.connection();
    before_login.c("a LOGOUT").s("* BYE<*>").ok("a");
    assert!(before_login.is_closed());
    let mut c = world.client();
    c.cmd_ok("SELECT INBOX");
    c.c("a LOGOUT").s("* BYE<*>").ok("a");
    assert!(c.is_closed());
}

fn pipelined_commands_are_answered_in_order(kind: Kind) {
    let world = World::new(kind, |c| {
        c.append("INBOX", "\\Seen", b"Subject: one\r\n\r\nbody\r\n");
    });
    let (user, password) = world.credentials();
    let mut c = world.connection();
    let all = format!(
        "a LOGIN {user} {password}\r\nb SELECT INBOX\r\nc FETCH 1 UID\r\nd NOOP\r\ne UID SEARCH ALL\r\nf LOGOUT\r\n"
    );
    c.raw(all.as_bytes());
    for tag in ["a", "b", "c", "d", "e", "f"] {
        let lines = c.until(&format!("{tag} <*>"));
        assert!(lines.last().unwrap().starts_with(&format!("{tag} OK")), "{lines:?}");
    }
    assert!(c.is_closed());
}

fn broken_commands_leave_the_session_alive(kind: Kind) {
    let world = World::new(kind, |_| {});
    let mut c = world.client();
    c.cmd_ok("SELECT INBOX");
    for command in [
        "",
        "FROBNICATE",
        "FETCH",
        "FETCH 1",
        "FETCH x FLAGS",
        "FETCH 1 (FLAGS",
        "SEARCH",
        "UID",
        "UID EXPAND 1",
        "STORE 1",
    ] {
        assert_eq!(c.cmd(command).status, Status::Bad, "{command:?}");
    }
    assert_eq!(c.cmd("FETCH 0 FLAGS").status, Status::Bad, "zero is no message number");
    assert_eq!(c.cmd("SEARCH CHARSET X-NONE SUBJECT a").status, Status::No, "RFC 3501 §6.4.4: NO [BADCHARSET]");
    c.cmd_ok("NOOP");
}

/// What only the daemon promises: limits before login, and that nothing of the upstream is needed to log in.
#[test]
fn a_long_line_before_login_is_cut_off_and_hurts_nobody() {
    let world = World::new(Kind::Dovecot, |_| {});
    if world.is_straight() {
        return;
    }
    let mut other = world.client();
    for attack in
        [vec![b'a'; 64 * 1024], b"a LOGIN {1000000}\r\n".to_vec(), b"a LOGIN {99999999999999999999}\r\n".to_vec()]
    {
        let mut c = world.connection();
        let _ = c.try_send(&attack);
        // Refused or closed, not swallowed: never a continuation.
        match c.try_line() {
            Ok(line) => assert!(!line.starts_with(b"+"), "{:?}", String::from_utf8_lossy(&line)),
            Err(e) => assert_ne!(e.kind(), std::io::ErrorKind::WouldBlock, "neither refused nor closed"),
        }
    }
    other.cmd_ok("NOOP");
}

#[test]
fn plaintext_login_never_means_never() {
    let change = |setup| crate::harness::daemon::Setup { plaintext_login: "\"never\"", ..setup };
    let world = World::with(Kind::Dovecot, Default::default(), change, |_| {});
    if world.is_straight() {
        return;
    }
    let (user, password) = world.credentials();
    let mut c = world.connection();
    let said = c.cmd_ok("CAPABILITY").lines().join(" ");
    assert!(said.contains("LOGINDISABLED") && said.contains("STARTTLS") && !said.contains("AUTH="), "{said}");
    assert_eq!(c.cmd(&format!("LOGIN {user} {password}")).status, Status::No);
    assert_ne!(c.cmd(&format!("AUTHENTICATE PLAIN {}", plain(user, password))).status, Status::Ok);
    c.starttls(&world.daemon().ca_file());
    c.login(user, password).cmd_ok("NOOP");
}
