//! UID COPY and UID MOVE (RFC 9051 §6.4.7, §6.4.8; RFC 6851; COPYUID of RFC 4315 §3).

use crate::model::UidSet;
use crate::upstream::answer::Data;
use crate::upstream::line::Line;
use crate::upstream::session::Session;
use crate::upstream::types::{CopyUid, Transfer};

impl Session {
    /// UID COPY. A long set goes in several commands: some may have been done when another is refused.
    pub async fn copy(&mut self, uids: &UidSet, to: &str) -> Transfer {
        self.copy_or_move("UID COPY ", uids, to).await
    }

    /// UID MOVE, only with MOVE. What left the mailbox is heard as events (EXPUNGE or VANISHED).
    pub async fn move_to(&mut self, uids: &UidSet, to: &str) -> Transfer {
        self.copy_or_move("UID MOVE ", uids, to).await
    }

    /// Whether a COPY or MOVE of these takes several commands.
    pub fn copies_in_pieces(&self, uids: &UidSet, to: &str) -> bool {
        self.copy_pieces(uids, to).len() > 1
    }

    fn copy_pieces(&self, uids: &UidSet, to: &str) -> Vec<UidSet> {
        if self.quirks.single_moves {
            uids.iter().map(|uid| UidSet::from_iter([uid])).collect()
        } else {
            self.pieces(uids, to.len())
        }
    }

    async fn copy_or_move(&mut self, command: &str, uids: &UidSet, to: &str) -> Transfer {
        let pieces = self.copy_pieces(uids, to);
        let lines =
            pieces.iter().map(|piece| Line::new(command).text(format!("{piece} ")).string(to.as_bytes())).collect();
        // MOVE tells COPYUID in an untagged OK (RFC 6851 §4.3), COPY in the tagged one.
        let mut told: Option<CopyUid> = None;
        let mut note = |copied: CopyUid| match &mut told {
            Some(all) if all.uid_validity == copied.uid_validity => all.pairs.extend(copied.pairs),
            _ => told = Some(copied),
        };
        let mut results = Vec::new();
        let ran = self
            .run_each(lines, &mut results, &mut |data| match data {
                Data::Told(status) => {
                    match status.code.as_ref().and_then(|code| code.copy_uid()) {
                        Some(copied) => note(copied),
                        None => return Some(Data::Told(status)),
                    }
                    None
                }
                other => Some(other),
            })
            .await;
        let (mut done, mut refused) = (UidSet::new(), None);
        for (piece, result) in pieces.iter().zip(results) {
            match result {
                Some(Ok(answer)) => {
                    done = done.union(piece);
                    if let Some(copied) = answer.code.as_ref().and_then(|code| code.copy_uid()) {
                        note(copied);
                    }
                }
                Some(Err(error)) => refused = refused.or(Some(error)),
                // Lost on the way.
                None => {}
            }
        }
        Transfer { told, done, failed: ran.err().or(refused) }
    }
}
