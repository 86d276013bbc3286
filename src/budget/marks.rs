//! Where on the way to a day's limit which work stops: for those who watch.

use super::{Budget, Class, Direction};

impl Budget {
    /// Bytes of the day's download at which work of a class stops; `None` without a limit.
    pub fn stops_at(&self, class: Class) -> Option<u64> {
        self.spending().limits.for_class(Direction::Download, class)
    }

    /// Bytes of the day's download from which on synchronisation goes slowly.
    pub fn slow_from(&self) -> Option<u64> {
        self.spending().limits.slow_from(Direction::Download)
    }
}
