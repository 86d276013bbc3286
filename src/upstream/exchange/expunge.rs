//! EXPUNGE and UID EXPUNGE (RFC 9051 §6.4.3, §6.4.9). Called for a client's own EXPUNGE, CLOSE or MOVE only (Law 10).

use super::all;
use crate::model::UidSet;
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::{Session, nothing};

impl Session {
    /// UID EXPUNGE, only with UIDPLUS; refused here without it, as a plain EXPUNGE would take other messages too. What
    /// went is heard as events.
    pub async fn uid_expunge(&mut self, uids: &UidSet) -> Result<(), Error> {
        if !self.caps().has("UIDPLUS") && !self.caps().has("IMAP4REV2") {
            let text = "upstream cannot expunge single messages (no UIDPLUS)".into();
            return Err(Error::No { code: Some("CANNOT".into()), text, bad: false });
        }
        let lines = self.pieces(uids, 0).iter().map(|piece| Line::new(format!("UID EXPUNGE {piece}"))).collect();
        all(self.run_all(lines, &mut nothing).await?).map(|_| ())
    }

    /// EXPUNGE: everything `\Deleted` in the selected mailbox, whoever marked it.
    pub async fn expunge(&mut self) -> Result<(), Error> {
        self.run(Line::new("EXPUNGE"), &mut nothing).await.map(|_| ())
    }
}
