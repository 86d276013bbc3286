//! GETQUOTA and GETQUOTAROOT (RFC 9208): lines handed on as they are.

use bytes::Bytes;

use crate::upstream::answer::Data;
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::Session;

/// Lines kept of one answer; a mailbox has a handful of roots.
const MAX_LINES: usize = 256;

impl Session {
    /// GETQUOTA: the untagged lines as sent, without `* ` and line end (only with QUOTA).
    pub async fn quota(&mut self, root: &str) -> Result<Vec<Bytes>, Error> {
        self.quota_lines(Line::new("GETQUOTA ").string(root.as_bytes())).await
    }

    /// GETQUOTAROOT, likewise.
    pub async fn quota_root(&mut self, mailbox: &str) -> Result<Vec<Bytes>, Error> {
        self.quota_lines(Line::new("GETQUOTAROOT ").string(mailbox.as_bytes())).await
    }

    async fn quota_lines(&mut self, line: Line) -> Result<Vec<Bytes>, Error> {
        let mut lines = Vec::new();
        self.run(line, &mut |data| match data {
            Data::Quota(line) => {
                if lines.len() < MAX_LINES {
                    lines.push(line);
                }
                None
            }
            other => Some(other),
        })
        .await?;
        Ok(lines)
    }
}
