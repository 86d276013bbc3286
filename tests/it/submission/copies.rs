//! A mail program's own copy of what still waits to be sent.

use super::Post;
use super::outbox::{message, send};
use crate::harness::client::Client;
use crate::harness::relay::Fault;
use crate::harness::wait_for;

/// Taken at once, and in the sent folder once: here the provider files none, so in the end it is the program's.
#[test]
fn a_copy_of_what_waits_waits_with_it() {
    let post = Post::keeping("sent_copy = \"provider\"");
    post.relay.set(Fault::Refuse);
    post.relay.cut();
    send(&post, &["bob@example.net"], "late");
    let mut reader = post.daemon.client();
    let count = |reader: &mut Client, id: &str| {
        reader.cmd_ok("SELECT Sent");
        reader.cmd_ok(&format!("UID SEARCH HEADER MESSAGE-ID <{id}@example.org>")).search().len()
    };
    for _ in 0..2 {
        let place = reader.append("Sent", "\\Seen", message("late").as_bytes());
        assert!(place.is_none(), "it has no place yet");
    }
    let other = reader.append("Sent", "\\Seen", message("other").as_bytes());
    assert!(other.is_some(), "what does not wait is uploaded");
    assert_eq!(count(&mut reader, "other"), 1);
    assert_eq!(count(&mut reader, "late"), 0);
    assert_eq!(post.waiting().as_array().map(Vec::len), Some(2));
    post.relay.set(Fault::None);
    post.drain();
    wait_for("Exim to deliver", || post.arrived("late") == 1);
    wait_for("the copy", || count(&mut reader, "late") == 1);
}
