//! STATUS (RFC 9051 §6.3.11, RFC 7162 §3.1.7).

use crate::upstream::answer::Data;
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::Session;
use crate::upstream::types::StatusLine;

impl Session {
    /// STATUS of one mailbox; HIGHESTMODSEQ is asked only with CONDSTORE. Items upstream leaves out are `None`.
    pub async fn status(&mut self, mailbox: &str) -> Result<StatusLine, Error> {
        let line = Line::new("STATUS ").string(mailbox.as_bytes()).text(format!(" ({})", self.status_items()));
        let mut found: Option<StatusLine> = None;
        self.run(line, &mut |data| match data {
            // The name may come back in another spelling (INBOX, Inbox); with NOTIFY others come between. The exact one wins.
            Data::Status(line)
                if line.mailbox == mailbox || (found.is_none() && line.mailbox.eq_ignore_ascii_case(mailbox)) =>
            {
                found = Some(line);
                None
            }
            other => Some(other),
        })
        .await?;
        found.ok_or_else(|| Error::No {
            code: None,
            text: "the provider answered STATUS without saying anything".into(),
            bad: false,
        })
    }

    pub(super) fn status_items(&self) -> &'static str {
        if self.caps().condstore() {
            "MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ"
        } else {
            "MESSAGES UIDNEXT UIDVALIDITY UNSEEN"
        }
    }
}
