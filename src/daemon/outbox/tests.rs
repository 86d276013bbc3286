//! The sender against a server in memory, time paused: when something is tried, what the row says before each step, who is told.

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
        let Some(trace) = trace else { return Ok(!provider.stored.is_empty()) };
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
            metrics: Metrics::default().outbox("ann"),
            clock: Arc::new(move || epoch + started.elapsed()),
            wake: Notify::new(),
            view: Mutex::default(),
            spooling: AtomicU64::new(0),
        });
        std::fs::create_dir(&outbox.dir).unwrap();
        let server = Server(Arc::new(Mutex::new(Provider { verdict: "250 2.0.0 taken", ..Provider::default() })));
        Self { _dir: dir, server, outbox, state, stop: CancellationToken::new(), sending: None, started }
    }

    async fn keep(&self, recipients: &[&str], change: impl FnOnce(&mut Sending)) -> i64 {
        let file = spool::write(&self.outbox.dir, MESSAGE.as_bytes()).unwrap();
        let mut send = Sending {
            mail: "MAIL FROM:<ann@example.org> RET=HDRS ENVID=QQ1".into(),
            recipients: recipients.iter().map(|to| Recipient::new(format!("RCPT TO:<{to}"), false, None)).collect(),
            message_id: Some("<1@example.org>".into()),
            ..Sending::default()
        };
        change(&mut send);
        let now = self.outbox.now();
        let item = Entry::new(file, What::Send(send)).item(now, now, MESSAGE.len() as u64);
        self.outbox.add(item).await.unwrap().unwrap()
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

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_away_is_asked_ever_less_and_then_gets_all() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().away = true;
    for _ in 0..3 {
        bench.keep(&["bob@example.net>"], |_| ()).await;
    }
    bench.begin();
    bench.pass(60 * MINUTE).await;
    let dialled = bench.server.lock().dialled.clone();
    // One message asks for all.
    assert_eq!(bench.minutes(&dialled), [0, 1, 3, 8, 18, 33, 48]);
    assert_eq!(bench.outbox.status().unwrap().messages, 3);
    bench.server.lock().away = false;
    bench.pass(16 * MINUTE).await;
    assert_eq!(bench.server.lock().got.len(), 3);
    assert_eq!((bench.rows().len(), bench.files()), (0, 0));
    assert_eq!(bench.outbox.status(), None);
    let (envelope, message, _) = bench.server.lock().got[0].clone();
    assert_eq!(envelope, ["MAIL FROM:<ann@example.org> RET=HDRS ENVID=QQ1", "RCPT TO:<bob@example.net>"]);
    assert_eq!(message, MESSAGE);
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_put_off_waits_longer_each_time_and_is_told_at_the_end() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().rcpt = vec![("slow", "451 4.7.1 greylisted"), ("nobody", "550 5.1.1 no such user")];
    let to = ["bob@example.net>", "slow@example.net> NOTIFY=FAILURE,DELAY ORCPT=rfc822;s+2Bx@y", "nobody@example.net>"];
    bench.keep(&to, |_| ()).await;
    bench.begin();
    bench.pass(5 * HOUR).await;
    let (got, stored) = {
        let provider = bench.server.lock();
        (provider.got.len(), provider.stored.clone())
    };
    assert_eq!(got, 1, "those who are taken get it once");
    assert_eq!(stored.len(), 2, "one is refused, one is told of the delay");
    assert!(
        stored[0].1.contains("Action: failed\r\nStatus: 5.1.1\r\n") && !stored[0].1.contains("slow@"),
        "{}",
        stored[0].1
    );
    assert!(stored[1].1.contains("Action: delayed\r\n") && stored[1].1.contains("Will-Retry-Until"), "{}", stored[1].1);
    assert!(stored[1].1.contains("Original-Recipient: rfc822;s+x@y\r\n"), "{}", stored[1].1);
    bench.pass(6 * 24 * HOUR).await;
    let (dialled, stored) = {
        let provider = bench.server.lock();
        (provider.dialled.clone(), provider.stored.clone())
    };
    let tries = dialled.len();
    assert!((30..50).contains(&tries), "{tries}");
    assert_eq!(bench.minutes(&dialled[..5]), [0, 5, 15, 30, 60]);
    assert_eq!(stored.len(), 3);
    let (folder, last) = &stored[2];
    assert_eq!(*folder, Folder::Inbox);
    assert!(
        last.contains("Action: failed\r\nStatus: 4.4.7\r\n") && last.contains("smtp; 451 4.7.1 greylisted"),
        "{last}"
    );
    assert!(last.contains("Original-Envelope-Id: QQ1\r\n") && last.contains("text/rfc822-headers"), "{last}");
    assert!(!last.contains("Received: from localhost by localhost"), "our trace is not the sender's");
    assert_eq!((bench.rows().len(), bench.files()), (0, 0));
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_who_does_not_want_it_or_must_not() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().rcpt = vec![("nobody", "550 5.1.1 no such user")];
    bench.keep(&["nobody@example.net> NOTIFY=NEVER", "nobody2@example.net> NOTIFY=SUCCESS"], |_| ()).await;
    bench.keep(&["nobody@example.net>"], |send| send.mail = "MAIL FROM:<>".into()).await;
    bench.keep(&["nobody@example.net>"], |send| send.silent = true).await;
    bench.begin();
    bench.pass(HOUR).await;
    assert_eq!((bench.rows().len(), bench.files()), (0, 0));
    assert_eq!(bench.server.lock().stored, []);
    bench.end().await;
}

/// Every further try would begin the block anew: nothing is tried until it is over, a restart between or not.
#[tokio::test(start_paused = true)]
async fn a_block_is_waited_out() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().verdict = "550 5.4.5 Daily user sending limit exceeded";
    for _ in 0..2 {
        bench.keep(&["bob@example.net>"], |_| ()).await;
    }
    bench.begin();
    bench.pass(2 * HOUR).await;
    bench.end().await;
    bench.outbox.view().hold = None;
    bench.begin();
    bench.outbox.kick();
    bench.pass(20 * HOUR).await;
    assert_eq!(bench.server.lock().dialled.len(), 1);
    let status = bench.outbox.status().unwrap();
    assert!(status.words.unwrap().contains("limit of messages for the day"), "told");
    assert!(bench.outbox.held(bench.outbox.now()).is_some());
    bench.server.lock().verdict = "250 2.0.0 taken";
    bench.pass(3 * HOUR).await;
    let got: Vec<Instant> = bench.server.lock().got.iter().map(|(.., at)| *at).collect();
    assert_eq!(got.len(), 3, "one refused, two taken");
    assert!(got[1].duration_since(got[0]) >= Duration::from_secs(24 * HOUR));
    assert_eq!((bench.rows().len(), bench.server.lock().stored.len()), (0, 0), "nothing failed for good");
    bench.end().await;
}

/// What is said of a recipient's account holds nobody back, and the one message that brings a block about is not the first after it.
#[tokio::test(start_paused = true)]
async fn a_recipients_account_is_not_ours() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().rcpt =
        vec![("gone", "550 5.7.1 this account is disabled"), ("odd", "550 5.4.5 over the limit")];
    bench.keep(&["gone@example.net>", "bob@example.net>"], |_| ()).await;
    bench.keep(&["odd@example.net>"], |_| ()).await;
    bench.begin();
    bench.pass(HOUR).await;
    assert_eq!(bench.server.lock().got.len(), 1, "bob has it");
    let stored = bench.server.lock().stored.clone();
    assert!(matches!(&stored[..], [(_, told)] if told.contains("gone@example.net")), "{stored:?}");
    assert!(bench.outbox.held(bench.outbox.now()).is_some());
    bench.keep(&["carl@example.net>"], |_| ()).await;
    bench.pass(24 * HOUR).await;
    let got = bench.server.lock().got.clone();
    assert!(got.len() == 2 && got[1].0[1].contains("carl"), "{got:?}");
    bench.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_never_shortened_or_lost() {
    let bench = Bench::new(SentCopy::Client);
    let day = bench.outbox.hold(Duration::from_secs(24 * HOUR), "day".into()).await;
    assert_eq!(bench.outbox.hold(Duration::from_secs(300), "rate".into()).await, day);
    bench.outbox.load().await.unwrap();
    assert_eq!(bench.outbox.held(bench.outbox.now()).as_deref(), Some("day"));
    // Not read yet, as after a start.
    bench.outbox.view().hold = None;
    assert_eq!(bench.outbox.hold(Duration::from_secs(300), "rate".into()).await, day);
    // `outbox retry` ends it; one whose commit has failed is not lost by that.
    let key = hold_key("ann@example.org");
    bench.state.set_value(&key, None).unwrap();
    bench.outbox.view().unwritten = true;
    bench.outbox.load().await.unwrap();
    assert!(bench.outbox.held(bench.outbox.now()).is_some());
    bench.outbox.view().unwritten = false;
    bench.outbox.load().await.unwrap();
    assert_eq!(bench.outbox.held(bench.outbox.now()), None);
}

/// A notification that cannot be written takes nothing from who was refused, and gives nobody a message twice.
#[tokio::test(start_paused = true)]
async fn what_was_sent_is_not_sent_again_for_want_of_a_notice() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().rcpt = vec![("nobody", "550 5.1.1 no such user")];
    bench.keep(&["bob@example.net>", "nobody@example.net>"], |_| ()).await;
    bench.server.lock().hides = Some(bench.outbox.dir.clone());
    bench.begin();
    bench.pass(HOUR).await;
    assert_eq!((bench.server.lock().got.len(), bench.rows().len()), (1, 1));
    std::fs::rename(bench.outbox.dir.with_extension("away"), &bench.outbox.dir).unwrap();
    bench.pass(HOUR).await;
    assert_eq!((bench.server.lock().got.len(), bench.rows().len(), bench.files()), (1, 0, 0));
    assert_eq!(bench.server.lock().stored.len(), 1);
    bench.end().await;
}

/// The doubt window: the dot was sent and no answer came.
#[tokio::test(start_paused = true)]
async fn a_doubt_is_looked_into_where_the_provider_files() {
    for (sent_copy, filed, again) in [
        (SentCopy::Provider, Some(true), false),
        (SentCopy::Provider, Some(false), true),
        (SentCopy::Client, Some(true), true),
    ] {
        let mut bench = Bench::new(sent_copy);
        (bench.server.lock().verdict, bench.server.lock().filed) = ("", filed);
        bench.keep(&["bob@example.net>"], |_| ()).await;
        bench.begin();
        bench.pass(30).await;
        let rows = bench.rows();
        assert!(matches!(&rows[..], [Entry { what: What::Send(send), .. }] if send.is_in_doubt()), "{rows:?}");
        bench.server.lock().verdict = "250 2.0.0 taken";
        bench.pass(HOUR).await;
        assert_eq!(bench.server.lock().got.len(), 1 + usize::from(again), "{sent_copy:?} {filed:?}");
        let looks = bench.server.lock().looks;
        assert_eq!(
            looks,
            if sent_copy == SentCopy::Client {
                0
            } else if again {
                3
            } else {
                1
            }
        );
        assert_eq!((bench.rows().len(), bench.files()), (0, 0));
        bench.end().await;
    }
    // A provider that never answers is not sent the same for ever: the sender is told.
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().verdict = "";
    bench.keep(&["bob@example.net>"], |_| ()).await;
    bench.begin();
    bench.pass(24 * HOUR).await;
    let times: Vec<Instant> = bench.server.lock().got.iter().map(|(.., at)| *at).collect();
    assert_eq!(bench.minutes(&times), [0, 6, 17]);
    let stored = bench.server.lock().stored.clone();
    assert!(
        matches!(&stored[..], [(Folder::Inbox, told)] if told.contains("was lost before it answered")),
        "{stored:?}"
    );
    assert_eq!((bench.rows().len(), bench.files()), (0, 0));
    bench.end().await;
    // While it cannot be looked, nothing is sent.
    let mut bench = Bench::new(SentCopy::Provider);
    (bench.server.lock().verdict, bench.server.lock().filed) = ("", None);
    bench.keep(&["bob@example.net>"], |_| ()).await;
    bench.begin();
    bench.pass(24 * HOUR).await;
    assert_eq!(bench.server.lock().got.len(), 1);
    bench.server.lock().filed = Some(true);
    bench.pass(HOUR).await;
    assert_eq!((bench.server.lock().got.len(), bench.rows().len()), (1, 0));
    bench.end().await;
}

/// The row says that the dot is sent before it is, and what was dropped until then is not sent.
#[tokio::test(start_paused = true)]
async fn the_row_comes_before_the_dot() {
    use super::transaction::{Journal, run};
    struct Watching<'a>(&'a Bench, bool);
    impl Journal for Watching<'_> {
        async fn about_to_send(&mut self, taken: &[usize]) -> Result<(), String> {
            assert_eq!(taken, [0]);
            assert!(self.0.server.lock().got.is_empty(), "nothing was sent yet");
            if self.1 { Ok(()) } else { Err("dropped".into()) }
        }
    }
    for goes in [false, true] {
        let mut bench = Bench::new(SentCopy::Client);
        bench.keep(&["bob@example.net>"], |_| ()).await;
        let Some(Entry { file, what: What::Send(send), .. }) = bench.rows().pop() else { panic!("a row") };
        let config = SmtpConfig {
            label: "ann".into(),
            dial: Arc::new(bench.server.clone()),
            username: "ann".into(),
            meter: Arc::new(()),
            postage: Arc::new(()),
        };
        let passage = Smtp::new(config).lease(&Credentials::Password(Secret::new(*b"pw"))).await.unwrap();
        let path = bench.outbox.dir.join(file);
        let fates = run(passage, &send, (&path, MESSAGE.len() as u64), "", &mut Watching(&bench, goes)).await;
        assert_eq!((fates.is_some(), bench.server.lock().got.len()), (goes, usize::from(goes)));
        bench.begin();
        bench.end().await;
    }
}

/// A server that speaks before the dot is not sent it, and what it says is no acceptance.
#[tokio::test(start_paused = true)]
async fn a_stray_word_before_the_dot_is_no_acceptance() {
    use super::transaction::{Fate, Journal, run};
    struct Slow;
    impl Journal for Slow {
        async fn about_to_send(&mut self, _: &[usize]) -> Result<(), String> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(())
        }
    }
    for (early, is_refusal) in [("250 2.0.0 stray\r\n", false), ("552 5.3.4 enough\r\n", true)] {
        let bench = Bench::new(SentCopy::Client);
        bench.server.lock().early = early;
        bench.keep(&["bob@example.net>"], |_| ()).await;
        let Some(Entry { file, what: What::Send(send), .. }) = bench.rows().pop() else { panic!("a row") };
        let config = SmtpConfig {
            label: "ann".into(),
            dial: Arc::new(bench.server.clone()),
            username: "ann".into(),
            meter: Arc::new(()),
            postage: Arc::new(()),
        };
        let passage = Smtp::new(config).lease(&Credentials::Password(Secret::new(*b"pw"))).await.unwrap();
        let path = bench.outbox.dir.join(file);
        let fates = run(passage, &send, (&path, MESSAGE.len() as u64), "", &mut Slow).await.unwrap();
        match is_refusal {
            true => assert!(matches!(&fates[..], [Fate::Failed(_)]), "{fates:?}"),
            false => assert!(matches!(&fates[..], [Fate::Lost(_)]), "{fates:?}"),
        }
        assert!(bench.server.lock().got.is_empty(), "the dot was not sent");
    }
}

/// A notification is stored until it is stored, and not twice after a crash.
#[tokio::test(start_paused = true)]
async fn a_notification_is_stored_once() {
    let mut bench = Bench::new(SentCopy::Client);
    bench.server.lock().rcpt = vec![("nobody", "550 5.1.1 no such user")];
    bench.server.lock().refuses_store = true;
    bench.keep(&["nobody@example.net>"], |_| ()).await;
    bench.begin();
    bench.pass(3 * HOUR).await;
    let rows = bench.rows();
    assert!(matches!(&rows[..], [Entry { what: What::File(file), .. }] if file.begun), "{rows:?}");
    // It was stored, and we were killed before we could write that down.
    bench.server.lock().stored.push((Folder::Inbox, "there".into()));
    bench.server.lock().refuses_store = false;
    bench.pass(2 * HOUR).await;
    assert_eq!((bench.server.lock().stored.len(), bench.rows().len(), bench.files()), (1, 0, 0));
    bench.end().await;
}

#[tokio::test]
async fn there_is_an_end_to_room() {
    let bench = Bench::new(SentCopy::Client);
    let limits = bench.outbox.limits();
    assert!(bench.outbox.has_room(limits.octets) && !bench.outbox.has_room(limits.octets + 1));
    bench.outbox.spooling.store(limits.octets, Ordering::Relaxed);
    assert!(bench.outbox.has_room(0) && !bench.outbox.has_room(1));
    bench.outbox.view().messages = limits.messages;
    assert!(!bench.outbox.has_room(0));
}
