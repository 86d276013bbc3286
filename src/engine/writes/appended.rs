//! What is done after an upload: keywords that upstream does not keep, flags that APPEND has lost, the body that need not be fetched.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::warn;

use super::append::{Append, Place, Uploaded};
use super::copies::select_for_write;
use crate::engine::account::Inner;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::model::{FlagOp, Flags, SystemFlags, Uid, UidSet, UidValidity};
use crate::provider::Quirk;
use crate::upstream::Class;

impl Inner {
    /// Shows what was appended, with the keywords that upstream does not keep.
    pub(super) async fn keep_appended_keywords(
        self: &Arc<Self>,
        target: &Arc<State>,
        messages: &[Append],
        keywords: Vec<Flags>,
        Uploaded { places, window, .. }: &Uploaded,
    ) -> Result<(), Error> {
        let mut found = Vec::new();
        for (message, place) in messages.iter().zip(places) {
            let at = match place.at() {
                Some(at) => Some(at),
                // Not told by upstream (it lacks UIDPLUS): perhaps it can be seen.
                None => self.settle_append(target, message, window).await.ok().flatten(),
            };
            found.extend(at);
        }
        if found.len() != messages.len() {
            warn!(account = %self.label(), mailbox = %target.name, "where a new message is is not known: its keywords are lost");
            self.show_arrivals(target).await;
            return Ok(());
        }
        let uids: UidSet = found.iter().map(|(_, uid)| uid.0).collect();
        let mut new: BTreeMap<UidValidity, Vec<(Uid, Flags)>> = BTreeMap::new();
        for ((validity, uid), keywords) in found.iter().zip(keywords) {
            new.entry(*validity).or_default().push((*uid, keywords));
        }
        for (validity, new) in new {
            self.keep_new(target, validity, new).await?;
        }
        self.show_arrivals(target).await;
        self.show_kept(target, &uids).await;
        Ok(())
    }

    /// The body that was uploaded need not be downloaded, if upstream kept it as it was. It is in memory at once and goes to the disk by
    /// itself: nobody waits for that.
    pub(super) fn keep_appended(self: &Arc<Self>, target: &Arc<State>, messages: Vec<Append>, places: &[Place]) {
        let snapshot = target.snapshot();
        let is_same = |message: &Append, place: &Place| match place {
            Place::Told(validity, uid) if *validity == snapshot.uid_validity => {
                let shown = snapshot.messages.get(*uid);
                let same = shown.is_some_and(|shown| u64::from(shown.size) == message.body.len() as u64);
                same.then(|| target.body_key(&snapshot, *uid))
            }
            _ => None,
        };
        for (message, place) in messages.into_iter().zip(places) {
            let Some(key) = is_same(&message, place) else { continue };
            self.bodies.remember(key, &message.body);
            let account = Arc::clone(self);
            self.tasks.spawn(async move {
                let body = message.body.clone();
                // What cannot be cached is fetched when asked for.
                let _ = account.disk(move |store| store.put_body(key, &body)).await;
                // Bounded by what all uploads may take of memory: it counts until here.
                drop(message.memory);
            });
        }
    }

    /// Stores the flags that APPEND has lost: those seen to be missing where the mirror shows the mailbox, else the one the provider is
    /// known to lose. The message is stored all the same, so what fails here is only logged.
    pub(super) async fn mend_flags(self: &Arc<Self>, target: &Arc<State>, messages: &[Append], places: &[Place]) {
        let snapshot = target.snapshot();
        for (message, place) in messages.iter().zip(places) {
            let Some((validity, uid)) = place.at() else { continue };
            let shown = snapshot.messages.get(uid).filter(|_| validity == snapshot.uid_validity);
            let missing = match shown {
                Some(shown) => missing(&message.flags, &shown.flags, snapshot.permanent.as_ref()),
                None if self.options.has(Quirk::AppendLosesFlagged) && message.flags.has(SystemFlags::FLAGGED) => {
                    SystemFlags::FLAGGED
                }
                None => continue,
            };
            if missing == SystemFlags::default() {
                continue;
            }
            let (uids, flags) = (UidSet::from_iter([uid.0]), Flags::new(missing, []));
            let stored = if shown.is_some() {
                self.store_flags(target, &uids, FlagOp::Add, &flags, None).await.map(|_| ())
            } else {
                self.store_unseen(target, validity, &uids, &flags).await
            };
            if let Err(error) = stored {
                warn!(account = %self.label(), mailbox = %target.name, %error, "a flag that was lost with APPEND could not be stored");
            }
        }
    }

    /// STORE in a mailbox nobody looks at.
    async fn store_unseen(
        &self,
        target: &State,
        validity: UidValidity,
        uids: &UidSet,
        flags: &Flags,
    ) -> Result<(), Error> {
        let mut lease = self.pool.lease(Class::Interactive, Some(&target.name)).await?;
        if select_for_write(&mut lease, &target.name, validity).await? {
            lease.store(uids, FlagOp::Add, flags, None).await?;
        }
        Ok(())
    }
}

/// Flags that were asked for, can be kept and are not there. Not `\Deleted`: nobody is served by making up for that. Keywords that are not
/// kept are no loss of APPEND.
fn missing(asked: &Flags, shown: &Flags, permanent: Option<&Flags>) -> SystemFlags {
    let all = [SystemFlags::SEEN, SystemFlags::ANSWERED, SystemFlags::FLAGGED, SystemFlags::DRAFT];
    let lost = |flag: &SystemFlags| {
        asked.has(*flag) && !shown.has(*flag) && permanent.is_none_or(|permanent| permanent.has(*flag))
    };
    all.into_iter().filter(lost).fold(SystemFlags::default(), SystemFlags::union)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_flags_are_those_that_can_be_kept() {
        let parse = |text: &str| Flags::parse(text.split(' ').filter(|flag| !flag.is_empty()));
        for (asked, shown, permanent, want) in [
            ("\\Seen \\Flagged", "\\Seen", None, "\\Flagged"),
            ("\\Seen \\Flagged", "\\Seen", Some("\\Seen"), ""),
            ("\\Deleted $Label1", "", None, ""),
            ("\\Draft \\Answered", "\\Flagged", Some("\\Draft \\Answered"), "\\Draft \\Answered"),
        ] {
            let permanent = permanent.map(parse);
            let lost = missing(&parse(asked), &parse(shown), permanent.as_ref());
            assert_eq!(Flags::new(lost, []), parse(want), "{asked} {shown}");
        }
    }
}
