//! UID COPY and UID MOVE (RFC 9051 §6.4.7, §6.4.8; RFC 6851; COPYUID of RFC 4315 §3).

use crate::model::UidSet;
use crate::upstream::answer::Data;
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::Session;
use crate::upstream::types::CopyUid;

impl Session {
    /// UID COPY; which UID became which, where upstream tells (COPYUID).
    pub async fn copy(&mut self, uids: &UidSet, to: &str) -> Result<Option<CopyUid>, Error> {
        self.copy_or_move("UID COPY ", uids, to).await
    }

    /// UID MOVE, only with MOVE. What left the mailbox is heard as events (EXPUNGE or VANISHED).
    pub async fn move_to(&mut self, uids: &UidSet, to: &str) -> Result<Option<CopyUid>, Error> {
        self.copy_or_move("UID MOVE ", uids, to).await
    }

    async fn copy_or_move(&mut self, command: &str, uids: &UidSet, to: &str) -> Result<Option<CopyUid>, Error> {
        let pieces = if self.quirks.single_moves {
            uids.iter().map(|uid| UidSet::from_iter([uid])).collect()
        } else {
            self.pieces(uids, to.len())
        };
        let lines =
            pieces.iter().map(|piece| Line::new(command).text(format!("{piece} ")).string(to.as_bytes())).collect();
        // MOVE tells COPYUID in an untagged OK (RFC 6851 §4.3), COPY in the tagged one.
        let mut told: Option<CopyUid> = None;
        let mut note = |copied: CopyUid| match &mut told {
            Some(all) if all.uid_validity == copied.uid_validity => all.pairs.extend(copied.pairs),
            _ => told = Some(copied),
        };
        let results = self
            .run_all(lines, &mut |data| match data {
                Data::Told(status) => {
                    match status.code.as_ref().and_then(|code| code.copy_uid()) {
                        Some(copied) => note(copied),
                        None => return Some(Data::Told(status)),
                    }
                    None
                }
                other => Some(other),
            })
            .await?;
        let (mut moved, mut refused) = (false, None);
        for result in results {
            match result {
                Ok(done) => {
                    moved = true;
                    if let Some(copied) = done.code.as_ref().and_then(|code| code.copy_uid()) {
                        note(copied);
                    }
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            // Some pieces done and others refused has no answer in IMAP but the refusal; the engine looks what is there.
            Some(error) => {
                if moved {
                    tracing::warn!(%error, "a {command}in several pieces was done in part");
                }
                Err(error)
            }
            None => Ok(told),
        }
    }
}
