//! Opening a store again that failed while it ran.
//!
//! What is in use goes on under the ids the failed store gave out, and must not meet another mailbox under the same id: bodies are found
//! by it. So the new store is made to agree with the old one's names, gives no id a second time, and believes nothing of its index: it
//! may have lost its tail, and clients have been told more. Bodies verify themselves and stay where the database still knows them.

use std::collections::HashMap;
use std::path::PathBuf;

use super::open::{self, NEXT_MAILBOX};
use super::{Error, MailboxId, MailboxRecord, Options, Store, lock, value};

/// A call that was under way when the store failed may still have made a mailbox; of these there are no more than threads.
const UNDER_WAY: u32 = 1000;

/// What has to be known of a store that failed to open it again.
#[derive(Clone, Debug)]
pub struct Remains {
    dir: PathBuf,
    options: Options,
    hour: fn() -> u32,
    names: HashMap<String, MailboxId>,
    next: u32,
}

impl Store {
    /// What is needed to open this again, if it has failed: [`Remains::open`] works when the last clone is dropped.
    pub fn remains(&self) -> Option<Remains> {
        self.inner.failed.get()?;
        let index = lock(&self.inner.index);
        Some(Remains {
            dir: self.inner.dir.clone(),
            options: self.inner.options.clone(),
            hour: self.inner.hour,
            names: index.names().clone(),
            next: index.next().saturating_add(UNDER_WAY),
        })
    }
}

impl Remains {
    /// Opens it as [`Store::open`] does, with the same ids for the same names and an empty index. Blocks.
    ///
    /// # Errors
    /// As [`Store::open`]; it may be tried again.
    pub fn open(&self) -> Result<Store, Error> {
        // One that is damaged is set aside by renaming it, which its lock does not prevent; and the failed one writes by name.
        if !open::closed(&self.dir.join(open::DB)) {
            return Err(Error::Failed("the database that failed is still in use".into()));
        }
        let store = Store::open_at(&self.dir, &self.options, self.hour)?;
        {
            let mut index = lock(&store.inner.index);
            let next = index.next().max(self.next);
            store.inner.sled(store.inner.trees.db.insert(NEXT_MAILBOX, value::number_value(next.into())))?;
            index.set_next(next);
        }
        let mut known = HashMap::new();
        for (id, record) in store.mailboxes()? {
            if self.names.get(&record.name) == Some(&id) {
                known.insert(record.name, record.highest_modseq);
            } else {
                // Renamed or deleted in what was lost.
                store.remove_mailbox(id)?;
            }
        }
        for (name, id) in &self.names {
            let highest_modseq = known.get(name).copied().unwrap_or_default();
            // An unknown UIDVALIDITY is never believed.
            let record = MailboxRecord { name: name.clone(), highest_modseq, ..MailboxRecord::default() };
            store.replace(*id, &[], &record)?;
        }
        Ok(store)
    }
}
