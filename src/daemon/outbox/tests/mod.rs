//! The sender against a server in memory, time paused: `tries` when something is tried and who is told, `doubts` what is not known to be
//! sent, `keeping` what is kept and stored.

mod doubts;
mod keeping;
mod tries;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::entry::{Folder, Recipient, Send as Sending};
use super::outside::{NotFiled, Outside};
use super::*;
use crate::config::Sending as Settings;
use crate::metrics::Metrics;
use crate::net::dial::{DialError, TlsMode};
use crate::net::{Stream, Tap};
use crate::secret::Secret;
use crate::session::smtp::Grant;
use crate::upstream::smtp::{Passage, Smtp, SmtpConfig, SmtpError};
use crate::upstream::{Credentials, Dial};

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;

/// A server, and what it was told.
#[derive(Default)]
struct Provider {
    away: bool,
    /// To RCPT of an address with this word in it.
    rcpt: Vec<(&'static str, &'static str)>,
    /// To the message; empty: it hangs up without a word.
    verdict: &'static str,
    /// When it was dialled.
    dialled: Vec<Instant>,
    /// Envelope and message, when the lone dot came.
    got: Vec<(Vec<String>, String, Instant)>,
    /// What was stored over IMAP.
    stored: Vec<(Folder, String)>,
    /// What a look at the sent folder shows.
    filed: Option<bool>,
    looks: usize,
    refuses_store: bool,
    /// What it says before the message's end, whatever that may mean.
    early: &'static str,
    /// What is not there any more from the first message on.
    hides: Option<PathBuf>,
}

#[derive(Clone)]
struct Server(Arc<Mutex<Provider>>);

impl Server {
    fn lock(&self) -> MutexGuard<'_, Provider> {
        self.0.lock().unwrap()
    }

    async fn talk(self, stream: Stream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 x\r\n").await?;
        let (mut envelope, mut line) = (Vec::new(), String::new());
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let command = line.trim_end().to_owned();
            let reply = match command.get(..4).unwrap_or_default() {
                "EHLO" => "250-x\r\n250-PIPELINING\r\n250 DSN".to_owned(),
                "MAIL" => {
                    envelope = vec![command];
                    "250 sender".into()
                }
                "RCPT" => {
                    let odd = self.lock().rcpt.iter().find(|(word, _)| command.contains(word)).map(|(_, reply)| *reply);
                    if odd.is_none() {
                        envelope.push(command);
                    }
                    odd.unwrap_or("250 recipient").into()
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    let mut message = String::new();
                    while !message.ends_with("\r\n.\r\n") && message != ".\r\n" {
                        if stream.read_line(&mut message).await? == 0 {
                            return Ok(());
                        }
                        if message.ends_with("..dot\r\n") {
                            let early = self.lock().early;
                            stream.write_all(early.as_bytes()).await?;
                        }
                    }
                    let mut provider = self.lock();
                    provider.got.push((envelope.clone(), message, Instant::now()));
                    if let Some(dir) = provider.hides.take() {
                        std::fs::rename(&dir, dir.with_extension("away")).unwrap();
                    }
                    if provider.verdict.is_empty() {
                        return Ok(());
                    }
                    provider.verdict.to_owned()
                }
                _ => "250 fine".into(),
            };
            stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        }
    }
}

impl Dial for Server {
    fn dial(&self, _: Arc<dyn Tap>) -> BoxFuture<'_, Result<Stream, DialError>> {
        let mut provider = self.lock();
        provider.dialled.push(Instant::now());
        if provider.away {
            return async { Err(DialError::Refused { host: "smtp.example.net".into(), port: 465 }) }.boxed();
        }
        let (here, there) = Stream::pair();
        tokio::spawn(self.clone().talk(there));
        async { Ok(here) }.boxed()
    }

    fn upgrade(&self, stream: Stream) -> BoxFuture<'_, Result<Stream, DialError>> {
        async { Ok(stream) }.boxed()
    }

    fn tls(&self) -> TlsMode {
        TlsMode::Implicit
    }

    fn host(&self) -> (&str, u16) {
        ("smtp.example.net", 465)
    }
}

struct World {
    server: Server,
    smtp: Smtp,
}

impl Outside for Arc<World> {
    async fn lease(&self) -> Result<Passage, SmtpError> {
        self.smtp.lease(&Credentials::Password(Secret::new(*b"pw"))).await
    }

    fn admit(&self, _: u64) -> Result<Grant, String> {
        Ok(Box::new(()))
    }

    fn stopped(&self) -> Option<String> {
        None
    }

    fn spent(&self) -> Option<Duration> {
        None
    }

    fn server(&self) -> &str {
        "smtp.example.net"
    }

    fn sent(&self, _: usize, _: u64) {}

    fn most_stored(&self) -> u64 {
        1 << 20
    }

    async fn store(&self, to: Folder, message: Bytes) -> Result<(), NotFiled> {
        let mut provider = self.server.lock();
        if provider.refuses_store {
            return Err(NotFiled::Later("no IMAP".into()));
        }
        provider.stored.push((to, String::from_utf8(message.to_vec()).unwrap()));
        Ok(())
    }

    async fn is_stored(&self, _: Folder, _: &str, _: SystemTime, trace: Option<&str>) -> Result<bool, String> {
        let mut provider = self.server.lock();
        let Some(trace) = trace else {
            let sent = !provider.got.is_empty() && provider.filed == Some(true);
            return Ok(sent || !provider.stored.is_empty());
        };
        provider.looks += 1;
        let has_it = provider.got.iter().any(|(_, message, _)| message.contains(trace));
        provider.filed.map(|filed| filed && has_it).ok_or_else(|| "IMAP is away".into())
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    server: Server,
    outbox: Arc<Outbox>,
    state: State,
    stop: CancellationToken,
    sending: Option<tokio::task::JoinHandle<()>>,
    started: Instant,
}

const MESSAGE: &str = "Received: from localhost by localhost (x) with ESMTPSA;\r\n\tnow\r\nMessage-ID: <1@example.org>\r\nSubject: x\r\n\r\n..dot\r\n.\r\n";

impl Bench {
    fn new(sent_copy: SentCopy) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("state.db")).unwrap();
        let (started, epoch) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000));
        let outbox = Arc::new(Outbox {
            address: "Ann@example.org".into(),
            key: "ann@example.org".into(),
            dir: dir.path().join("outbox"),
            state: state.clone(),
            threads: StorePool::new(2),
            settings: Settings { queue: true, ..Settings::default() },
            sent_copy,
            has_server: true,
            metrics: Metrics::default().outbox("ann"),
            clock: Arc::new(move || epoch + started.elapsed()),
            order: Arc::default(),
            wake: Notify::new(),
            view: Mutex::default(),
            spooling: AtomicU64::new(0),
        });
        std::fs::create_dir(&outbox.dir).unwrap();
        let server = Server(Arc::new(Mutex::new(Provider { verdict: "250 2.0.0 taken", ..Provider::default() })));
        Self { _dir: dir, server, outbox, state, stop: CancellationToken::new(), sending: None, started }
    }

    async fn keep(&self, recipients: &[&str], change: impl FnOnce(&mut Sending)) -> i64 {
        let name = spool::write(&self.outbox.dir, MESSAGE.as_bytes()).unwrap();
        let mut send = Sending {
            mail: "MAIL FROM:<ann@example.org> RET=HDRS ENVID=QQ1".into(),
            recipients: recipients.iter().map(|to| Recipient::new(format!("RCPT TO:<{to}"), false, None)).collect(),
            message_id: Some("<1@example.org>".into()),
            ..Sending::default()
        };
        change(&mut send);
        let now = self.outbox.now();
        let item = Entry::new(name.clone(), What::Send(send)).item(now, now, MESSAGE.len() as u64);
        let held = spool::Held::of(self.outbox.dir.join(name));
        self.outbox.add(item, held).await.unwrap().unwrap()
    }

    fn begin(&mut self) {
        let config = SmtpConfig {
            label: "ann".into(),
            dial: Arc::new(self.server.clone()),
            username: "ann".into(),
            meter: Arc::new(()),
            postage: Arc::new(()),
        };
        let world = Arc::new(World { server: self.server.clone(), smtp: Smtp::new(config) });
        self.stop = CancellationToken::new();
        let sender = Sender::new(Arc::clone(&self.outbox), world);
        self.sending = Some(tokio::spawn(sender.run(self.stop.clone())));
    }

    async fn end(&mut self) {
        self.stop.cancel();
        self.sending.take().unwrap().await.unwrap();
    }

    async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    fn minutes(&self, times: &[Instant]) -> Vec<u64> {
        times.iter().map(|at| at.duration_since(self.started).as_secs() / MINUTE).collect()
    }

    fn rows(&self) -> Vec<Entry> {
        self.state.outbox(None).unwrap().iter().map(|row| Entry::read(row).unwrap()).collect()
    }

    fn files(&self) -> usize {
        std::fs::read_dir(&self.outbox.dir).unwrap().count()
    }
}
