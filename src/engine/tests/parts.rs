//! Sections of a large message from a provider that does not hand them out as it has described them: the caller is told to cut them
//! from the whole message, or why they cannot be had; never other octets.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::Instant;

use crate::engine::account::Inner;
use crate::engine::allowance::{Allowance, Grant, Unlimited};
use crate::engine::error::Error;
use crate::engine::parts::WHOLE_UP_TO;
use crate::model::{Section, SectionText, Uid};
use crate::net::dial::{DialError, TlsMode};
use crate::net::{Stream, Tap};
use crate::upstream::{Class, Dial};

const TEXT: &str = "The film is attached.\r\n";
const MIME: &str = "Content-Type: text/plain\r\n\r\n";

/// What the provider answers when it is asked for a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Right,
    Nil,
    Empty,
    Short,
    Long,
    Refused,
    Unknown,
    /// OK, and nothing of the message.
    Silent,
    /// The same octets as another message's.
    OfAnother,
    /// The connection ends in the middle of the literal,
    CutOnce,
    /// each time.
    Cut,
}

/// A provider of one message with a large attachment, and of nothing else.
struct Film {
    manner: Manner,
    asked: Arc<AtomicUsize>,
    /// For [`Manner::CutOnce`].
    has_cut: Arc<AtomicBool>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Film {
    fn new(manner: Manner) -> Self {
        Self { manner, asked: Arc::default(), has_cut: Arc::default(), log: Arc::default() }
    }

    /// The answer to one command; `None` where the connection ends after these octets.
    fn answer(&self, tag: &str, command: &str) -> (String, bool) {
        self.log.lock().unwrap().push(command.to_owned());
        let ok = format!("{tag} OK done\r\n");
        let size = WHOLE_UP_TO + 1_000_000;
        let untagged = if command.starts_with("SELECT") {
            "* 1 EXISTS\r\n* OK [UIDVALIDITY 7] as ever\r\n* OK [UIDNEXT 2] next\r\n".to_owned()
        } else if command.starts_with("LIST") {
            "* LIST () \"/\" INBOX\r\n".to_owned()
        } else if command.contains("BODYSTRUCTURE") {
            let text = format!("(\"text\" \"plain\" NIL NIL NIL \"7bit\" {} 1)", TEXT.len());
            let film = format!("(\"video\" \"mp4\" NIL NIL NIL \"base64\" {})", size - 1000);
            let head = "Subject: film\r\n\r\n";
            format!(
                "* 1 FETCH (UID 1 BODYSTRUCTURE ({text}{film} \"mixed\") BODY[HEADER] {{{}}}\r\n{head})\r\n",
                head.len()
            )
        } else if let Some(section) = command.split_once("BODY.PEEK[").and_then(|(_, rest)| rest.split(']').next()) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            return self.section(section, &ok, tag);
        } else if command.starts_with("UID FETCH") {
            format!("* 1 FETCH (UID 1 FLAGS () INTERNALDATE \"01-Jan-2026 00:00:00 +0000\" RFC822.SIZE {size})\r\n")
        } else {
            String::new()
        };
        (untagged + &ok, false)
    }

    fn section(&self, section: &str, ok: &str, tag: &str) -> (String, bool) {
        let right = if section == "1" { TEXT } else { MIME };
        let told = |uid: u32, text: &str| {
            format!("* {uid} FETCH (UID {uid} BODY[{section}] {{{}}}\r\n{text})\r\n{ok}", text.len())
        };
        let cut = || format!("* 1 FETCH (UID 1 BODY[{section}] {{{}}}\r\n{}", right.len(), &right[..right.len() / 2]);
        let answer = match self.manner {
            Manner::Right => told(1, right),
            Manner::Nil => format!("* 1 FETCH (UID 1 BODY[{section}] NIL)\r\n{ok}"),
            Manner::Empty => format!("* 1 FETCH (UID 1 BODY[{section}] \"\")\r\n{ok}"),
            Manner::Short => told(1, &right[1..]),
            Manner::Long => told(1, &format!("{right}!")),
            Manner::Refused => format!("{tag} NO not now\r\n"),
            Manner::Unknown => format!("{tag} BAD what is that\r\n"),
            Manner::Silent => ok.to_owned(),
            Manner::OfAnother => told(2, right),
            Manner::Cut => return (cut(), true),
            Manner::CutOnce if !self.has_cut.swap(true, Ordering::Relaxed) => return (cut(), true),
            Manner::CutOnce => told(1, right),
        };
        (answer, false)
    }
}

impl Dial for Film {
    fn dial(&self, _: Arc<dyn Tap>) -> BoxFuture<'_, Result<Stream, DialError>> {
        let (ours, theirs) = Stream::pair();
        let film = Self {
            manner: self.manner,
            asked: Arc::clone(&self.asked),
            has_cut: Arc::clone(&self.has_cut),
            log: Arc::clone(&self.log),
        };
        tokio::spawn(async move {
            let mut peer = BufReader::new(theirs);
            let mut answer = ("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hi\r\n".to_owned(), false);
            let mut line = String::new();
            while peer.write_all(answer.0.as_bytes()).await.is_ok() && !answer.1 {
                line.clear();
                if !matches!(peer.read_line(&mut line).await, Ok(read) if read > 0) {
                    return;
                }
                let (tag, command) = line.trim_end().split_once(' ').unwrap();
                answer = film.answer(tag, command);
            }
        });
        std::future::ready(Ok(ours)).boxed()
    }

    fn upgrade(&self, stream: Stream) -> BoxFuture<'_, Result<Stream, DialError>> {
        std::future::ready(Ok(stream)).boxed()
    }

    fn tls(&self) -> TlsMode {
        TlsMode::Implicit
    }

    fn host(&self) -> (&str, u16) {
        ("imap.example.org", 993)
    }
}

/// Lets nothing more through once it is shut.
#[derive(Debug, Default)]
struct Gate(AtomicBool);

impl Allowance for Gate {
    fn download(&self, octets: u64, class: Class) -> Result<Grant, Error> {
        if self.0.load(Ordering::Relaxed) { Err(spent()) } else { Unlimited.download(octets, class) }
    }

    fn upload(&self, octets: u64) -> Result<Grant, Error> {
        Unlimited.upload(octets)
    }
}

fn spent() -> Error {
    Error::Limit("The day's download allowance is spent".into())
}

struct Reader {
    account: Arc<Inner>,
    asked: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

impl Reader {
    fn new(manner: Manner, parts: bool, allowance: Arc<dyn Allowance>) -> Self {
        let film = Film::new(manner);
        let (asked, log) = (Arc::clone(&film.asked), Arc::clone(&film.log));
        let (account, _, dir) = super::account(Arc::new(film), 2, parts, allowance);
        Self { account, asked, log, _dir: dir }
    }

    async fn read(&self, text: SectionText) -> Result<Option<Vec<Bytes>>, Error> {
        let state = self.account.state(&"INBOX".into()).await?;
        self.account.freshen(&state, Instant::now(), Class::Interactive).await?;
        let section = Section { path: vec![1], text, spelled: "1".into() };
        self.account.parts(&state, Uid(1), &[section]).await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_as_described_is_cut_from_the_whole() {
    for manner in [
        Manner::Nil,
        Manner::Empty,
        Manner::Short,
        Manner::Long,
        Manner::Refused,
        Manner::Unknown,
        Manner::Silent,
        Manner::OfAnother,
    ] {
        let reader = Reader::new(manner, true, Arc::new(Unlimited));
        assert_eq!(reader.read(SectionText::Whole).await, Ok(None), "{manner:?}");
        assert_eq!(reader.asked(), 1, "{manner:?}: {:?}", reader.log.lock().unwrap());
        // A provider that was wrong once about this message is not asked about it again.
        assert_eq!(reader.read(SectionText::Whole).await, Ok(None), "{manner:?}");
        assert_eq!(reader.read(SectionText::Mime).await, Ok(None), "{manner:?}");
        assert_eq!(reader.asked(), 1, "{manner:?}");
    }
}

/// A header has no size to be held against: what shows is that there is none.
#[tokio::test(start_paused = true)]
async fn a_part_without_its_header_is_cut_from_the_whole() {
    for manner in [Manner::Nil, Manner::Empty, Manner::Refused, Manner::Silent, Manner::OfAnother] {
        let reader = Reader::new(manner, true, Arc::new(Unlimited));
        assert_eq!(reader.read(SectionText::Mime).await, Ok(None), "{manner:?}");
        assert_eq!(reader.asked(), 1, "{manner:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_as_described_is_asked_for_once() {
    let reader = Reader::new(Manner::Right, true, Arc::new(Unlimited));
    for _ in 0..2 {
        assert_eq!(reader.read(SectionText::Whole).await, Ok(Some(vec![TEXT.into()])));
        assert_eq!(reader.read(SectionText::Mime).await, Ok(Some(vec![MIME.into()])));
    }
    assert_eq!(reader.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_tried_once_more() {
    let reader = Reader::new(Manner::CutOnce, true, Arc::new(Unlimited));
    assert_eq!(reader.read(SectionText::Whole).await, Ok(Some(vec![TEXT.into()])));
    assert_eq!(reader.asked(), 2);

    let reader = Reader::new(Manner::Cut, true, Arc::new(Unlimited));
    let error = reader.read(SectionText::Whole).await.unwrap_err();
    assert!(error.is_outage(), "{error:?}");
    assert_eq!(reader.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_spent_allowance_is_told_and_nothing_asked() {
    let gate = Arc::new(Gate::default());
    let reader = Reader::new(Manner::Right, true, Arc::clone(&gate) as Arc<dyn Allowance>);
    assert_eq!(reader.read(SectionText::Mime).await, Ok(Some(vec![MIME.into()])));
    gate.0.store(true, Ordering::Relaxed);
    assert_eq!(reader.read(SectionText::Whole).await, Err(spent()));
    assert_eq!(reader.asked(), 1);
    // What is here costs nothing; and with a new day it goes on.
    assert_eq!(reader.read(SectionText::Mime).await, Ok(Some(vec![MIME.into()])));
    gate.0.store(false, Ordering::Relaxed);
    assert_eq!(reader.read(SectionText::Whole).await, Ok(Some(vec![TEXT.into()])));
}

#[tokio::test(start_paused = true)]
async fn a_provider_not_to_be_believed_is_not_asked() {
    let reader = Reader::new(Manner::Right, false, Arc::new(Unlimited));
    assert_eq!(reader.read(SectionText::Whole).await, Ok(None));
    assert_eq!(reader.asked(), 0);
}
