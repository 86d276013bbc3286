//! Transcripts over a connection in memory: `C:` is what a client sends, `S:` what it must read, line by line; `\r`, `\n` in a line are
//! what they mean in Rust. What reaches the provider is held against `P:` lines at the end. Time is paused: waiting costs none.

mod access;
mod gone;
mod message;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;

use super::{Grant, Login, LoginError, Outgoing, Passage, Server, serve};
use crate::net::Stream;
use crate::secret::Secret;
use crate::session::front::{Accepted, Unobserved};
use crate::wire::smtp::{Extensions, Reply};

/// A provider whose every reply follows from the command: what a line contains decides.
#[derive(Clone, Default)]
struct Provider {
    heard: Arc<Mutex<Vec<String>>>,
    message: Arc<Mutex<Vec<u8>>>,
    offers: Arc<Mutex<Extensions>>,
    /// The connection is lost at the command with this word, or at the message's octets (`octets`), or its end (`dot`, `dot without a word`,
    /// `verdict`).
    lost_at: Arc<Mutex<&'static str>>,
    spent: Arc<Mutex<bool>>,
    /// The command that begins with this word (`.`: the message) is answered by this code.
    odd: Arc<Mutex<Option<(&'static str, u16)>>>,
    /// What every message came to.
    told: Arc<Mutex<Vec<(u16, usize, u64)>>>,
}

impl Provider {
    fn hear(&self, words: &str) {
        self.heard.lock().unwrap().push(words.to_owned());
    }

    fn is_lost_at(&self, place: &str) -> bool {
        let at = *self.lost_at.lock().unwrap();
        !at.is_empty() && place.contains(at)
    }

    fn odd_at(&self, place: &str) -> Option<Reply> {
        let odd = *self.odd.lock().unwrap();
        odd.filter(|(word, _)| place.starts_with(word)).map(|(_, code)| Reply::new(code, "", "odd"))
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn message(&self) -> String {
        let raw = self.message.lock().unwrap().clone();
        let text = String::from_utf8(raw).unwrap();
        // The trace header holds the time of day.
        let (trace, rest) = text.split_once("\r\n").unwrap_or(("", &text));
        assert!(trace.is_empty() || trace.starts_with("Received: from localhost by localhost (mailweir)"), "{trace}");
        rest.split_once("\r\n").map_or(rest, |(_, rest)| rest).to_owned()
    }
}

struct Way {
    provider: Provider,
    replies: std::collections::VecDeque<String>,
    /// Given back in order, or the connection has been closed.
    rested: bool,
}

impl Drop for Way {
    fn drop(&mut self) {
        if !self.rested {
            self.provider.hear("(closed)");
        }
    }
}

impl Passage for Way {
    fn pipelines(&self) -> bool {
        true
    }

    async fn send(&mut self, line: String) -> Result<(), String> {
        self.provider.hear(&line);
        if self.provider.is_lost_at(&line) {
            return Err("reset".into());
        }
        self.replies.push_back(line);
        Ok(())
    }

    async fn reply(&mut self) -> Result<Reply, String> {
        let line = self.replies.pop_front().expect("a command was sent");
        if let Some(odd) = self.provider.odd_at(&line) {
            return Ok(odd);
        }
        let reply = match line.as_str() {
            line if line.contains("nobody") => Reply::new(550, "5.1.1", "no such user"),
            line if line.contains("slow") => Reply::new(451, "4.7.1", "greylisted"),
            line if line.starts_with("RCPT") => Reply::new(250, "2.1.5", "recipient"),
            "DATA" => Reply::new(354, "", "go on"),
            _ => Reply::new(250, "2.1.0", "sender"),
        };
        Ok(reply)
    }

    async fn write(&mut self, dotted: &[u8]) -> Result<(), String> {
        let is_end = dotted.ends_with(b".\r\n");
        if self.provider.is_lost_at("octets") || (is_end && self.provider.is_lost_at("dot without a word")) {
            return Err("reset".into());
        }
        self.provider.message.lock().unwrap().extend_from_slice(dotted);
        Ok(())
    }

    async fn verdict(&mut self) -> Result<Reply, String> {
        assert!(self.provider.message.lock().unwrap().ends_with(b"\r\n.\r\n"), "the message has its end");
        if self.provider.is_lost_at("verdict") {
            return Err("reset".into());
        }
        Ok(self.provider.odd_at(".").unwrap_or_else(|| Reply::new(250, "2.0.0", "queued as 1")))
    }

    async fn last_words(&mut self) -> Option<Reply> {
        match *self.provider.lost_at.lock().unwrap() == "dot without a word" {
            true => None,
            false => Some(self.provider.odd_at(".").unwrap_or_else(|| Reply::new(552, "5.3.4", "enough"))),
        }
    }

    async fn rest(mut self, clean: bool) {
        self.rested = true;
        self.provider.hear(if clean { "(rests)" } else { "(reset)" });
    }
}

impl Outgoing for Provider {
    type Passage = Way;

    fn address(&self) -> &str {
        "ann@example.org"
    }

    fn is_own(&self, address: &str) -> bool {
        ["ann@example.org", "ann.smith@example.org"].contains(&address.to_lowercase().as_str())
    }

    fn offers(&self) -> Extensions {
        self.offers.lock().unwrap().clone()
    }

    fn admit(&self, octets: u64) -> Result<Grant, Reply> {
        if *self.spent.lock().unwrap() {
            return Err(Reply::new(452, "4.5.3", format!("spent until 14:00 ({octets})")));
        }
        Ok(Box::new(()))
    }

    async fn open(&self, _octets: u64) -> Result<Way, Reply> {
        if self.is_lost_at("silence") {
            let _place = Place(self.clone());
            std::future::pending::<()>().await;
        }
        if self.is_lost_at("open") {
            return Err(Reply::new(451, "4.4.1", "away"));
        }
        Ok(Way { provider: self.clone(), replies: Default::default(), rested: false })
    }

    fn sent(&self, outcome: &Reply, recipients: usize, octets: u64) {
        self.told.lock().unwrap().push((outcome.code, recipients, octets));
    }
}

/// A place among those who wait for a turn.
struct Place(Provider);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.hear("(given up)");
    }
}

struct Door(Provider);

impl Login for Door {
    type Outgoing = Provider;

    async fn verify(&self, _peer: IpAddr, user: &str, password: &Secret) -> Result<Provider, LoginError> {
        match (user, password.expose()) {
            ("ann@example.org", b"pw") => Ok(self.0.clone()),
            ("away@example.org", _) => Err(LoginError::Unavailable),
            _ => Err(LoginError::Wrong),
        }
    }

    fn offers(&self) -> Extensions {
        Outgoing::offers(&self.0)
    }
}

struct Bench {
    provider: Provider,
    server: Arc<Server<Door>>,
    shutdown: CancellationToken,
    plaintext_login: bool,
}

impl Bench {
    fn new() -> Self {
        let provider = Provider::default();
        *provider.offers.lock().unwrap() =
            Extensions { eight_bit: true, size: Some(1000), sizes: true, ..Extensions::default() };
        let server = Server::new(Door(provider.clone()), None, Arc::new(Unobserved), "mailweir");
        Self { provider, server: Arc::new(server), shutdown: CancellationToken::new(), plaintext_login: true }
    }

    fn connect(&self) -> Client {
        let (here, there) = Stream::pair();
        let accepted = Accepted { stream: there, implicit_tls: false, plaintext_login: self.plaintext_login };
        let session = tokio::spawn(serve(Arc::clone(&self.server), accepted, self.shutdown.clone()));
        Client { stream: BufReader::new(here), session }
    }

    /// Connected and logged in, answers read.
    async fn login(&self) -> Client {
        let mut client = self.connect();
        client.play("S: 220…\nC: EHLO pc").await;
        while client.line().await.as_bytes().get(3) == Some(&b'-') {}
        // "\0ann@example.org\0pw"
        client.play("C: AUTH PLAIN AGFubkBleGFtcGxlLm9yZwBwdw==\nS: 235 2.7.0 Logged in").await;
        client
    }

    /// Plays a transcript, logged in, and holds what the provider heard against its `P:` lines.
    async fn play(&self, script: &str) {
        let mut client = self.login().await;
        client.play(script).await;
        client.leave().await;
        let want: Vec<&str> = script.lines().filter_map(|line| line.trim_start().strip_prefix("P: ")).collect();
        assert_eq!(self.provider.heard(), want);
    }
}

struct Client {
    stream: BufReader<Stream>,
    session: tokio::task::JoinHandle<()>,
}

impl Client {
    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line);
        match tokio::time::timeout(Duration::from_secs(3600), read).await {
            Err(_) => "(silence)".to_owned(),
            Ok(Err(error)) => format!("({error})"),
            Ok(Ok(0)) => "(end)".to_owned(),
            Ok(Ok(_)) => line.strip_suffix(b"\r\n").unwrap_or(&line).escape_ascii().to_string(),
        }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn play(&mut self, script: &str) {
        for (number, line) in script.lines().enumerate() {
            let line = line.trim_start();
            let Some((who, text)) = line.split_once(':').filter(|(who, _)| matches!(*who, "C" | "S")) else { continue };
            let text = text.strip_prefix(' ').unwrap_or(text);
            if who == "C" {
                let text = text.replace("\\r", "\r").replace("\\n", "\n");
                // One that ends in a line end of its own is sent as it is.
                let end = if text.ends_with('\n') { "" } else { "\r\n" };
                self.send(&format!("{text}{end}")).await;
                continue;
            }
            let got = self.line().await;
            let same = match text.strip_suffix('…') {
                Some(start) => got.starts_with(start),
                None => got == text,
            };
            assert!(same, "line {}: expected\n  {text}\ngot\n  {got}", number + 1);
        }
    }

    /// Goes away without a word, and is back when the session has ended. Nothing may have been said unasked.
    async fn leave(mut self) {
        self.stream.shutdown().await.unwrap();
        let got = self.line().await;
        assert!(got.starts_with('('), "unasked at the end: {got}");
        drop(self.stream);
        self.session.await.unwrap();
    }
}
