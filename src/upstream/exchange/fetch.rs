//! UID FETCH of what the index keeps (RFC 9051 §6.4.5, RFC 7162 §3.1.4, §3.2.6).

use crate::model::UidSet;
use crate::upstream::answer::Data;
use crate::upstream::error::Error;
use crate::upstream::line::Line;
use crate::upstream::session::Session;
use crate::upstream::types::FetchMeta;

/// Lines beyond one for each message: what others change while a command runs. More mean that the server repeats itself, and whoever hears
/// them keeps them (Law 8).
const UNASKED: u64 = 100_000;

/// What [`Session::fetch_meta`] asks of each message, beside UID; FLAGS with all but the first, and MODSEQ where it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Items {
    /// Nothing at all: which messages there are.
    Uid,
    /// Nothing more: what may have changed of a message that is known.
    Flags,
    /// The provider's message id, where it gives one.
    Id,
    /// That, INTERNALDATE and RFC822.SIZE: all that the index keeps.
    All,
}

impl Session {
    /// UID FETCH of these items. `set` is as on the wire (`1:*` may be meant). With `changed_since` only what changed (CONDSTORE), and with QRESYNC what vanished since. Each
    /// line goes to `sink` as it comes, also lines heard unasked (they are as true). Gives what VANISHED (EARLIER) said.
    pub async fn fetch_meta(
        &mut self,
        set: &str,
        items: Items,
        changed_since: Option<u64>,
        sink: &mut (dyn FnMut(FetchMeta) + Send),
    ) -> Result<UidSet, Error> {
        let items = self.meta_items(items);
        let modifier = match changed_since {
            Some(modseq) if self.qresync => format!(" (CHANGEDSINCE {modseq} VANISHED)"),
            Some(modseq) if self.caps().condstore() => format!(" (CHANGEDSINCE {modseq})"),
            _ => String::new(),
        };
        let lines: Vec<Line> = match UidSet::parse(set) {
            Some(uids) => self.lines(&uids, items.len() + modifier.len()).iter().map(UidSet::to_string).collect(),
            None => vec![set.to_owned()],
        }
        .iter()
        .map(|set| Line::new(format!("UID FETCH {set} ({items}){modifier}")))
        .collect();
        let mut vanished = UidSet::new();
        let most = self.selected().map_or(0, |(_, selected)| u64::from(selected.exists)) + UNASKED;
        let mut heard = 0;
        let results = self
            .run_all(lines, &mut |data| {
                match data {
                    // Without UID it is some other client's flag change: a hint, and kept as one.
                    Data::Fetch(fetch) if fetch.meta.uid.is_some() => {
                        heard += 1;
                        if heard <= most {
                            sink(fetch.meta);
                        }
                    }
                    Data::Vanished { earlier: true, uids } => vanished = vanished.union(&uids),
                    other => return Some(other),
                }
                None
            })
            .await?;
        super::all(results)?;
        if heard > most {
            return Err(Error::Protocol(format!("{heard} answers to one FETCH")));
        }
        Ok(vanished)
    }

    pub(super) fn meta_items(&self, asked: Items) -> String {
        if asked == Items::Uid {
            return "UID".to_owned();
        }
        let mut items = String::from("UID FLAGS");
        if asked == Items::All {
            items.push_str(" INTERNALDATE RFC822.SIZE");
        }
        let nomodseq = self.selected().is_some_and(|(_, selected)| selected.highest_modseq == 0);
        if self.caps().condstore() && !nomodseq {
            items.push_str(" MODSEQ");
        }
        if asked != Items::Flags
            && let Some(item) = self.caps().message_id_item()
        {
            items.push(' ');
            items.push_str(item);
        }
        items
    }
}
