//! Transcripts over a connection in memory: `C:` is what a client sends, `S:` what it must read, line by line; `\r`, `\n` and `\0` in a
//! line are what they mean in Rust. A line that ends in `…` is compared up to there. Time is paused: waiting costs none.

mod access;
mod delete;
mod hostile;
mod read;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;

use super::{Admitted, Deletions, HideSet, Login, LoginError, Server, serve};
use crate::config::{OnDele, Pop3};
use crate::model::UniqueId;
use crate::net::Stream;
use crate::secret::Secret;
use crate::session::front::{Accepted, Unobserved};
use crate::session::testing::FakeAccount;

/// By device and mailbox.
type Sets = HashMap<(String, String), HashSet<UniqueId>>;

/// Hide sets in memory.
#[derive(Clone, Default)]
struct FakeHidden {
    sets: Arc<Mutex<Sets>>,
    device: String,
    broken: Arc<Mutex<bool>>,
}

impl FakeHidden {
    fn of(&self, device: &str) -> HashSet<UniqueId> {
        self.sets.lock().unwrap().get(&(device.to_owned(), "INBOX".to_owned())).cloned().unwrap_or_default()
    }
}

impl HideSet for FakeHidden {
    async fn load(&self, mailbox: &str) -> Result<HashSet<UniqueId>, String> {
        if *self.broken.lock().unwrap() {
            return Err("the disk is gone".to_owned());
        }
        Ok(self.sets.lock().unwrap().get(&(self.device.clone(), mailbox.to_owned())).cloned().unwrap_or_default())
    }

    async fn hide(&self, mailbox: &str, ids: Vec<UniqueId>) -> Result<(), String> {
        tokio::task::yield_now().await;
        if *self.broken.lock().unwrap() {
            return Err("the disk is gone".to_owned());
        }
        self.sets.lock().unwrap().entry((self.device.clone(), mailbox.to_owned())).or_default().extend(ids);
        Ok(())
    }
}

/// `ann` with `pw`; `ann+x` is her device `x`. `slow` is slowed down, `away` cannot be served.
struct Door {
    account: FakeAccount,
    settings: Arc<Mutex<Pop3>>,
    hidden: FakeHidden,
}

impl Login for Door {
    type Account = FakeAccount;
    type Hidden = FakeHidden;

    async fn verify(
        &self,
        _peer: IpAddr,
        user: &str,
        password: &Secret,
    ) -> Result<Admitted<FakeAccount, FakeHidden>, LoginError> {
        let (recent, user) = user.strip_prefix("recent:").map_or((false, user), |rest| (true, rest));
        let (user, device) = user.split_once('+').map_or((user, None), |(user, device)| (user, Some(device)));
        match (user, password.expose()) {
            ("ann", b"pw" | b" p w ") => Ok(Admitted {
                account: self.account.clone(),
                settings: self.settings.lock().unwrap().clone(),
                device: device.map(str::to_owned),
                recent,
                hidden: FakeHidden { device: device.unwrap_or_default().to_owned(), ..self.hidden.clone() },
            }),
            ("slow", _) => Err(LoginError::Slowed),
            ("away", _) => Err(LoginError::Unavailable),
            _ => Err(LoginError::Wrong),
        }
    }
}

#[derive(Default)]
struct Tally(Mutex<Vec<(OnDele, u64)>>);

impl Deletions for Tally {
    fn deleted(&self, _account: &str, policy: OnDele, messages: u64) {
        self.0.lock().unwrap().push((policy, messages));
    }
}

struct Bench {
    account: FakeAccount,
    settings: Arc<Mutex<Pop3>>,
    hidden: FakeHidden,
    tally: Arc<Tally>,
    server: Arc<Server<Door>>,
    shutdown: CancellationToken,
    plaintext_login: bool,
}

impl Bench {
    /// With so many messages in INBOX, of which every one is a few octets longer than the one before.
    fn with(messages: usize) -> Self {
        let (account, settings, hidden) = (FakeAccount::new(), Arc::<Mutex<Pop3>>::default(), FakeHidden::default());
        for n in 1..=messages {
            account.mailbox("INBOX").deliver(&format!("Subject: {n}\r\n\r\n{}\r\n", "x".repeat(n)));
        }
        let door = Door { account: account.clone(), settings: Arc::clone(&settings), hidden: hidden.clone() };
        let tally = Arc::<Tally>::default();
        let server =
            Server::new(door, None, Arc::new(Unobserved), Arc::clone(&tally) as Arc<dyn Deletions>, "mailweir");
        let shutdown = CancellationToken::new();
        Self { account, settings, hidden, tally, server: Arc::new(server), shutdown, plaintext_login: true }
    }

    fn set(&self, change: impl FnOnce(&mut Pop3)) {
        change(&mut self.settings.lock().unwrap());
    }

    fn connect(&self) -> Client {
        let (here, there) = Stream::pair();
        let accepted = Accepted { stream: there, implicit_tls: false, plaintext_login: self.plaintext_login };
        let session = tokio::spawn(serve(Arc::clone(&self.server), accepted, self.shutdown.clone()));
        Client { stream: BufReader::new(here), session }
    }

    /// Connected and logged in, answers read.
    async fn login(&self, user: &str) -> Client {
        let mut client = self.connect();
        client.line().await;
        client.ask(&format!("USER {user}")).await;
        let answer = client.ask("PASS pw").await;
        assert!(answer.starts_with("+OK"), "{answer}");
        client
    }

    /// Plays a transcript, logged in as `user`, or from the greeting on.
    async fn play(&self, user: &str, script: &str) {
        let mut client = if user.is_empty() { self.connect() } else { self.login(user).await };
        for (number, line) in script.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() {
                continue;
            }
            let (who, text) = line.split_once(':').expect("a transcript line has a colon");
            let text = text.strip_prefix(' ').unwrap_or(text);
            if who == "C" {
                let text = text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0");
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
        if client.stream.write_all(b"zz\r\n").await.is_ok() {
            let got = client.line().await;
            assert!(got == "-ERR Unknown command" || got.starts_with('('), "unasked at the end: {got}");
        }
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

    /// Sends a line and gives the first of the answer.
    async fn ask(&mut self, text: &str) -> String {
        self.send(&format!("{text}\r\n")).await;
        self.line().await
    }

    /// The lines up to the dot.
    async fn list(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await;
            if line == "." || line.starts_with('(') {
                return lines;
            }
            lines.push(line);
        }
    }

    /// Goes away without a word, and is back when the session has ended.
    async fn drop_dead(self) {
        drop(self.stream);
        self.session.await.unwrap();
    }
}

/// Lets tasks that were started end.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}
