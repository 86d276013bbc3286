//! Who gets the next session: the pool's book-keeping without any I/O.
//!
//! Pure (no clock, no lock): [`plan`] takes what is open, leased and waited for, and says what to do. The rules:
//!
//! - the queue is ordered by [`Class`], then by arrival;
//! - background work (Sync and Prefetch) and watching each leave one session of several to the others, so that a person who
//!   clicks never waits behind a batch;
//! - who waits and cannot be served makes a lease of lower standing *wanted*: watching gives way to everybody who works, prefetch to
//!   sync and to people, sync to people. Each waiter wants one lease, and a connection being opened counts as one coming.

use super::types::Class;

/// A lease or somebody who waits for one, in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Party {
    pub id: u64,
    pub class: Class,
}

/// What the pool has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holdings<'a> {
    /// Sessions in nobody's hands.
    pub parked: usize,
    /// Connections being opened or checked: they will be parked soon.
    pub coming: usize,
    pub leased: &'a [Party],
    pub waiting: &'a [Party],
    /// Sessions that may be open.
    pub maximum: usize,
}

/// What to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Waiters to be given a parked session, in this order.
    pub grant: Vec<u64>,
    /// Connections to open.
    pub open: usize,
    /// Leases to be told that they are wanted; all others are not.
    pub wanted: Vec<u64>,
}

/// See the module.
pub(super) fn plan(holdings: Holdings<'_>) -> Plan {
    let mut plan = Plan::default();
    let share = holdings.maximum.saturating_sub(1).max(1);
    let count = |background: bool| {
        let same = |party: &&Party| background == matches!(party.class, Class::Sync | Class::Prefetch);
        holdings.leased.iter().filter(|party| party.class != Class::Interactive).filter(same).count()
    };
    let (mut background, mut watching) = (count(true), count(false));
    let open = holdings.parked + holdings.coming + holdings.leased.len();
    let (mut parked, mut coming) = (holdings.parked, holdings.coming);
    let mut room = holdings.maximum.saturating_sub(open);
    let mut givers: Vec<Party> = holdings.leased.to_vec();

    let mut waiting = holdings.waiting.to_vec();
    waiting.sort_by_key(|party| (party.class, party.id));
    for waiter in waiting {
        let used = match waiter.class {
            Class::Interactive => None,
            Class::Sync | Class::Prefetch => Some(&mut background),
            Class::Watch => Some(&mut watching),
        };
        let within_share = used.as_ref().is_none_or(|used| **used < share);
        if within_share {
            if let Some(used) = used {
                *used += 1;
            }
            if parked > 0 {
                parked -= 1;
                plan.grant.push(waiter.id);
                continue;
            }
            if coming > 0 {
                coming -= 1;
                continue;
            }
            if room > 0 {
                room -= 1;
                plan.open += 1;
                continue;
            }
        }
        if let Some(at) = giver(&givers, waiter.class, within_share) {
            plan.wanted.push(givers.remove(at).id);
        }
    }
    plan
}

/// Which lease gives way to a waiter of `class`: one of the lowest standing, the oldest of these.
fn giver(leases: &[Party], class: Class, within_share: bool) -> Option<usize> {
    // Whose share is used up is not helped by a watcher's session.
    let ranks: &[Class] = match (class, within_share) {
        (Class::Interactive, _) => &[Class::Watch, Class::Prefetch, Class::Sync],
        (Class::Sync, true) => &[Class::Watch, Class::Prefetch],
        (Class::Sync, false) => &[Class::Prefetch],
        (Class::Prefetch, true) => &[Class::Watch],
        (Class::Prefetch, false) | (Class::Watch, _) => &[],
    };
    ranks.iter().find_map(|rank| leases.iter().position(|lease| lease.class == *rank))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Class::*;

    fn parties(classes: &[Class], from: u64) -> Vec<Party> {
        classes.iter().zip(from..).map(|(class, id)| Party { id, class: *class }).collect()
    }

    #[test]
    fn who_gets_what() {
        // maximum, parked, coming, leased (ids from 1), waiting (ids from 101) -> grant, open, wanted
        type Case = (usize, usize, usize, &'static [Class], &'static [Class], &'static [u64], usize, &'static [u64]);
        let table: [Case; 21] = [
            (3, 0, 0, &[], &[Sync], &[], 1, &[]),
            (3, 1, 0, &[], &[Sync], &[101], 0, &[]),
            (3, 0, 1, &[], &[Sync], &[], 0, &[]),
            (3, 2, 0, &[], &[Prefetch, Sync, Interactive], &[103, 102], 1, &[]),
            (3, 1, 0, &[], &[Sync, Interactive, Watch], &[102], 2, &[]),
            // The reserve: two background leases of three are the most.
            (3, 1, 0, &[Sync, Prefetch], &[Sync], &[], 0, &[2]),
            (3, 1, 0, &[Sync, Sync], &[Interactive], &[101], 0, &[]),
            (3, 0, 0, &[Sync, Sync], &[Interactive], &[], 1, &[]),
            (3, 1, 0, &[Watch, Watch], &[Watch], &[], 0, &[]),
            // Watching gives way to everybody, oldest first, but not to watching.
            (2, 0, 0, &[Watch, Sync], &[Interactive], &[], 0, &[1]),
            (1, 0, 0, &[Watch], &[Prefetch], &[], 0, &[1]),
            (1, 0, 0, &[Watch], &[Watch], &[], 0, &[]),
            (2, 0, 0, &[Watch, Interactive], &[Sync, Interactive], &[], 0, &[1]),
            (4, 0, 0, &[Watch, Interactive, Watch, Interactive], &[Sync, Interactive], &[], 0, &[1, 3]),
            // Then prefetch, then sync, for people only.
            (1, 0, 0, &[Prefetch], &[Interactive], &[], 0, &[1]),
            (1, 0, 0, &[Prefetch], &[Sync], &[], 0, &[1]),
            (1, 0, 0, &[Sync], &[Prefetch], &[], 0, &[]),
            (1, 0, 0, &[Sync], &[Interactive, Interactive], &[], 0, &[1]),
            (1, 0, 0, &[Interactive], &[Interactive], &[], 0, &[]),
            // A lowered maximum opens nothing more.
            (1, 0, 0, &[Watch, Interactive], &[Interactive], &[], 0, &[1]),
            (2, 0, 1, &[Watch], &[Interactive, Sync], &[], 0, &[1]),
        ];
        for (index, (maximum, parked, coming, leased, waiting, grant, open, wanted)) in table.into_iter().enumerate() {
            let (leased, waiting) = (parties(leased, 1), parties(waiting, 101));
            let got = plan(Holdings { parked, coming, leased: &leased, waiting: &waiting, maximum });
            let want = Plan { grant: grant.to_vec(), open, wanted: wanted.to_vec() };
            assert_eq!(got, want, "row {index}");
        }
    }
}
