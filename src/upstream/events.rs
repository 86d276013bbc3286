//! What a session heard unasked, bounded.
//!
//! Events are hints: the engine looks for itself. So when there are too many, one [`Event::Overflow`] says as much as all of them
//! (Law 8).

use super::answer::{Data, Kind};
use super::types::{Elsewhere, Event};

/// Events kept for the holder of a session. A folder emptied elsewhere makes one event a message; past this looking at the mailbox as a
/// whole is cheaper than following.
const MAX_EVENTS: usize = 1024;
/// Names of other mailboxes kept: past this looking at everything is cheaper.
const MAX_ELSEWHERE: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Events {
    list: Vec<Event>,
    overflow: bool,
    /// What was told of mailboxes that are not selected, once NOTIFY is on. It outlives a loan: nobody else will be told of it.
    elsewhere: Option<Elsewhere>,
}

impl Events {
    /// Takes note of data that belongs to no exchange.
    pub(super) fn hear(&mut self, data: Data) {
        let Some(data) = self.hear_elsewhere(data) else { return };
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

    /// From now on upstream tells of every mailbox.
    pub(super) fn set_notified(&mut self) {
        self.elsewhere = Some(Elsewhere::default());
    }

    pub(super) fn is_notified(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// What is told of other mailboxes, since the last call.
    pub(super) fn take_elsewhere(&mut self) -> Elsewhere {
        self.elsewhere.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Forgets everything but that.
    pub(super) fn end_of_loan(&mut self) {
        (self.list, self.overflow) = (Vec::new(), false);
    }

    fn hear_elsewhere(&mut self, data: Data) -> Option<Data> {
        let Some(elsewhere) = &mut self.elsewhere else { return Some(data) };
        match data {
            Data::Status(line) if elsewhere.mailboxes.len() < MAX_ELSEWHERE => {
                elsewhere.mailboxes.insert(line.mailbox);
            }
            Data::Status(line) => elsewhere.overflow |= !elsewhere.mailboxes.contains(&line.mailbox),
            Data::List(_) => elsewhere.list = true,
            Data::NotificationOverflow => elsewhere.overflow = true,
            // Dovecot: "NOTIFY error, some events may have got lost".
            Data::Told(status) if status.kind == Kind::No && status.text.contains("NOTIFY") => {
                elsewhere.overflow = true
            }
            other => return Some(other),
        }
        None
    }

    fn overflow(&mut self) {
        self.list.clear();
        self.overflow = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
            && !self.overflow
            && self.elsewhere.as_ref().is_none_or(|told| *told == Elsewhere::default())
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
    use crate::upstream::types::StatusLine;

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
    fn what_is_told_of_other_mailboxes_outlives_a_loan() {
        let status = |name: &str| Data::Status(StatusLine { mailbox: name.into(), ..StatusLine::default() });
        let mut events = Events::default();
        events.hear(status("a"));
        assert!(matches!(*events.take(), [Event::Status(_)]), "not asked for: as ever");
        assert_eq!(events.take_elsewhere(), Elsewhere::default());
        events.set_notified();
        assert!(events.is_empty());
        for data in [status("a"), status("b"), Data::Expunge(3), status("a")] {
            events.hear(data);
        }
        assert_eq!(events.take(), [Event::Expunge(3)]);
        assert!(!events.is_empty());
        events.forget_mailbox();
        events.end_of_loan();
        let told = Elsewhere { mailboxes: ["a".to_owned(), "b".to_owned()].into(), ..Elsewhere::default() };
        assert_eq!(events.take_elsewhere(), told);
        assert!(events.is_empty());
        (0..2000).for_each(|n| events.hear(status(&n.to_string())));
        let told = events.take_elsewhere();
        assert!(told.overflow && told.mailboxes.len() == MAX_ELSEWHERE);
        events.hear(Data::NotificationOverflow);
        assert!(events.take_elsewhere().overflow);
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
