//! Transcripts over a connection in memory: `C:` is what a client sends, `S:` what it must read, line by line.
//!
//! `1C:` and `2S:` name one of several clients. A line that ends in `…` is compared up to there. `!` runs a step of the test's
//! own, such as mail arriving. Time is paused: waiting costs none.

mod access;
mod alive;
mod appends;
mod change;
mod many;
mod random;
mod read;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;

use super::{Accepted, Server, Unobserved, serve};
use crate::net::Stream;
use crate::session::testing::{FakeAccount, FakeLogin};

/// A message whose parts every test knows.
pub(super) const MESSAGE: &str = "From: Ann <ann@example.org>\r\nTo: bob@example.org\r\nSubject: Weir\r\n\
    Date: Fri, 17 Jul 2026 02:44:25 +0200\r\nMessage-ID: <1@example.org>\r\n\r\nHello\r\n";

pub(super) struct Client {
    stream: BufReader<Stream>,
}

impl Client {
    pub(super) async fn line(&mut self) -> String {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        match tokio::time::timeout(Duration::from_secs(3600), read).await {
            Err(_) => "(silence)".to_owned(),
            Ok(Err(error)) => format!("({error})"),
            Ok(Ok(0)) => "(end)".to_owned(),
            Ok(Ok(_)) => String::from_utf8_lossy(&line).trim_end_matches("\r\n").to_owned(),
        }
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(super) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// Sends a command and gives every line up to its tagged one.
    pub(super) async fn command(&mut self, tag: &str, text: &str) -> Vec<String> {
        self.send(&format!("{tag} {text}\r\n")).await;
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            let done = line.starts_with(&format!("{tag} ")) || line.starts_with('(');
            lines.push(line);
            if done {
                return lines;
            }
        }
    }
}

pub(super) struct Bench {
    pub(super) account: FakeAccount,
    pub(super) server: Arc<Server<FakeLogin>>,
    pub(super) shutdown: CancellationToken,
    pub(super) plaintext_login: bool,
}

impl Bench {
    pub(super) fn new() -> Self {
        let account = FakeAccount::new();
        let server = Server::new(FakeLogin(account.clone()), None, Arc::new(Unobserved), "mailweir");
        Self { account, server: Arc::new(server), shutdown: CancellationToken::new(), plaintext_login: true }
    }

    pub(super) fn connect(&self) -> Client {
        let (here, there) = Stream::pair();
        let accepted = Accepted { stream: there, implicit_tls: false, plaintext_login: self.plaintext_login };
        tokio::spawn(serve(Arc::clone(&self.server), accepted, self.shutdown.clone()));
        Client { stream: BufReader::new(here) }
    }

    /// Connected, logged in, mailbox selected; answers not looked at.
    pub(super) async fn selected(&self, mailbox: &str) -> Client {
        let mut client = self.connect();
        client.line().await;
        assert!(client.command("l", "LOGIN ann pw").await.last().is_some_and(|line| line.starts_with("l OK")));
        if !mailbox.is_empty() {
            let done = client.command("s", &format!("SELECT {mailbox}")).await;
            assert!(done.last().is_some_and(|line| line.starts_with("s OK")), "{done:?}");
        }
        client
    }

    /// Plays a transcript with clients that have INBOX selected (`start`: any other, or none when empty).
    pub(super) async fn play(&self, start: &str, script: &str, step: impl Fn(&str)) {
        let mut clients: Vec<Client> = Vec::new();
        for (number, line) in script.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() {
                continue;
            }
            if let Some(name) = line.strip_prefix("! ") {
                step(name);
                continue;
            }
            let (head, text) = line.split_once(':').expect("a transcript line has a colon");
            let text = text.strip_prefix(' ').unwrap_or(text);
            let digit = head.chars().next().and_then(|c| c.to_digit(10)).unwrap_or(1) as usize;
            while clients.len() < digit {
                clients.push(if start == "-" { self.connect() } else { self.selected(start).await });
            }
            let client = &mut clients[digit - 1];
            if head.ends_with('C') {
                client.send(&format!("{text}\r\n")).await;
                continue;
            }
            let got = client.line().await;
            let same = match text.strip_suffix('…') {
                Some(start) => got.starts_with(start),
                None => got == text,
            };
            assert!(same, "line {}: expected\n  {text}\ngot\n  {got}", number + 1);
        }
        // Nothing may stand behind the last line: the next answer is to this, or the connection has ended.
        for client in &mut clients {
            if client.stream.write_all(b"zz FAIL\r\n").await.is_ok() {
                let got = client.line().await;
                assert!(got.starts_with("zz BAD") || got.starts_with('('), "unasked at the end: {got}");
            }
        }
    }
}
