//! APPEND (RFC 9051 §6.3.12, RFC 4315 §3).

use bytes::Bytes;

use crate::model::{Flags, InternalDate, Uid, UidValidity};
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::{Session, nothing};

impl Session {
    /// Uploads a message; its UIDVALIDITY and UID where upstream tells them (APPENDUID). The body is sent from where it lies, without a
    /// copy. A connection lost in the middle is [`Error::Lost`] with `sent`: the message may be there or not (Law 11).
    pub async fn append(
        &mut self,
        mailbox: &str,
        flags: &Flags,
        date: Option<InternalDate>,
        body: &Bytes,
    ) -> Result<Option<(UidValidity, Uid)>, Error> {
        let mut line = Line::new("APPEND ").string(mailbox.as_bytes()).text(" ");
        if flags.names().next().is_some() {
            line = line.text(format!("({flags}) "));
        }
        if let Some(date) = date {
            line = line.text(format!("\"{date}\" "));
        }
        let done = self.run(line.literal(body.clone()), &mut nothing).await?;
        Ok(done.code.as_ref().and_then(|code| code.append_uid()))
    }
}
