//! When something is tried again. Pure.

use std::time::Duration;

const MINUTE: u64 = 60;

/// Between two tries of a message the provider has put off: minutes at first, for greylisting, then as RFC 5321 §4.5.4.1 has it.
const PUT_OFF: [u64; 8] = [5, 10, 15, 30, 60, 90, 120, 240];
/// Between two tries to reach a provider that is away. Whoever sends meanwhile and reaches it ends the pause.
const AWAY: [u64; 5] = [1, 2, 5, 10, 15];
/// Between two tries to store a notification or a copy over IMAP.
const FILING: [u64; 6] = [1, 2, 5, 15, 30, 60];

/// After so many tries (at least one) of one message.
pub(super) fn put_off(tries: u32) -> Duration {
    step(&PUT_OFF, tries)
}

/// After the provider was not reached so many times in a row.
pub(super) fn away(tries: u32) -> Duration {
    step(&AWAY, tries)
}

pub(super) fn filing(tries: u32) -> Duration {
    step(&FILING, tries)
}

fn step(minutes: &[u64], tries: u32) -> Duration {
    let at = usize::try_from(tries).unwrap_or(usize::MAX).saturating_sub(1);
    let step = minutes.get(at).or_else(|| minutes.last());
    Duration::from_secs(step.copied().unwrap_or(MINUTE) * MINUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay() {
        let minutes = |pause: fn(u32) -> Duration| [1, 2, 5, 8, 9, 1000, u32::MAX].map(|n| pause(n).as_secs() / 60);
        assert_eq!(minutes(put_off), [5, 10, 60, 240, 240, 240, 240]);
        assert_eq!(minutes(away), [1, 2, 15, 15, 15, 15, 15]);
        assert_eq!(minutes(filing)[0], 1);
        assert_eq!(put_off(0), put_off(1));
        // Some thirty tries in the days a message waits.
        let (mut waited, mut tries) = (Duration::ZERO, 0);
        while waited < Duration::from_secs(5 * 86_400) {
            tries += 1;
            waited += put_off(tries);
        }
        assert!((30..40).contains(&tries), "{tries}");
    }
}
