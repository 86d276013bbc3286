//! UID SEARCH (RFC 9051 §6.4.4), by ESEARCH (RFC 4731) where offered.

use crate::model::{Uid, UidSet};
use crate::upstream::answer::Data;
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::Session;

impl Session {
    /// All UIDs of the selected mailbox: ranges by ESEARCH RETURN (ALL) where offered, else the long list of UID SEARCH ALL.
    pub async fn search_uids(&mut self) -> Result<UidSet, Error> {
        self.search(b"ALL").await
    }

    /// The UID of the first message of the selected mailbox; `None` if it is empty, or upstream does not say.
    pub async fn lowest_uid(&mut self) -> Result<Option<Uid>, Error> {
        if self.selected().is_none_or(|(_, selected)| selected.exists == 0) {
            return Ok(None);
        }
        let mut lowest = None;
        self.run(Line::new("FETCH 1 (UID)"), &mut |data| match data {
            Data::Fetch(fetch) if fetch.meta.seq == 1 => {
                lowest = lowest.max(fetch.meta.uid);
                None
            }
            other => Some(other),
        })
        .await?;
        Ok(lowest)
    }

    /// UID SEARCH with a ready-made program (the bytes after `UID SEARCH `, which may hold literals).
    pub async fn search(&mut self, program: &[u8]) -> Result<UidSet, Error> {
        let esearch = self.caps().has("ESEARCH") || self.caps().has("IMAP4REV2");
        let command = if esearch { "UID SEARCH RETURN (ALL) " } else { "UID SEARCH " };
        let malformed = || Error::Protocol("a malformed search program".into());
        // Ours to have got wrong, and found before anything was sent: a NO, not a lost session.
        let line = Line::new(command).program(program).ok_or_else(|| Error::No {
            code: None,
            text: malformed().to_string(),
            bad: true,
        })?;
        let mut found = UidSet::new();
        self.run(line, &mut |data| {
            match data {
                Data::Search(mut uids) => {
                    // Several lines are one answer; ascending order is not promised.
                    uids.sort_unstable();
                    found = found.union(&uids.into_iter().filter(|uid| *uid != 0).collect());
                }
                Data::Esearch(all) => found = found.union(&all),
                other => return Some(other),
            }
            None
        })
        .await?;
        Ok(found)
    }
}
