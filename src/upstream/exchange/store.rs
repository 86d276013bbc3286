//! UID STORE (RFC 9051 §6.4.6, RFC 7162 §3.1.3).

use crate::model::{FlagOp, Flags, UidSet};
use crate::upstream::answer::{Code, Data};
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::Session;
use crate::upstream::types::FetchMeta;

impl Session {
    /// UID STORE; the FETCH lines it made (flags, modseq; those without UID are events), and which UIDs failed UNCHANGEDSINCE (`[MODIFIED]`).
    /// Not `.SILENT`: upstream's own result is what is believed. Without CONDSTORE the condition is left out; the caller sees to it.
    pub async fn store(
        &mut self,
        uids: &UidSet,
        op: FlagOp,
        flags: &Flags,
        unchanged_since: Option<u64>,
    ) -> Result<(Vec<FetchMeta>, UidSet), Error> {
        let condition = match unchanged_since {
            Some(modseq) if self.caps().condstore() => format!(" (UNCHANGEDSINCE {modseq})"),
            _ => String::new(),
        };
        let item = match op {
            FlagOp::Replace => "FLAGS",
            FlagOp::Add => "+FLAGS",
            FlagOp::Remove => "-FLAGS",
        };
        let arguments = format!("{condition} {item} ({flags})");
        let pieces = self.pieces(uids, arguments.len());
        let lines = pieces.iter().map(|piece| Line::new(format!("UID STORE {piece}{arguments}"))).collect();
        let mut told = Vec::new();
        let results = self
            .run_all(lines, &mut |data| match data {
                Data::Fetch(fetch) if fetch.meta.uid.is_some() => {
                    told.push(fetch.meta);
                    None
                }
                other => Some(other),
            })
            .await?;
        let mut modified = UidSet::new();
        let mut refused = None;
        for result in results {
            // RFC 7162 §3.1.3: [MODIFIED] comes with OK, and with NO when some messages are gone.
            match result {
                Ok(done) => {
                    if let Some(set) = done.code.as_ref().and_then(|code| code.modified()) {
                        modified = modified.union(&set);
                    }
                }
                Err(error) => {
                    let set = match &error {
                        Error::No { code: Some(code), .. } => Code::new(code).modified(),
                        _ => None,
                    };
                    match set {
                        Some(set) => modified = modified.union(&set),
                        None => refused = refused.or(Some(error)),
                    }
                }
            }
        }
        refused.map_or(Ok((told, modified)), Err)
    }
}
