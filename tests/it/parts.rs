//! Large messages by part: the text of a message costs the text, until somebody walks through it; and always upstream's bytes.

use crate::harness::answer::Value;
use crate::harness::client::Client;
use crate::harness::mail;
use crate::harness::world::{Kind, World};
use crate::over_dovecot;

over_dovecot!(a_big_message_is_fetched_by_part_until_walked_through);

const SMALL_ASKS: [&str; 9] = [
    "BODYSTRUCTURE",
    "BODY.PEEK[HEADER]",
    "BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)]",
    "BODY.PEEK[1]",
    "BODY.PEEK[1]<4.4>",
    "BODY.PEEK[1.MIME]",
    "BODY.PEEK[2.MIME]",
    "BODY.PEEK[1]<1000.4>",
    "BODY.PEEK[1] BODY.PEEK[2.MIME] BODY.PEEK[HEADER]",
];

fn a_big_message_is_fetched_by_part_until_walked_through(kind: Kind) {
    let body = mail::big(71, 20_000_000);
    let world = World::new(kind, |c| {
        c.append("INBOX", "", &body);
        c.append("INBOX", "", b"Subject: small\r\n\r\nsmall\r\n");
    });
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("EXAMINE INBOX");
    up.cmd_ok("EXAMINE INBOX");
    let ask = |client: &mut Client, what: &str| {
        let mut fetched = client.cmd_ok(&format!("UID FETCH 1 ({what})")).by_uid();
        fetched.remove(&1).expect("an answer for UID 1")
    };
    let before = world.relay.bytes();
    for what in SMALL_ASKS.iter().chain(&SMALL_ASKS) {
        assert_eq!(ask(&mut c, what), ask(&mut up, what), "{what}");
    }
    // With a small message beside it, the answers keep their order and their bytes.
    let both = |client: &mut Client| client.cmd_ok("UID FETCH 1:2 (BODY.PEEK[1])").by_uid();
    assert_eq!(both(&mut c), both(&mut up));
    let spent = world.relay.bytes() - before;
    assert!(spent < 100_000, "{spent} bytes upstream");

    // The attachment is nearly all of it: from now on it is cut from the whole, which is fetched once.
    for what in ["BODY.PEEK[2]<0.1000>", "BODY.PEEK[2]", "BODY.PEEK[1]", "BODY.PEEK[2.MIME]", "BODY.PEEK[TEXT]<5.100>"]
    {
        assert_eq!(ask(&mut c, what), ask(&mut up, what), "{what}");
    }
    let whole = ask(&mut c, "BODY.PEEK[]");
    assert!(whole["BODY[]"] == Value::Text(body.clone()), "another body");
    for origin in [0, 1, 65_536, body.len() - 10, body.len(), body.len() + 1] {
        let what = format!("BODY.PEEK[]<{origin}.65536>");
        assert_eq!(ask(&mut c, &what), ask(&mut up, &what), "{what}");
    }
    if !world.is_straight() {
        let spent = world.relay.bytes() - before;
        assert!(spent < body.len() as u64 * 11 / 10, "{spent} bytes upstream for one message");
    }
}
