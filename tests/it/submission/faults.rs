//! The way to the provider is cut, at every place: what the client is answered is true.

use super::Post;
use crate::harness::relay::Way;
use crate::harness::smtp::dotted;
use crate::harness::wait_for;

/// What the client was told of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Sent,
    NotSent,
    /// The provider was lost before it answered, and that is what was said.
    Unknown,
}

fn send(post: &Post, number: usize) -> Told {
    let mut client = post.login();
    let from = client.ask("MAIL FROM:<ann@example.org>");
    if !from.starts_with("250") {
        assert!(from.starts_with('4'), "{from}");
        return Told::NotSent;
    }
    let to = client.ask("RCPT TO:<bob@example.net>");
    let data = client.ask("DATA");
    if !data.starts_with("354") {
        assert!(data.starts_with('4') || to.starts_with('4'), "{to} / {data}");
        return Told::NotSent;
    }
    let message = format!("From: ann@example.org\r\nSubject: {number}\r\n\r\nsome lines\r\nof text\r\n");
    client.raw(&dotted(message.as_bytes()));
    let verdict = client.reply();
    match verdict.as_str() {
        verdict if verdict.starts_with("250") => Told::Sent,
        verdict if verdict.contains("is not known") && verdict.starts_with('4') => Told::Unknown,
        verdict => {
            assert!(verdict.starts_with('4'), "{verdict}");
            Told::NotSent
        }
    }
}

/// Every few octets of a whole talk, in both directions.
#[test]
fn every_answer_is_true_wherever_the_way_is_cut() {
    const STEPS: u64 = 24;
    let post = Post::start();
    assert_eq!(send(&post, 0), Told::Sent);
    let (up, down) = (post.relay.up(), post.relay.down());
    let mut told = vec![Told::Sent];
    for step in 0..STEPS {
        let (way, of) = if step % 2 == 0 { (Way::Up, up) } else { (Way::Down, down) };
        // A new connection, cut after so many octets of it.
        post.relay.cut();
        post.relay.cut_after(way, 1 + of * (step / 2) / (STEPS / 2));
        told.push(send(&post, told.len()));
    }
    // The last cut may not have been met.
    post.relay.cut_after(Way::Up, u64::MAX);
    post.relay.cut();
    assert_eq!(send(&post, told.len()), Told::Sent);
    told.push(Told::Sent);
    let arrived = |number: usize| {
        let subject = format!("Subject: {number}\r\n");
        post.exim.sent().iter().filter(|message| String::from_utf8_lossy(message).contains(&subject)).count()
    };
    for (number, told) in told.iter().enumerate() {
        match told {
            Told::Sent => wait_for("a message that was said to be sent", || arrived(number) > 0),
            Told::NotSent => assert_eq!(arrived(number), 0, "{number} was said not to be sent"),
            Told::Unknown => {}
        }
        assert!(arrived(number) <= 1, "{number} is there twice");
    }
    let count = |what| told.iter().filter(|told| **told == what).count();
    println!("{} sent, {} not, {} unknown", count(Told::Sent), count(Told::NotSent), count(Told::Unknown));
    assert!(count(Told::NotSent) > 0 && count(Told::Unknown) > 0, "cuts were met: {told:?}");
}

/// A program that goes away in the middle of its message.
#[test]
fn a_client_that_is_cut_sends_nothing() {
    let post = Post::start();
    let mut client = post.login();
    client.says("MAIL FROM:<ann@example.org>", "250");
    client.says("RCPT TO:<bob@example.net>", "250");
    client.says("DATA", "354");
    client.raw(b"Subject: half\r\n\r\nhalf of a mess");
    drop(client);
    assert_eq!(send(&post, 1), Told::Sent);
    wait_for("the half to be given up", || post.exim.log().contains("lost while reading message data"));
    assert_eq!(post.exim.taken(), 1);
}
