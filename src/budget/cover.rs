//! How far the count on disk runs ahead of what crosses the socket, one direction's (the rule stands in the module above).

/// Octets. What was written down last covers the count up to `covered`.
#[derive(Default)]
pub(super) struct Cover {
    /// Set aside by reservations: some of it may be on its way.
    pub(super) promised: u64,
    /// Let through by [`Cover::hold`] and not told yet whether it crossed.
    held: u64,
    /// Counted since the start.
    pub(super) total: u64,
    covered: u64,
}

impl Cover {
    /// What the other end may have counted and we have not: of what was asked for, what the system can hold unread.
    fn unread(&self, most: u64) -> u64 {
        self.promised.min(most)
    }

    fn needed(&self, unread_most: u64) -> u64 {
        self.total.saturating_add(self.held).saturating_add(self.unread(unread_most))
    }

    /// Whether all is covered that may have crossed.
    pub(super) fn is_whole(&self, unread_most: u64) -> bool {
        self.covered >= self.needed(unread_most)
    }

    /// Octets that may still cross before the count has to be written again.
    pub(super) fn headroom(&self, unread_most: u64) -> u64 {
        self.covered.saturating_sub(self.needed(unread_most))
    }

    /// Sets aside what may cross now, `most` at most.
    pub(super) fn hold(&mut self, most: u64, unread_most: u64) -> u64 {
        let held = most.min(self.headroom(unread_most));
        self.held += held;
        held
    }

    /// The same where nothing covers it.
    pub(super) fn hold_uncovered(&mut self, most: u64) {
        self.held = self.held.saturating_add(most);
    }

    pub(super) fn release(&mut self, held: u64) {
        self.held = self.held.saturating_sub(held);
    }

    /// Octets to be written down beyond the count, and the mark that covers. From here on nothing crosses that neither what stands on the disk
    /// nor what will stand there covers.
    pub(super) fn begin_writing(&mut self, lead: u64, unread_most: u64) -> (u64, u64) {
        let mark = self.needed(unread_most).saturating_add(lead);
        self.covered = self.covered.min(mark);
        (mark.saturating_sub(self.total), mark)
    }

    pub(super) fn written(&mut self, mark: u64) {
        self.covered = mark;
    }
}
