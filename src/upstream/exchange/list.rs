//! LIST, LSUB, XLIST, NAMESPACE, LIST-STATUS (RFC 9051 §6.3.9; RFC 2342; RFC 5258; RFC 5819; RFC 6154).

use std::collections::HashMap;

use super::all;
use crate::model::Role;
use crate::upstream::answer::Data;
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::Session;
use crate::upstream::types::{ListLine, StatusLine};

/// Most names kept of one LIST: above any account seen, below what would hurt (Law 8).
const MAX_NAMES: usize = 200_000;

impl Session {
    /// All mailboxes, and all names subscribed to (`lsub`), pipelined. Special uses are asked for where upstream can tell; those told by
    /// XLIST are added to the names LIST gave (XLIST itself renames INBOX on some servers).
    pub async fn list(&mut self) -> Result<Vec<ListLine>, Error> {
        let caps = self.caps();
        let extended = caps.has("LIST-EXTENDED") && caps.has("SPECIAL-USE");
        let xlist = caps.has("XLIST") && !caps.has("SPECIAL-USE");
        let list = if extended { "LIST \"\" \"*\" RETURN (SPECIAL-USE)" } else { "LIST \"\" \"*\"" };
        let mut lines = vec![Line::new(list), Line::new("LSUB \"\" \"*\"")];
        if xlist {
            lines.push(Line::new("XLIST \"\" \"*\""));
        }
        let mut names = Vec::new();
        let mut roles: HashMap<String, Vec<String>> = HashMap::new();
        let results = self
            .run_all(lines, &mut |data| {
                match data {
                    Data::List(line) if names.len() < MAX_NAMES => names.push(line),
                    Data::Xlist(line) if roles.len() < MAX_NAMES => {
                        let known = line.attributes.into_iter().filter(|word| Role::from_attribute(word).is_some());
                        roles.insert(line.name, known.collect());
                    }
                    Data::List(_) | Data::Xlist(_) => {}
                    other => return Some(other),
                }
                None
            })
            .await?;
        let mut results = results.into_iter();
        if let Some(listed) = results.next() {
            listed?;
        }
        // LSUB and XLIST are extras: some servers answer BAD, and nothing but subscriptions or roles is lost.
        for refused in results.filter_map(Result::err) {
            tracing::debug!(%refused, "LSUB or XLIST refused");
        }
        for line in names.iter_mut().filter(|line| !line.lsub) {
            for word in roles.remove(&line.name).unwrap_or_default() {
                if !line.attributes.iter().any(|known| known.eq_ignore_ascii_case(&word)) {
                    line.attributes.push(word);
                }
            }
        }
        Ok(names)
    }

    /// The personal namespace's prefix and delimiter. Without NAMESPACE the prefix is empty and the delimiter the one LIST tells.
    pub async fn namespace_prefix(&mut self) -> Result<(String, Option<char>), Error> {
        if self.caps().has("NAMESPACE") {
            let mut personal = None;
            let done = self
                .run(Line::new("NAMESPACE"), &mut |data| match data {
                    Data::Namespace(first) => {
                        personal = first;
                        None
                    }
                    other => Some(other),
                })
                .await;
            match done {
                Ok(_) => return Ok(personal.unwrap_or_default()),
                Err(Error::No { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // RFC 9051 §6.3.9.7: LIST "" "" tells the delimiter.
        let mut delimiter = None;
        self.run(Line::new("LIST \"\" \"\""), &mut |data| match data {
            Data::List(line) => {
                delimiter = delimiter.or(line.delimiter);
                None
            }
            other => Some(other),
        })
        .await?;
        Ok((String::new(), delimiter))
    }

    /// STATUS of all mailboxes in one go; only with LIST-STATUS (RFC 5819). Mailboxes upstream cannot open are not in it.
    pub async fn list_status(&mut self) -> Result<Vec<StatusLine>, Error> {
        let items = self.status_items();
        let line = Line::new(format!("LIST \"\" \"*\" RETURN (STATUS ({items}))"));
        let mut lines = Vec::new();
        let results = self
            .run_all(vec![line], &mut |data| {
                match data {
                    Data::Status(line) if lines.len() < MAX_NAMES => lines.push(line),
                    Data::Status(_) | Data::List(_) => {}
                    other => return Some(other),
                }
                None
            })
            .await?;
        all(results)?;
        Ok(lines)
    }
}
