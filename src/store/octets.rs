//! Octets that POP3 sends of messages of which RFC822.SIZE tells another number: estimates of the provider, messages without a last
//! line end. Few rows for most providers; known once a body was here, kept when it is evicted.

use super::key::{self, Key};
use super::{BodyKey, Error, Inner, MailboxId, Store, value};
use crate::model::{Uid, UidValidity};

impl Store {
    /// Keeps how many octets a message has.
    pub fn put_octets(&self, key: BodyKey, octets: u64) -> Result<(), Error> {
        if key.is_transient() {
            return Ok(());
        }
        let _watch = self.inner.sound()?;
        self.inner.disk.room(0)?;
        self.inner.sled(self.inner.trees.octets.insert(Key::body(key), value::number_value(octets)))?;
        Ok(())
    }

    /// What is kept of a mailbox's messages, and of all that have a provider's id.
    pub fn octets(&self, id: MailboxId, uid_validity: UidValidity) -> Result<Vec<(BodyKey, u64)>, Error> {
        let _watch = self.inner.sound()?;
        let own = |uid| Key::body(BodyKey::Message { mailbox: id, uid_validity, uid: Uid(uid) });
        let all = |id| Key::body(BodyKey::Provider(id));
        let mut found = self.inner.octets_between(&own(0), &own(u32::MAX))?;
        found.extend(self.inner.octets_between(&all(0), &all(u64::MAX))?);
        Ok(found)
    }
}

impl Inner {
    fn octets_between(&self, from: &Key, to: &Key) -> Result<Vec<(BodyKey, u64)>, Error> {
        let mut found = Vec::new();
        for row in self.trees.octets.range::<&[u8], _>(&**from..=&**to) {
            let (key, value) = self.sled(row)?;
            found.extend(key::body_key(&key).zip(value::number(&value)));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;
    use crate::store::MailboxRecord;

    #[test]
    fn octets_go_with_their_mailbox() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &Options { page_cache: 16 << 20, disk_reserve: 0 }).unwrap();
        let (a, b) = (store.mailbox_id("a").unwrap(), store.mailbox_id("b").unwrap());
        let key = |mailbox, uid| BodyKey::Message { mailbox, uid_validity: UidValidity(7), uid: Uid(uid) };
        for (key, octets) in [(key(a, 1), 10), (key(a, u32::MAX), 11), (key(b, 1), 12), (BodyKey::Provider(5), 13)] {
            store.put_octets(key, octets).unwrap();
        }
        store.put_octets(key(a, 1), 14).unwrap();
        let want = [(key(a, 1), 14), (key(a, u32::MAX), 11), (BodyKey::Provider(5), 13)];
        assert_eq!(store.octets(a, UidValidity(7)).unwrap(), want);
        assert_eq!(store.octets(a, UidValidity(8)).unwrap(), [(BodyKey::Provider(5), 13)]);
        let record = MailboxRecord { name: "a".into(), uid_validity: UidValidity(7), ..MailboxRecord::default() };
        store.put_mailbox(a, &record).unwrap();
        store.remove_mailbox(a).unwrap();
        assert_eq!(store.octets(a, UidValidity(7)).unwrap(), [(BodyKey::Provider(5), 13)]);
        assert_eq!(store.octets(b, UidValidity(7)).unwrap().len(), 2);
        // Nobody has these messages.
        let record = MailboxRecord { name: "b".into(), uid_validity: UidValidity(7), ..MailboxRecord::default() };
        store.put_mailbox(b, &record).unwrap();
        store.sweep().unwrap();
        assert_eq!(store.octets(b, UidValidity(7)).unwrap(), []);
    }
}
