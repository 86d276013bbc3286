//! APPEND (RFC 9051 §6.3.12, RFC 4315 §3).

use bytes::Bytes;

use super::fetch::Items;
use crate::model::{Flags, InternalDate, Uid, UidValidity};
use crate::upstream::answer::Data;
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::{Done, Session, nothing};
use crate::upstream::types::FetchMeta;

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
        let line = append_line(mailbox, flags, date, body);
        Ok(append_uid(&self.run(line, &mut nothing).await?))
    }

    /// The same to the selected mailbox, and behind it, in the same breath, what is there from the UID `from` on: `seen` is told the lines
    /// that came. What became of the FETCH is nobody's failure: a message that is not in `seen` was not seen.
    pub async fn append_and_see(
        &mut self,
        (mailbox, flags, date, body): (&str, &Flags, Option<InternalDate>, &Bytes),
        from: Uid,
        seen: &mut Vec<FetchMeta>,
    ) -> Result<Option<(UidValidity, Uid)>, Error> {
        let lines = vec![
            append_line(mailbox, flags, date, body),
            Line::new(format!("UID FETCH {from}:* ({})", self.meta_items(Items::All))),
        ];
        let mut results = Vec::new();
        let ran = self
            .run_each(lines, &mut results, &mut |data| match data {
                Data::Fetch(fetch) if fetch.meta.uid.is_some() => {
                    seen.push(fetch.meta);
                    None
                }
                other => Some(other),
            })
            .await;
        match (results.into_iter().next().flatten(), ran) {
            // A connection lost behind its answer takes nothing from it.
            (Some(appended), _) => {
                let appended = appended?;
                if let Some(last) = seen.iter().filter_map(|meta| meta.uid).max() {
                    self.has_seen(Uid(last.0.saturating_add(1)));
                }
                Ok(append_uid(&appended))
            }
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(Error::Protocol("no command".into())),
        }
    }
}

fn append_line(mailbox: &str, flags: &Flags, date: Option<InternalDate>, body: &Bytes) -> Line {
    let mut line = Line::new("APPEND ").string(mailbox.as_bytes()).text(" ");
    if flags.names().next().is_some() {
        line = line.text(format!("({flags}) "));
    }
    if let Some(date) = date {
        line = line.text(format!("\"{date}\" "));
    }
    line.literal(body.clone())
}

fn append_uid(done: &Done) -> Option<(UidValidity, Uid)> {
    done.code.as_ref().and_then(|code| code.append_uid())
}
