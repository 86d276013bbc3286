//! What is made of every message that is sent: a copy for the archive, one for the sent folder. Rows of their own with files of their own;
//! what becomes of them changes nothing for the message.

use std::path::{Path, PathBuf};

use tracing::warn;

use super::entry::{Entry, File, Folder, Recipient, Send, What};
use super::passage::{HEADER_MOST, Kept};
use super::spool::{self, Held, Spool};
use crate::config::SentCopy;
use crate::message;
use crate::wire::smtp::same_address;

impl Kept {
    /// Copies of a message that went straight.
    pub(super) async fn copy(&mut self) {
        if !self.outbox.copies() {
            return;
        }
        let Some(Ok(mut spool)) = self.spool.take() else {
            return self.no_copy("it could not be written to the disk");
        };
        let (path, octets) = (spool.path().to_owned(), spool.octets());
        match spool.sync().await {
            Ok(()) => {
                let copies = self.copies_of(&path).await;
                self.add_copies(copies, octets).await;
            }
            Err(error) => self.no_copy(&error.to_string()),
        }
    }

    /// What is made of every message, with files of their own: for the archive, for the sent folder. What fails of it changes nothing for
    /// the message.
    pub(super) async fn copies_of(&mut self, file: &Path) -> Vec<Copied> {
        let mut made = Vec::new();
        let envelope = Send { mail: self.mail.clone(), ..Send::default() }.envelope();
        let is_to = |address: &str| self.recipients.iter().any(|(one, _)| same_address(&one.address(), address));
        if let Some(archive) = self.outbox.settings.archive.as_deref().filter(|archive| !is_to(archive)) {
            let from = envelope.from.as_ref().map_or("", |from| from.as_str());
            let more = [(envelope.eight_bit, " BODY=8BITMIME"), (envelope.utf8, " SMTPUTF8")];
            let more: String = more.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
            let to = Recipient::new(format!("RCPT TO:<{archive}> NOTIFY=NEVER"), false, None);
            let mail = format!("MAIL FROM:<{from}>{more}");
            made.push(What::Send(Send { mail, recipients: vec![to], silent: true, ..Send::default() }));
        }
        if self.outbox.sent_copy == SentCopy::Mailweir {
            let message_id = read_message_id(file.to_owned()).await;
            let to = Folder::Sent;
            made.push(What::File(File::new(to, message_id, true)));
        }
        let mut copies = Vec::new();
        for what in made {
            let (dir, file) = (self.outbox.dir.clone(), file.to_owned());
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match tokio::task::spawn_blocking(move || spool::copy(&dir, &name)).await {
                Ok(Ok(name)) => copies.push(Copied { what, file: Held::of(self.outbox.dir.join(&name)), name }),
                Ok(Err(error)) => self.no_copy(&error.to_string()),
                Err(error) => self.no_copy(&error.to_string()),
            }
        }
        copies
    }

    pub(super) async fn add_copies(&mut self, copies: Vec<Copied>, octets: u64) {
        for Copied { what, name, file } in copies {
            let now = self.outbox.now();
            let item = Entry::new(name, what).item(now, now, octets);
            match self.outbox.add(item, file).await {
                Ok(Some(_)) => {}
                Ok(None) => self.no_copy("the outbox is full"),
                Err(words) => self.no_copy(&words),
            }
        }
    }

    fn no_copy(&self, words: &str) {
        warn!(account = %self.outbox.address, "no copy is made of a message (archive, sent folder): {words}");
        self.outbox.metrics.failed(false);
    }
}

/// A copy's file. Dropped before it has its row, it goes.
pub(super) struct Copied {
    what: What,
    name: String,
    file: Held,
}

/// Of the beginning of a file.
pub(super) async fn message_id(spool: &Spool) -> Option<String> {
    read_message_id(spool.path().to_owned()).await
}

async fn read_message_id(file: PathBuf) -> Option<String> {
    let read = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<u8>> {
        use std::io::Read as _;
        let mut begin = Vec::new();
        std::fs::File::open(file)?.take(HEADER_MOST as u64).read_to_end(&mut begin)?;
        Ok(begin)
    });
    let begin = spool::undotted(&read.await.ok()?.ok()?);
    message::message_id(begin.get(..message::header_end(&begin))?)
}
