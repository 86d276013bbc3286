//! What SELECT says of a mailbox itself, and what is asked of it first.

use super::plan::RECENT;
use crate::engine::snapshot::Snapshot;
use crate::engine::{keywords, mirror};
use crate::model::{Keyword, Uid};
use crate::upstream::Selected;

/// UIDs from here on are asked for at each look where the server keeps no mod-sequences.
pub(super) fn recent_from(snapshot: &Snapshot) -> Uid {
    let first = snapshot.messages.len().saturating_sub(RECENT);
    snapshot.messages.at(first).map_or(Uid(1), |message| if first == 0 { Uid(1) } else { message.uid })
}

/// Takes over what SELECT said of the mailbox itself; whether anything of it is news.
pub(super) fn lay_facts(snapshot: &mut Snapshot, selected: &Selected) -> bool {
    let before = (snapshot.permanent.clone(), snapshot.read_only, snapshot.keywords.len());
    if let Some(permanent) = &selected.permanent_flags {
        snapshot.permanent = keywords::permanent(permanent);
    }
    snapshot.read_only = selected.read_only;
    let told: Vec<Keyword> = selected.flags.iter().filter_map(|flag| Keyword::new(flag)).collect();
    let fresh: Vec<Keyword> = told.into_iter().filter(|flag| snapshot.keywords.binary_search(flag).is_err()).collect();
    snapshot.keywords = mirror::with_keywords(&snapshot.keywords, fresh);
    before != (snapshot.permanent.clone(), snapshot.read_only, snapshot.keywords.len())
}
