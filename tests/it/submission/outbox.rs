//! The outbox, before a real Exim: what is accepted arrives wherever the way is cut and whenever the daemon is killed, doubles only inside the
//! documented window; what cannot be sent comes back; what is to be seen and done of it.

use std::process::Command;
use std::time::{Duration, Instant};

use super::Post;
use crate::harness::client::Client;
use crate::harness::daemon::PROGRAM;
use crate::harness::relay::{Fault, Way};
use crate::harness::search::Searched as _;
use crate::harness::smtp::{Smtp, dotted};
use crate::harness::{PATIENCE, wait_for};

impl Post {
    /// With an outbox, and more lines of `[account.smtp]`.
    pub(super) fn keeping(more: &str) -> Self {
        Self::with("none", |setup| setup.accounts[0].smtp += &format!("\nqueue = true\n{more}"))
    }

    /// `mailweir outbox …`; what it printed.
    pub(super) fn outbox(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(PROGRAM);
        let out =
            command.arg("outbox").args(arguments).arg("--config").arg(self.daemon.config_file()).output_searched();
        let out = out.expect("mailweir outbox");
        let told = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success() || told.contains("nothing waits"), "outbox {arguments:?}: {told}");
        String::from_utf8(out.stdout).unwrap()
    }

    pub(super) fn waiting(&self) -> serde_json::Value {
        serde_json::from_str(&self.outbox(&["list", "--json"])).expect("JSON")
    }

    fn in_doubt(&self) -> usize {
        self.waiting().as_array().unwrap().iter().filter(|one| one["in_doubt"] == true).count()
    }

    /// Has everything tried until nothing waits.
    pub(super) fn drain(&self) {
        let start = Instant::now();
        while self.waiting().as_array().is_some_and(|all| !all.is_empty()) {
            assert!(start.elapsed() < PATIENCE * 2, "still waiting: {}", self.outbox(&["list"]));
            self.outbox(&["retry"]);
            // The daemon is at work; asking it once more at once would only take the processor from it.
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    pub(super) fn arrived(&self, subject: &str) -> usize {
        let line = format!("Subject: {subject}\r\n");
        self.exim.sent().iter().filter(|message| String::from_utf8_lossy(message).contains(&line)).count()
    }
}

pub(super) fn message(subject: &str) -> String {
    format!(
        "From: ann@example.org\r\nMessage-ID: <{subject}@example.org>\r\nSubject: {subject}\r\n\r\nsome lines\r\n.\r\nof text\r\n"
    )
}

/// Of the selected mailbox.
fn body_of_last(reader: &mut Client) -> Vec<u8> {
    let answer = reader.cmd_ok("FETCH * (UID BODY.PEEK[])");
    answer.by_uid().values().next().map(|items| items["BODY[]"].bytes().to_vec()).unwrap_or_default()
}

/// Sends one, and everything is said to be taken.
pub(super) fn send(post: &Post, to: &[&str], subject: &str) {
    post.login().send("ann@example.org", to, &message(subject));
}

/// Every few octets of a whole talk, in both directions: not one message is refused, and all are there.
#[test]
fn everything_accepted_arrives_wherever_the_way_is_cut() {
    const STEPS: u64 = 24;
    const LAST: u64 = STEPS + 2;
    let post = Post::keeping("");
    send(&post, &["bob@example.net"], "n0");
    assert_eq!(post.exim.wait_sent(1), [message("n0").as_bytes()], "what works is not delayed, and byte-equal");
    let (up, down) = (post.relay.up(), post.relay.down());
    for step in 0..STEPS {
        let (way, of) = if step % 2 == 0 { (Way::Up, up) } else { (Way::Down, down) };
        post.relay.cut();
        post.relay.cut_after(way, 1 + of * (step / 2) / (STEPS / 2));
        send(&post, &["bob@example.net"], &format!("n{}", step + 1));
        // The next is tried straight again: a provider known to be away is left alone for a while.
        post.relay.cut_after(Way::Up, u64::MAX);
        post.drain();
    }
    // The last octets of a talk are the answer to the message: a doubt, wherever the cuts above have fallen.
    post.relay.cut();
    let before = post.relay.down();
    send(&post, &["bob@example.net"], &format!("n{}", STEPS + 1));
    let talk = post.relay.down() - before;
    post.relay.cut();
    post.relay.cut_after(Way::Down, talk - 3);
    send(&post, &["bob@example.net"], &format!("n{LAST}"));
    post.relay.cut_after(Way::Up, u64::MAX);
    post.drain();
    wait_for("Exim to deliver", || (0..=LAST).all(|n| post.arrived(&format!("n{n}")) > 0));
    let again = post.daemon.metric("mailweir_outbox_doubts_total", &["outcome=\"again\""]);
    let copies: Vec<usize> = (0..=LAST).map(|n| post.arrived(&format!("n{n}"))).collect();
    let doubles = copies.iter().filter(|count| **count > 1).count();
    println!("{} messages, {again} doubts, {doubles} doubles: {copies:?}", copies.len());
    assert!(copies.iter().all(|count| (1..=2).contains(count)), "{copies:?}");
    assert!(doubles as f64 <= again && again > 0.0, "doubles only where there was doubt: {doubles}, {again}");
    assert_eq!(std::fs::read_dir(post.daemon.data_dir().join("outbox/ann@example.org")).unwrap().count(), 0);
}

/// While the provider is away everything is taken, also after a restart; then all of it is sent, byte-equal.
#[test]
fn away_then_back() {
    let mut post = Post::keeping("");
    post.relay.set(Fault::Refuse);
    post.relay.cut();
    send(&post, &["bob@example.net", "carl@example.net"], "first");
    let mut client = post.login();
    client.says("MAIL FROM:<ann.smith@example.org> BODY=8BITMIME SMTPUTF8", "250");
    client.says("RCPT TO:<z\u{eb}@example.net>", "250");
    let body = "Subject: second\r\n\r\n..\r\n.\r\ngr\u{fc}\u{df}e\r\n";
    client.raw(format!("BDAT {} LAST\r\n{body}", body.len()).as_bytes());
    let kept = client.reply();
    assert!(kept.starts_with("250 2.0.0 Kept as "), "{kept}");
    let all = post.waiting();
    assert_eq!((all[0]["recipients"].as_array().unwrap().len(), &all[0]["kind"]), (2, &"send".into()));
    let (_, page) = post.daemon.http_get("/");
    assert!(page.contains("2 messages wait to be sent"), "{page}");
    post.daemon.kill();
    post.daemon.restart();
    post.relay.set(Fault::None);
    post.drain();
    // Exim delivers each by a process of its own.
    let mut sent = post.exim.wait_sent(2);
    sent.sort();
    assert_eq!(sent, [message("first").as_bytes(), body.as_bytes()]);
    wait_for("Exim to note it", || post.exim.log().contains("z\u{eb}@example.net") || post.exim.delivered("z") > 0);
    let status = post.daemon.http_get("/status.json").1;
    assert!(status.contains("\"outbox\": null"), "{status}");
}

/// Recipients have each their own answer: taken, put off and kept, refused at once.
#[test]
fn each_recipient_has_his_own_fate() {
    let post = Post::keeping("");
    let mut client = post.login();
    client.says("MAIL FROM:<ann@example.org>", "250");
    client.says("RCPT TO:<bob@example.net>", "250");
    client.says("RCPT TO:<later@example.net>", "250");
    client.says("RCPT TO:<nobody@example.net>", "550");
    client.says("DATA", "354");
    client.raw(&dotted(message("mixed").as_bytes()));
    let reply = client.reply();
    assert!(reply.starts_with("250") && reply.contains("kept for 1 of 2 recipients"), "{reply}");
    post.exim.wait_sent(1);
    let all = post.waiting();
    assert_eq!(all[0]["recipients"], serde_json::json!(["later@example.net"]));
    assert!(all[0]["last"].as_str().unwrap().contains("later please"), "{all}");
    // Only those who are put off: nothing is begun at the provider, all is kept.
    client.says("MAIL FROM:<ann@example.org>", "250");
    client.says("RCPT TO:<later@example.net>", "250");
    client.says("DATA", "354");
    client.raw(&dotted(message("later").as_bytes()));
    assert!(client.reply().starts_with("250 2.0.0 Kept"));
    let id = post.waiting()[1]["id"].to_string();
    assert!(post.outbox(&["drop", &id]).contains("is dropped"));
    assert_eq!(post.waiting().as_array().unwrap().len(), 1);
    assert_eq!(post.exim.taken(), 1);
    // What is refused is refused: nothing is kept of it.
    client.says("MAIL FROM:<ann@example.org>", "250");
    client.says("RCPT TO:<nobody@example.net>", "550");
    client.says("DATA", "554");
}

/// Killed (-9) while it sends what it has kept, at twelve places; then while it takes messages.
#[test]
fn killed_at_any_moment() {
    const KEPT: usize = 12;
    let mut post = Post::keeping("");
    send(&post, &["bob@example.net"], "measure");
    let talk = post.relay.up();
    post.relay.set(Fault::Refuse);
    post.relay.cut();
    for n in 0..KEPT {
        send(&post, &["bob@example.net"], &format!("k{n}"));
    }
    let mut window = 0;
    for n in 0..KEPT {
        post.relay.set(Fault::None);
        let target = post.relay.up() + 1 + talk * n as u64 / KEPT as u64;
        post.outbox(&["retry"]);
        let start = Instant::now();
        // The relay's bytes are the moment; a talk that ended before it is as good.
        while post.relay.up() < target && start.elapsed() < Duration::from_secs(2) {
            std::hint::spin_loop();
        }
        post.daemon.kill();
        post.relay.set(Fault::Refuse);
        post.relay.cut();
        window += post.in_doubt();
        post.daemon.restart();
    }
    // And while programs hand messages over: what was said to be taken is there.
    let mut accepted: Vec<String> = (0..KEPT).map(|n| format!("k{n}")).collect();
    for n in 0..8 {
        let subject = format!("c{n}");
        post.relay.set(if n % 2 == 0 { Fault::Refuse } else { Fault::None });
        let mut client: Smtp = post.login();
        client.says("MAIL FROM:<ann@example.org>", "250");
        client.says("RCPT TO:<bob@example.net>", "250");
        client.says("DATA", "354");
        client.raw(&dotted(message(&subject).as_bytes()));
        let said = if n < 2 { client.reply() } else { String::new() };
        std::thread::sleep(Duration::from_millis(2 * n));
        post.daemon.kill();
        let said = if said.is_empty() { client.try_reply().unwrap_or_default() } else { said };
        if said.starts_with("250") {
            accepted.push(subject);
        }
        window += post.in_doubt();
        post.daemon.restart();
    }
    post.relay.set(Fault::None);
    post.drain();
    // What was in doubt three times is not sent once more, and its sender is told.
    let is_told = |one: &str| {
        let mut reader = post.daemon.client();
        reader.cmd_ok("SELECT INBOX");
        let reports = reader.cmd_ok("UID FETCH 1:* (BODY.PEEK[])").by_uid();
        let subject = format!("Subject: {one}\r\n");
        reports.values().any(|items| String::from_utf8_lossy(items["BODY[]"].bytes()).contains(&subject))
    };
    wait_for("Exim to deliver", || accepted.iter().all(|one| post.arrived(one) > 0 || is_told(one)));
    let copies: Vec<(String, usize)> = accepted.iter().map(|one| (one.clone(), post.arrived(one))).collect();
    let doubles = copies.iter().filter(|(_, count)| *count > 1).count();
    println!("{} accepted, {window} in doubt at a kill, {doubles} doubles: {copies:?}", copies.len());
    assert!(copies.iter().all(|(one, count)| *count >= 1 || is_told(one)), "{copies:?}");
    assert!(doubles <= window, "doubles only where there was doubt: {doubles}, {window}");
}

/// A failure comes back into INBOX as a notification that a program can read.
#[test]
fn a_failure_comes_back() {
    const SCRIPT: &str = r#"
import email, email.policy, sys
report = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
assert report.get_content_type() == "multipart/report", report.get_content_type()
assert report.get_param("report-type") == "delivery-status"
assert not report.defects and not any(part.defects for part in report.walk()), [part.defects for part in report.walk()]
assert report["To"] == "ann@example.org" or report["To"] == "<ann@example.org>", report["To"]
assert report["Auto-Submitted"] == "auto-replied" and report["In-Reply-To"] == "<back@example.org>"
assert report["Date"].datetime is not None
text, status, original = report.iter_parts()
words = text.get_content()
assert "nobody@example.net" in words and "no such recipient" in words and "550 5.1.1" in words or "550" in words, words
assert status.get_content_type() == "message/delivery-status"
message, recipient = status.get_payload()
assert message["Reporting-MTA"].startswith("dns; ") and message["Original-Envelope-Id"] == "QQ314", dict(message)
assert recipient["Final-Recipient"] == "rfc822; nobody@example.net", dict(recipient)
assert recipient["Original-Recipient"].replace(" ", "") == "rfc822;n+b@example.net", dict(recipient)
assert recipient["Action"] == "failed" and recipient["Status"].startswith("5.")
assert recipient["Diagnostic-Code"].startswith("smtp; 550 ")
assert original.get_content_type() == "message/rfc822" and original.get_payload(0)["Subject"] == "back"
assert original.get_payload(0)["Received"] is None
"#;
    let post = Post::keeping("");
    // What the provider can is known by now.
    send(&post, &["bob@example.net"], "before");
    post.relay.set(Fault::Refuse);
    post.relay.cut();
    let mut client = post.login();
    client.says("MAIL FROM:<ann@example.org> RET=FULL ENVID=QQ314", "250");
    client.says("RCPT TO:<nobody@example.net> ORCPT=rfc822;n+2Bb@example.net", "250");
    client.says("RCPT TO:<bob@example.net> NOTIFY=NEVER", "250");
    client.says("DATA", "354");
    client.raw(&dotted(message("back").as_bytes()));
    assert!(client.reply().starts_with("250"));
    post.relay.set(Fault::None);
    post.drain();
    post.exim.wait_sent(2);
    let mut reader = post.daemon.client();
    let mut text = Vec::new();
    wait_for("the notification", || {
        reader.cmd_ok("SELECT INBOX");
        text = body_of_last(&mut reader);
        String::from_utf8_lossy(&text).contains("delivery-status")
    });
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT]);
    super::programs::run(python, "python3", &text);
    let failed = post.daemon.metric("mailweir_outbox_failures_total", &["outcome=\"told\""]);
    assert!((failed - 1.0).abs() < f64::EPSILON, "{failed}");
}

/// There is an end to what is kept: the program is told to keep it.
#[test]
fn a_full_outbox_takes_no_more() {
    let post = Post::keeping("queue_max_messages = 2\nqueue_max_size = \"3kB\"");
    post.relay.set(Fault::Refuse);
    post.relay.cut();
    let mut client = post.login();
    let answer = client.ask("MAIL FROM:<ann@example.org> SIZE=4000");
    assert!(answer.starts_with("452 4.3.1"), "{answer}");
    // One that says nothing of its size is refused at its end.
    client.says("MAIL FROM:<ann@example.org>", "250");
    client.says("RCPT TO:<bob@example.net>", "250");
    client.says("DATA", "354");
    client.raw(&dotted(format!("Subject: large\r\n\r\n{}\r\n", "x".repeat(4000)).as_bytes()));
    let answer = client.reply();
    assert!(answer.starts_with("452 4.3.1"), "{answer}");
    for n in 0..2 {
        send(&post, &["bob@example.net"], &format!("f{n}"));
    }
    let answer = post.login().ask("MAIL FROM:<ann@example.org>");
    assert!(answer.starts_with("452 4.3.1"), "{answer}");
    post.relay.set(Fault::None);
    post.drain();
    post.exim.wait_sent(2);
}

/// A copy for the archive and one in the sent folder, a Reply-To; and what becomes of the copies concerns nobody.
#[test]
fn copies_and_reply_to() {
    let more = "\narchive = \"archive@example.net\"\nreply_to = \"office@example.org\"\nsent_copy = \"mailweir\"";
    let post = Post::with("none", |setup| setup.accounts[0].smtp += more);
    let text = "Message-ID: <copies@example.org>\r\nReply-To: ann@example.org,\r\n\tbob@example.net\r\nSubject: copies\r\n\r\nReply-To: stays\r\n";
    post.login().send("ann@example.org", &["bob@example.net"], text);
    let want = "Reply-To: <office@example.org>\r\nMessage-ID: <copies@example.org>\r\nSubject: copies\r\n\r\nReply-To: stays\r\n";
    for message in post.exim.wait_sent(2) {
        assert_eq!(String::from_utf8_lossy(&message), want);
    }
    for address in ["bob@example.net", "archive@example.net"] {
        wait_for("Exim to note the delivery", || post.exim.delivered(address) == 1);
    }
    let mut reader = post.daemon.client();
    let count = |reader: &mut Client| {
        reader.cmd_ok("SELECT Sent");
        reader.cmd_ok("UID SEARCH HEADER MESSAGE-ID <copies@example.org>").search().len()
    };
    wait_for("the copy in the sent folder", || count(&mut reader) == 1);
    // The program's own upload is answered with it.
    let uploaded = reader.append("Sent", "\\Seen", want.as_bytes());
    assert!(uploaded.is_some() && count(&mut reader) == 1);
    wait_for("nothing more to do", || post.waiting().as_array().unwrap().is_empty());
    assert!(reader.cmd_ok("FETCH 1 (FLAGS)").lines().concat().contains("\\Seen"));
    assert_eq!(String::from_utf8_lossy(&body_of_last(&mut reader)), want);
    // An archive that does not exist: the message is sent, and nobody is told.
    let more = "\narchive = \"nobody@example.net\"";
    let post = Post::with("none", |setup| setup.accounts[0].smtp += more);
    send(&post, &["bob@example.net"], "lone");
    post.exim.wait_sent(1);
    wait_for("the copy to be given up", || post.waiting().as_array().unwrap().is_empty());
    assert!(post.daemon.metric("mailweir_outbox_failures_total", &["outcome=\"untold\""]) > 0.0);
}

/// A spent day is waited out: what is kept meanwhile is not tried, the provider hears nothing of it, and it counts once.
#[test]
fn the_outbox_waits_out_a_spent_day() {
    let mut post = Post::with("none", |setup| {
        setup.accounts[0].smtp += "\nqueue = true";
        setup.accounts[0].limits_more = "messages_per_day = 1".into();
    });
    send(&post, &["bob@example.net"], "one");
    post.exim.wait_sent(1);
    let asked = (post.relay.accepted(), post.relay.up());
    send(&post, &["bob@example.net"], "two");
    for _ in 0..3 {
        post.outbox(&["retry"]);
    }
    let waits = post.waiting();
    assert_eq!(waits.as_array().map(Vec::len), Some(1), "{waits}");
    assert!(waits.to_string().contains("1 messages in 24 hours"), "{waits}");
    let used = |post: &Post| post.daemon.metric("mailweir_sends_used", &["counted=\"messages\""]);
    assert_eq!((post.relay.accepted(), post.relay.up(), used(&post)), (asked.0, asked.1, 1.0));
    // More is granted.
    post.daemon.change(|setup| setup.accounts[0].limits_more = "messages_per_day = 2".into());
    post.daemon.reload("the configuration was read again");
    post.drain();
    wait_for("Exim to deliver", || post.arrived("two") == 1);
    assert_eq!(used(&post), 2.0);
}
