//! The tricks of those who look for an open relay; none of them reaches the provider.

use super::Post;

const PROBES: [&[(&str, &str)]; 12] = [
    &[("MAIL FROM:<ann@example.org>", "530 5.7.0")],
    &[("MAIL FROM:<>", "530 5.7.0")],
    &[("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwB3cm9uZw==", "535 5.7.8"), ("MAIL FROM:<ann@example.org>", "530 5.7.0")],
    &[("RCPT TO:<victim@example.net>", "503 5.5.1"), ("DATA", "503 5.5.1")],
    &[("LOGIN", ""), ("MAIL FROM:<eve@evil.example>", "553 5.7.1")],
    &[("LOGIN", ""), ("MAIL FROM:<ann@example.org@evil.example>", "501 5.1.3")],
    &[("LOGIN", ""), ("MAIL FROM:<\"ann@example.org\"@evil.example>", "553 5.7.1")],
    &[("LOGIN", ""), ("MAIL FROM:<ann%example.org@evil.example>", "553 5.7.1")],
    &[("LOGIN", ""), ("MAIL FROM:<evil.example!ann@example.org>", "553 5.7.1")],
    &[("LOGIN", ""), ("MAIL FROM:<@example.org:eve@evil.example>", "553 5.7.1")],
    &[
        ("LOGIN", ""),
        ("MAIL FROM:<ann@example.org> AUTH=eve@evil.example", "250"),
        ("RCPT TO:<a@b>\rRCPT TO:<c@d>", "500"),
    ],
    &[("LOGIN", ""), ("MAIL FROM:<ann@example.org>,<eve@evil.example>", "501 5.1.3")],
];

#[test]
fn probes_of_open_relays_are_refused() {
    let post = Post::start();
    for probe in PROBES {
        let mut client = post.connect();
        client.ehlo();
        for (command, want) in probe {
            match *command {
                "LOGIN" => client.says("AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBsb2NhbC1zZWNyZXQ=", "235"),
                command => client.says(command, want),
            }
        }
    }
    assert_eq!(post.exim.taken(), 0);
}

/// A second message hidden behind a lone dot that only some servers see.
#[test]
fn smuggled_messages_do_not_pass() {
    let post = Post::start();
    for end in ["\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\r\n.\n", "\r.\r\n"] {
        let mut client = post.login();
        client.says("MAIL FROM:<ann@example.org>", "250");
        client.says("RCPT TO:<bob@example.net>", "250");
        client.says("DATA", "354");
        let smuggled = format!(
            "Subject: one\r\n\r\none{end}MAIL FROM:<eve@evil.example>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\ntwo\r\n.\r\n"
        );
        client.raw(smuggled.as_bytes());
        assert!(client.reply().starts_with("550 5.6.0"), "{end:?}");
        client.says("NOOP", "250");
    }
    // Without the dot a bare line end is mended, and what is behind it is text.
    post.login().send("ann@example.org", &["bob@example.net"], "Subject: two\n\nbare\n..\r\nend\r\n");
    assert_eq!(post.exim.wait_sent(1), [b"Subject: two\r\n\r\nbare\r\n..\r\nend\r\n"]);
    assert_eq!(post.exim.taken(), 1);
}
