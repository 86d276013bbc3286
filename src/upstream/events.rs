//! What a session heard unasked, bounded.
//!
//! Events are hints: the engine looks for itself. So when there are too many, one [`Event::Overflow`] says as much as all of them
//! (Law 8).

use super::answer::Data;
use super::types::Event;

/// Events kept for the holder of a session. A folder emptied elsewhere makes one event a message; past this looking at the mailbox as a
/// whole is cheaper than following.
const MAX_EVENTS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Events {
    list: Vec<Event>,
    overflow: bool,
}

impl Events {
    /// Takes note of data that belongs to no exchange.
    pub(super) fn hear(&mut self, data: Data) {
        let event = match data {
            Data::Exists(count) => Event::Exists(count),
            Data::Expunge(seq) => Event::Expunge(seq),
            Data::Vanished { uids, .. } => Event::Vanished(uids),
            Data::Fetch(fetch) => Event::Fetch(fetch.meta),
            Data::Status(line) => Event::Status(line),
            Data::List(_) => Event::List,
            Data::NotificationOverflow => return self.overflow(),
            _ => return,
        };
        if self.overflow {
            return;
        }
        // The newest count says all; repeated list changes say one thing.
        match event {
            Event::Exists(_) => self.list.retain(|old| !matches!(old, Event::Exists(_))),
            Event::List if self.list.contains(&Event::List) => return,
            _ => {}
        }
        if self.list.len() >= MAX_EVENTS {
            return self.overflow();
        }
        self.list.push(event);
    }

    fn overflow(&mut self) {
        self.list.clear();
        self.overflow = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty() && !self.overflow
    }

    pub(super) fn take(&mut self) -> Vec<Event> {
        if std::mem::take(&mut self.overflow) {
            self.list.clear();
            return vec![Event::Overflow];
        }
        std::mem::take(&mut self.list)
    }

    /// Another mailbox is selected: what was heard of the one before means nothing now.
    pub(super) fn forget_mailbox(&mut self) {
        self.list.retain(|event| matches!(event, Event::Status(_) | Event::List));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_lists_are_told_once() {
        let mut events = Events::default();
        for data in [Data::Exists(1), Data::Expunge(1), Data::Exists(2), Data::Recent] {
            events.hear(data);
        }
        assert_eq!(events.take(), [Event::Expunge(1), Event::Exists(2)]);
        assert!(events.is_empty());
    }

    #[test]
    fn too_many_become_one() {
        let mut events = Events::default();
        for seq in 0..5000 {
            events.hear(Data::Expunge(seq + 1));
        }
        assert!(!events.is_empty());
        assert_eq!(events.take(), [Event::Overflow]);
        assert_eq!(events.take(), []);
    }
}
