//! Messages and recipients a day: what is too much is refused before the provider is asked, in words that say when it goes on.

use std::process::Command;

use super::Post;
use crate::harness::daemon::PROGRAM;
use crate::harness::straight_run;

#[test]
fn the_days_messages_and_recipients_have_an_end() {
    if straight_run() {
        return;
    }
    let mut post = Post::with("none", |setup| {
        setup.accounts[0].limits_more = "messages_per_day = 3\nrecipients_per_day = 5".into();
    });
    let message = "Subject: one\r\n\r\none\r\n";
    let mut c = post.login();
    c.send("ann@example.org", &["bob@example.net", "carol@example.net"], message);
    c.send("ann@example.org", &["bob@example.net", "carol@example.net"], message);
    // One recipient is left: the second of this message is refused, the first gets it.
    c.says("MAIL FROM:<ann@example.org>", "250");
    c.raw(b"RCPT TO:<bob@example.net>\r\nRCPT TO:<carol@example.net>\r\nRCPT TO:<dave@example.net>\r\n");
    assert!(c.reply().starts_with("250"));
    for _ in 0..2 {
        let refused = c.reply();
        assert!(refused.starts_with("452 4.5.3") && refused.contains("5 recipients in 24 hours"), "{refused}");
    }
    c.says("DATA", "354");
    c.raw(&crate::harness::smtp::dotted(message.as_bytes()));
    assert!(c.reply().starts_with("250"));
    // The day is spent: the provider hears nothing of a fourth, over a crash too.
    let asked = (post.relay.accepted(), post.relay.up());
    for _ in 0..3 {
        let refused = c.ask("MAIL FROM:<ann@example.org>");
        assert!(refused.starts_with("452 4.5.3") && refused.contains("goes on in 24 h"), "{refused}");
        assert!(refused.contains("3 messages") && refused.contains(" UTC"), "{refused}");
    }
    assert_eq!((post.relay.accepted(), post.relay.up()), asked);
    for (counted, used, limit) in [("messages", 3.0, 3.0), ("recipients", 5.0, 5.0)] {
        let label = format!("counted=\"{counted}\"");
        assert_eq!(post.daemon.metric("mailweir_sends_used", &[&label]), used);
        assert_eq!(post.daemon.metric("mailweir_sends_limit", &[&label]), limit);
    }
    drop(c);
    post.daemon.kill();
    post.daemon.restart();
    let refused = post.login().ask("MAIL FROM:<ann@example.org>");
    assert!(refused.starts_with("452 4.5.3"), "{refused}");
    let (_, status) = post.daemon.http_get("/status.json");
    assert!(status.contains("\"messages_sent\": 3") && status.contains("\"recipients_allowed\": 5"), "{status}");
    // More is granted: it goes on at once.
    post.daemon.change(|setup| setup.accounts[0].limits_more = "messages_per_day = 4".into());
    post.daemon.reload("the configuration was read again");
    post.login().send("ann@example.org", &["bob@example.net"], message);
}

/// `mailweir check --send-test` is another process, and its messages count like all others.
#[test]
fn what_is_sent_to_try_it_out_counts() {
    if straight_run() {
        return;
    }
    let post = Post::with("none", |setup| setup.accounts[0].limits_more = "messages_per_day = 2".into());
    let check = || {
        let mut command = Command::new(PROGRAM);
        command.args(["check", "ann@example.org", "--send-test", "bob@example.net", "--config"]);
        let out = command.arg(post.daemon.config_file()).output().expect("mailweir check");
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let (well, said) = check();
    assert!(well, "{said}");
    let mut c = post.login();
    c.send("ann@example.org", &["bob@example.net"], "Subject: one\r\n\r\none\r\n");
    let refused = c.ask("MAIL FROM:<ann@example.org>");
    assert!(refused.starts_with("452 4.5.3") && refused.contains("2 messages"), "{refused}");
    let (well, said) = check();
    assert!(!well && said.contains("used up"), "{said}");
    assert_eq!(post.exim.taken(), 2);
    assert_eq!(post.daemon.metric("mailweir_sends_used", &["counted=\"messages\""]), 2.0);
}
