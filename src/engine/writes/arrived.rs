//! Whether a message whose APPEND was interrupted has arrived, decided among what is new in the mailbox.
//!
//! One that is equal in every octet is ours. Where none is, one with our Message-ID, Date and Subject is ours too if it is the only one: some
//! providers rewrite what they store. Other versions of a draft keep its Message-ID and not its Date; they are not ours. Several that are
//! alike and none equal leave it open which is ours, if any is: it is not known, and said so.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::append::Append;
use super::settle::{LOOK_PAUSE, LOOKS, Window};
use crate::engine::account::Inner;
use crate::engine::bodies::BodyReads;
use crate::engine::error::Error;
use crate::engine::mailbox::State;
use crate::engine::summaries::Want;
use crate::message;
use crate::model::{MessageMeta, Uid, UidValidity};
use crate::upstream::Class;

/// As many of the newest arrivals that are alike are compared in full; a second one is rare.
const COMPARED: usize = 8;

/// What the look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ours(Uid),
    /// It is there more than once, octet by octet: which of them is ours makes no difference, and is not told.
    Several,
    NotThere,
    Unknown,
}

impl Inner {
    /// After a connection was lost in an APPEND: where the message is, if that can be told; an error if it is not there, or not known.
    pub(super) async fn settle_append(
        self: &Arc<Self>,
        target: &Arc<State>,
        message: &Append,
        window: &Window,
    ) -> Result<Option<(UidValidity, Uid)>, Error> {
        let lost = |what: &str| {
            Error::Unavailable(format!("The connection to the provider was lost while storing the message; {what}"))
        };
        // A server may still be at work on what it has received: one look is not enough to say that it is not there.
        let mut looks = LOOKS;
        loop {
            self.freshen(target, Instant::now(), Class::Interactive).await?;
            let arrived = target.snapshot();
            match self.judge(target, message, &window.arrivals(&arrived)).await? {
                Verdict::Ours(uid) => return Ok(Some((arrived.uid_validity, uid))),
                Verdict::Several => return Ok(None),
                Verdict::NotThere if !window.is_known() => return Err(lost("whether it was stored cannot be seen")),
                Verdict::NotThere if looks == 0 => return Err(lost("it has not been stored")),
                Verdict::Unknown => return Err(lost("whether it was stored cannot be told from what is there")),
                Verdict::NotThere => {}
            }
            looks -= 1;
            sleep(LOOK_PAUSE).await;
        }
    }

    async fn judge(
        self: &Arc<Self>,
        target: &Arc<State>,
        message: &Append,
        arrived: &[MessageMeta],
    ) -> Result<Verdict, Error> {
        let header = message.body.get(..message::header_end(&message.body)).unwrap_or_default();
        let traits = traits(header);
        let uids: Vec<Uid> = arrived.iter().map(|new| new.uid).collect();
        let want = Want { header: true, ..Default::default() };
        let mut alike = Vec::new();
        for (uid, summary) in uids.iter().zip(self.summaries(target, &uids, want).await) {
            let summary = match summary {
                Ok(summary) => summary,
                Err(Error::Expunged) => continue,
                // Not seen is not known.
                Err(error) => return Err(error),
            };
            let same = match &traits.0 {
                Some(_) => self::traits(&summary.header) == traits,
                None => summary.header.trim_ascii_end() == header.trim_ascii_end(),
            };
            if same {
                alike.push(*uid);
            }
        }
        let newest: Vec<Uid> = alike.iter().rev().take(COMPARED).copied().collect();
        let mut equal = Vec::new();
        let mut reads = BodyReads::new(Arc::clone(self), Arc::clone(target), Arc::default(), newest);
        while let Some((uid, body)) = reads.next().await {
            match body {
                Ok(body) if is_same(&body.whole().await?, &message.body) => equal.push(uid),
                Ok(_) | Err(Error::Expunged) => {}
                Err(error) => return Err(error),
            }
        }
        // Without a Message-ID a message that only begins alike is another.
        Ok(verdict(&equal, if traits.0.is_some() { &alike } else { &[] }))
    }
}

/// What a provider that rewrites a message leaves as it was.
fn traits(header: &[u8]) -> (Option<String>, Vec<String>, Vec<String>) {
    let values = |name| message::header_values(header, name);
    (message::message_id(header), values("Date"), values("Subject"))
}

fn verdict(equal: &[Uid], alike: &[Uid]) -> Verdict {
    match (equal, alike) {
        ([uid], _) => Verdict::Ours(*uid),
        ([_, ..], _) => Verdict::Several,
        ([], [uid]) => Verdict::Ours(*uid),
        ([], []) => Verdict::NotThere,
        ([], _) => Verdict::Unknown,
    }
}

/// The same octets; some servers add or drop a line end at the end.
fn is_same(theirs: &Bytes, ours: &Bytes) -> bool {
    theirs.trim_ascii_end() == ours.trim_ascii_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_beats_alike_and_doubt_is_said() {
        let uids = |list: &[u32]| list.iter().map(|uid| Uid(*uid)).collect::<Vec<_>>();
        for (equal, alike, want) in [
            (&[7][..], &[6, 7][..], Verdict::Ours(Uid(7))),
            (&[6, 7], &[6, 7], Verdict::Several),
            (&[], &[6], Verdict::Ours(Uid(6))),
            (&[], &[6, 7], Verdict::Unknown),
            (&[], &[], Verdict::NotThere),
        ] {
            assert_eq!(verdict(&uids(equal), &uids(alike)), want, "{equal:?} {alike:?}");
        }
    }
}
