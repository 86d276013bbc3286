//! A login at a server that plays its replies in order, one for each line it is told. Time is paused.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::{Instant, sleep};

use super::*;
use crate::net::dial::{DialError, TlsMode};
use crate::net::{Stream, Tap};
use crate::secret::Secret;
use crate::upstream::config::TokenFault;

/// Replies, the greeting first; every connection plays them from the beginning.
struct Played {
    replies: &'static [&'static str],
    /// The last reply never ends: an octet each second.
    drips: bool,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Dial for Played {
    fn dial(&self, _: Arc<dyn Tap>) -> BoxFuture<'_, Result<Stream, DialError>> {
        let (here, there) = Stream::pair();
        let (replies, drips, heard) = (self.replies, self.drips, Arc::clone(&self.heard));
        tokio::spawn(async move {
            let mut there = BufReader::new(there);
            for reply in replies {
                there.write_all(format!("{reply}\r\n").as_bytes()).await.unwrap();
                let mut line = String::new();
                if there.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                heard.lock().unwrap().push(line.trim_end().to_owned());
            }
            while drips && there.write_all(b"2").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        async { Ok(here) }.boxed()
    }

    fn upgrade(&self, stream: Stream) -> BoxFuture<'_, Result<Stream, DialError>> {
        async { Ok(stream) }.boxed()
    }

    fn tls(&self) -> TlsMode {
        TlsMode::Implicit
    }

    fn host(&self) -> (&str, u16) {
        ("smtp.example.org", 465)
    }
}

/// What a login comes to, what the server was told, and how long it took.
async fn log_in(
    replies: &'static [&'static str],
    drips: bool,
    credentials: &Credentials,
) -> (Smtp, Result<(), SmtpError>, Vec<String>, Duration) {
    let heard = Arc::new(Mutex::default());
    let dial = Arc::new(Played { replies, drips, heard: Arc::clone(&heard) });
    let config =
        SmtpConfig { label: "ann".into(), dial, username: "ann".into(), meter: Arc::new(()), postage: Arc::new(()) };
    let (smtp, started) = (Smtp::new(config), Instant::now());
    let done = smtp.lease(credentials).await.map(drop);
    let heard = heard.lock().unwrap().clone();
    (smtp, done, heard, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_long_response_follows_the_challenge() {
    let replies = &["220 x", "250-x\r\n250 AUTH PLAIN", "334 ", "235 welcome"];
    let password = Credentials::Password(Secret::new("x".repeat(600).into_bytes()));
    let (_, done, heard, _) = log_in(replies, false, &password).await;
    assert_eq!(done, Ok(()));
    assert_eq!(heard.get(1).map(String::as_str), Some("AUTH PLAIN"));
    assert!(heard.get(2).is_some_and(|line| line.len() > 800), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn servers_that_come_to_no_end_are_left() {
    let password = Credentials::Password(Secret::new(*b"pw"));
    let asks = &["220 x", "250-x\r\n250 AUTH PLAIN", "334 ", "334 ", "334 "];
    let (_, done, heard, _) = log_in(asks, false, &password).await;
    assert!(matches!(done, Err(SmtpError::Unavailable(_))), "{done:?}");
    assert_eq!(heard.last().map(String::as_str), Some("*"));
    // It drips its reply to EHLO, or never greets at all.
    let (_, done, _, took) = log_in(&["220 x"], true, &password).await;
    assert!(matches!(done, Err(SmtpError::Unavailable(_))), "{done:?}");
    assert_eq!(took.as_secs(), 45);
    let (_, done, _, took) = log_in(&[], true, &password).await;
    assert!(matches!(&done, Err(SmtpError::Unavailable(words)) if words.contains("does not greet")), "{done:?}");
    assert_eq!(took.as_secs(), 30);
}

/// {"status":"401","schemes":"Bearer","scope":"mail"}: read, answered with nothing, and told once a fresh token was refused, too.
#[tokio::test(start_paused = true)]
async fn the_error_in_a_challenge_is_read() {
    const ERROR: &str = "334 eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJtYWlsIn0=";
    let replies = &["220 x", "250-x\r\n250 AUTH XOAUTH2", ERROR, "535 5.7.8 no", ERROR, "535 5.7.8 no"];
    let tokens =
        |refused: Option<Secret>| async move { Ok(Secret::new(if refused.is_some() { "new" } else { "old" })) };
    let (_, done, heard, _) = log_in(replies, false, &Credentials::OAuth(Arc::new(tokens))).await;
    let words = done.unwrap_err().to_string();
    assert!(words.contains("no (status \"401\", wants the scope \"mail\")") && words.contains("scopes"), "{words}");
    // user=ann^Aauth=Bearer old^A^A, and the same with the new one; each error is answered with an empty line.
    let want = ["EHLO [127.0.0.1]", "AUTH XOAUTH2 dXNlcj1hbm4BYXV0aD1CZWFyZXIgb2xkAQE=", ""];
    assert_eq!(heard, [&want[..], &["AUTH XOAUTH2 dXNlcj1hbm4BYXV0aD1CZWFyZXIgbmV3AQE=", ""]].concat());
}

/// A server that has enough says so before the end, and is heard before more is sent.
#[tokio::test(start_paused = true)]
async fn an_early_refusal_is_heard() {
    let replies = &["220 x", "250-x\r\n250 AUTH PLAIN", "235 welcome", "354 go on", "552 5.3.4 enough", "250 never"];
    let (heard, password) = (Arc::new(Mutex::default()), Credentials::Password(Secret::new(*b"pw")));
    let dial = Arc::new(Played { replies, drips: false, heard: Arc::clone(&heard) });
    let config =
        SmtpConfig { label: "ann".into(), dial, username: "ann".into(), meter: Arc::new(()), postage: Arc::new(()) };
    let mut passage = Smtp::new(config).lease(&password).await.unwrap();
    passage.send("DATA").await.unwrap();
    assert_eq!(passage.reply().await.unwrap().code, 354);
    passage.write(b"one line\r\n").await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert!(!passage.is_unsent());
    assert!(passage.write(b"another\r\n").await.is_err());
    assert!(passage.is_unsent());
    assert_eq!(passage.last_words().await.map(|reply| reply.code), Some(552));
    assert!(!heard.lock().unwrap().iter().any(|line| line == "another"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_consent_is_no_refusal_of_the_server() {
    let tokens = |_| async { Err(TokenFault::Login("consent is wanted".into())) };
    let credentials = Credentials::OAuth(Arc::new(tokens));
    let (smtp, done, _, _) = log_in(&["220 x", "250-x\r\n250 AUTH XOAUTH2"], false, &credentials).await;
    assert!(matches!(done, Err(SmtpError::Unavailable(words)) if words.contains("account login ann")));
    assert_eq!(smtp.inner.may_try(), Ok(()));
}

/// The day is spent when the provider has said so.
#[derive(Default)]
struct Day(Mutex<Option<Reply>>);

impl Postage for Day {
    fn room(&self, _: u64) -> Result<(), Reply> {
        self.0.lock().unwrap().as_ref().map_or(Ok(()), |_| Err(Reply::new(451, "4.7.1", "tomorrow")))
    }

    fn spent(&self, reply: &Reply) {
        *self.0.lock().unwrap() = Some(reply.clone());
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_day_is_not_tried_again() {
    let heard = Arc::new(Mutex::<Vec<String>>::default());
    let replies = &["220 x", "250 x", "250 ok", "250 ok", "354 go on", "550 5.4.5 Daily user sending limit exceeded."];
    let dial = Arc::new(Played { replies, drips: false, heard: Arc::clone(&heard) });
    let postage = Arc::<Day>::default();
    let config = SmtpConfig { label: "ann".into(), dial, username: "ann".into(), meter: Arc::new(()), postage };
    let smtp = Smtp::new(config);
    let password = Credentials::Password(Secret::new(*b"pw"));
    let mut passage = smtp.lease(&password).await.ok().unwrap();
    for line in ["MAIL FROM:<a@x>", "RCPT TO:<b@x>", "DATA"] {
        passage.send(line).await.unwrap();
        assert!(passage.reply().await.unwrap().code < 400, "{line}");
    }
    passage.write(b"x\r\n").await.unwrap();
    assert_eq!(passage.verdict().await.unwrap().code, 550);
    passage.rest(true).await;
    let said = heard.lock().unwrap().len();
    assert!(matches!(smtp.lease(&password).await, Err(SmtpError::Limit(reply)) if reply.code == 451));
    assert_eq!(heard.lock().unwrap().len(), said, "not a word is said");
}
