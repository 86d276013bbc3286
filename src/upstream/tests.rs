//! Transcripts against a scripted peer over memory. `S:` is what the provider sends (a line; `\r\n` and `\0` within it are escapes), `S-` the
//! same without a line end, `C:` a line it must receive. `X` closes the connection, `H` keeps it open and silent. The script ends where
//! the connection may stay as it is.

mod bodies;
mod exchanges;
mod failures;
mod login;
mod pool;
mod woke;
mod words;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::task::JoinHandle;

use super::*;
use crate::net::dial::{DialError, TlsMode};
use crate::net::{Stream, Tap};
use crate::secret::Secret;

/// A provider that plays one script for each connection; refuses connections when there is none left.
#[derive(Default)]
pub(crate) struct Provider {
    scripts: Mutex<VecDeque<String>>,
    played: Mutex<Vec<JoinHandle<()>>>,
    /// Connections are kept open here when their script has ended.
    kept: Arc<Mutex<Vec<BufReader<Stream>>>>,
    pub(super) starttls: bool,
}

impl Provider {
    pub(crate) fn new(scripts: impl IntoIterator<Item = String>) -> Arc<Self> {
        Arc::new(Self { scripts: Mutex::new(scripts.into_iter().collect()), ..Self::default() })
    }

    /// Every script was begun and played to its end.
    pub(crate) async fn done(&self) {
        let played = std::mem::take(&mut *self.played.lock().unwrap());
        for script in played {
            tokio::time::timeout(Duration::from_secs(3600), script)
                .await
                .expect("script not played to its end")
                .unwrap();
        }
        assert!(self.scripts.lock().unwrap().is_empty(), "scripts left over");
    }

    pub(crate) fn dialled(&self) -> usize {
        self.played.lock().unwrap().len()
    }
}

impl Dial for Provider {
    fn dial(&self, _: Arc<dyn Tap>) -> BoxFuture<'_, Result<Stream, DialError>> {
        let script = self.scripts.lock().unwrap().pop_front();
        let Some(script) = script else {
            return std::future::ready(Err(DialError::Refused { host: "test".into(), port: 143 })).boxed();
        };
        let (ours, theirs) = Stream::pair();
        let task = tokio::spawn(play(theirs, script, Arc::clone(&self.kept)));
        self.played.lock().unwrap().push(task);
        std::future::ready(Ok(ours)).boxed()
    }

    fn upgrade(&self, stream: Stream) -> BoxFuture<'_, Result<Stream, DialError>> {
        // The scripts go on in plain text where TLS would begin.
        std::future::ready(Ok(stream)).boxed()
    }

    fn tls(&self) -> TlsMode {
        if self.starttls { TlsMode::StartTls } else { TlsMode::Implicit }
    }

    fn host(&self) -> (&str, u16) {
        ("imap.example.org", 993)
    }
}

async fn play(stream: Stream, script: String, kept: Arc<Mutex<Vec<BufReader<Stream>>>>) {
    let mut peer = BufReader::new(stream);
    for step in script.lines().map(str::trim_start).filter(|step| !step.is_empty()) {
        let (verb, text) = step.split_at(step.len().min(2));
        let text = text.strip_prefix(' ').unwrap_or(text);
        match verb {
            "S:" | "S-" => {
                let mut bytes = unescape(text);
                if verb == "S:" {
                    bytes.extend_from_slice(b"\r\n");
                }
                peer.write_all(&bytes).await.unwrap_or_else(|e| panic!("sending {text:?}: {e}"));
            }
            "C:" => {
                let mut line = Vec::new();
                peer.read_until(b'\n', &mut line).await.unwrap();
                assert_eq!(
                    line.escape_ascii().to_string(),
                    [&unescape(text)[..], b"\r\n"].concat().escape_ascii().to_string()
                );
            }
            "X" => {
                // A socket closes in both directions; what was sent before is still read by the other side.
                peer.shutdown().await.unwrap();
                return;
            }
            "E" => {
                // Our side must have closed.
                let mut rest = Vec::new();
                peer.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest.escape_ascii().to_string(), "");
                return;
            }
            "H" => break,
            _ => panic!("no such step: {step}"),
        }
    }
    kept.lock().unwrap().push(peer);
}

fn unescape(text: &str) -> Vec<u8> {
    let text = text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0");
    // `\xE9` for a raw byte.
    let mut out = Vec::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("\\x") {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        out.push(u8::from_str_radix(&rest[at + 2..at + 4], 16).unwrap());
        rest = &rest[at + 4..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

/// A login by password with these capabilities afterwards, then `rest`. The first tag of `rest` is `w2`, or `w3` if ENABLE is offered.
pub(crate) fn session(caps: &str, rest: &str) -> String {
    let enable = match (caps.contains("ENABLE"), caps.contains("QRESYNC")) {
        (false, _) => "",
        (true, true) => "C: w2 ENABLE QRESYNC\nS: * ENABLED QRESYNC\nS: w2 OK",
        (true, false) => "C: w2 ENABLE CONDSTORE\nS: * ENABLED CONDSTORE\nS: w2 OK",
    };
    format!(
        "S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\n\
         C: w1 AUTHENTICATE PLAIN AGFubgBwdw==\n\
         S: w1 OK [CAPABILITY IMAP4rev1 {caps}] in\n{enable}\n{rest}"
    )
}

pub(crate) fn config(provider: &Arc<Provider>, connections: usize) -> Config {
    Config {
        label: "ann".into(),
        dial: Arc::clone(provider) as Arc<dyn Dial>,
        username: "ann".into(),
        credentials: Credentials::Password(Secret::new(*b"pw")),
        connections,
        lowered: None,
        quirks: Quirks::default(),
        meter: Arc::new(()),
        permits: Arc::new(Pacing::default()),
    }
}

pub(crate) fn pool_of(provider: &Arc<Provider>, connections: usize) -> Pool {
    Pool::new(config(provider, connections))
}

/// Of a watcher, while somebody waits for news.
pub(super) fn pace() -> tokio::sync::watch::Receiver<Duration> {
    tokio::sync::watch::channel(POLL_INTERVAL).1
}

/// One session that plays `rest` after its login.
pub(super) async fn lease(caps: &str, rest: &str) -> (Arc<Provider>, Lease) {
    let provider = Provider::new([session(caps, rest)]);
    let lease = pool_of(&provider, 1).lease(Class::Sync, None).await.unwrap();
    (provider, lease)
}

/// The futures of a lease are Send, so that an engine can run them in tasks.
#[allow(dead_code, reason = "checked by compiling")]
fn futures_are_send(pool: &Pool, lease: &mut Lease) {
    fn send<T: Send>(_: T) {}
    send(pool.lease(Class::Sync, None));
    send(lease.list());
    send(lease.select("x"));
    send(lease.idle(Duration::ZERO, pace(), std::future::pending()));
}
