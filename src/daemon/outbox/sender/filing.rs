//! Notifications, and copies of what was sent, are stored over IMAP.

use bytes::Bytes;
use tracing::{error, info, warn};

use super::super::entry::{File, What};
use super::super::outside::{NotFiled, Outside};
use super::super::passage::LOOK_AFTER;
use super::super::{backoff, spool};
use super::{LOOKS, Row, Sender};

impl<O: Outside> Sender<O> {
    /// Stores a notification, or a copy of what was sent.
    pub(super) async fn file(&self, row: &mut Row, mut file: File) -> Result<(), String> {
        if file.after.take().is_some() {
            // The message is gone, sent or not: who files it does so within a minute, mostly.
            (file.begun, file.looks) = (true, LOOKS - 1);
            let due = self.outbox.now() + LOOK_AFTER;
            return self.go_on(row, Some((What::File(file), due)), Vec::new()).await.map(drop);
        }
        if file.begun
            && let Some(id) = &file.message_id
        {
            match self.outside.is_stored(file.to, id, row.item.created, None).await {
                Ok(true) => return self.go_on(row, None, Vec::new()).await.map(drop),
                Ok(false) if file.looks > 0 => {
                    file.looks -= 1;
                    let due = self.outbox.now() + LOOK_AFTER;
                    return self.go_on(row, Some((What::File(file), due)), Vec::new()).await.map(drop);
                }
                Ok(false) => {}
                Err(words) => return self.file_later(row, file, NotFiled::Later(words)).await,
            }
        }
        let path = self.outbox.dir.join(&row.file);
        if row.item.octets > self.outside.most_stored() {
            return self
                .file_later(row, file, NotFiled::Refused("it is larger than what is stored over IMAP".into()))
                .await;
        }
        // Held once, as large as APPEND takes (70 MiB): one at a time for an account, and only while it is stored.
        let mut content = match tokio::fs::read(&path).await {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                error!(account = %self.outbox.address, id = row.id, "a message of the outbox is gone from {}", path.display());
                return self.go_on(row, None, Vec::new()).await.map(drop);
            }
            Err(error) => return self.file_later(row, file, NotFiled::Later(error.to_string())).await,
        };
        let mut begin = 0;
        if file.dotted {
            spool::undot(&mut content);
            begin = content.len() - spool::untraced(&content).len();
        }
        let content = Bytes::from(content).slice(begin..);
        file.begun = true;
        if !self.go_on(row, Some((What::File(file.clone()), row.item.due)), Vec::new()).await? {
            return Ok(());
        }
        match self.outside.store(file.to, content).await {
            Ok(()) => {
                info!(account = %self.outbox.address, id = row.id, to = ?file.to, "stored");
                self.go_on(row, None, Vec::new()).await.map(drop)
            }
            Err(why) => self.file_later(row, file, why).await,
        }
    }

    async fn file_later(&self, row: &Row, mut file: File, why: NotFiled) -> Result<(), String> {
        let (NotFiled::Later(words) | NotFiled::Refused(words)) = &why;
        warn!(account = %self.outbox.address, id = row.id, to = ?file.to, "a message cannot be stored now: {words}");
        let now = self.outbox.now();
        if matches!(why, NotFiled::Refused(_)) && now >= self.expiry(row.item.created) {
            error!(account = %self.outbox.address, id = row.id, to = ?file.to, "a message is given up: it cannot be stored");
            return self.go_on(row, None, Vec::new()).await.map(drop);
        }
        file.tries = file.tries.saturating_add(1);
        file.last = Some(words.clone());
        let due = now + backoff::filing(file.tries);
        self.go_on(row, Some((What::File(file), due)), Vec::new()).await.map(drop)
    }
}
