//! Who gets the next session: the pool's book-keeping without any I/O.
//!
//! Pure (no clock, no lock): [`plan`] takes what is open, leased and waited for, and says what to do. The rules:
//!
//! - the queue is ordered by [`Class`], then by arrival;
//! - background work (Sync and Prefetch), watching, and mail programs that download everything (Bulk) each leave one session of several
//!   to the others, so that a person who clicks never waits behind a batch;
//! - who waits and cannot be served makes a lease of lower standing *wanted*: watching gives way to everybody who works, prefetch to
//!   sync and to people, sync to people, and Bulk to a person who opens something. Each waiter wants one lease, and a connection being opened counts as one coming;
//! - a person does not wait for a connection while somebody only watches: the watcher gives way now, and gets the connection when
//!   it is there (opening one takes several round trips, and logins are spaced out).

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
    let count = |classes: &[Class]| holdings.leased.iter().filter(|party| classes.contains(&party.class)).count();
    let (mut background, mut watching) = (count(&[Class::Sync, Class::Prefetch]), count(&[Class::Watch]));
    let mut bulk = count(&[Class::Bulk]);
    let open = holdings.parked + holdings.coming + holdings.leased.len();
    let (mut parked, mut coming) = (holdings.parked, holdings.coming);
    let mut room = holdings.maximum.saturating_sub(open);
    let mut givers: Vec<Party> = holdings.leased.to_vec();

    let mut waiting = holdings.waiting.to_vec();
    waiting.sort_by_key(|party| (party.class, party.id));
    for waiter in waiting {
        let used = match waiter.class {
            Class::Interactive => None,
            Class::Bulk => Some(&mut bulk),
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
            let will_come = if coming > 0 {
                coming -= 1;
                true
            } else if room > 0 {
                room -= 1;
                plan.open += 1;
                true
            } else {
                false
            };
            if will_come {
                if matches!(waiter.class, Class::Interactive | Class::Bulk)
                    && let Some(at) = givers.iter().position(|lease| lease.class == Class::Watch)
                {
                    plan.wanted.push(givers.remove(at).id);
                }
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
        (Class::Interactive, _) => &[Class::Watch, Class::Prefetch, Class::Sync, Class::Bulk],
        (Class::Bulk, true) => &[Class::Watch, Class::Prefetch, Class::Sync],
        (Class::Bulk, false) => &[],
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
        let table: [Case; 29] = [
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
            // A person does not wait for a connection to be opened while somebody watches; a batch does.
            (3, 0, 0, &[Watch], &[Interactive], &[], 1, &[1]),
            (3, 0, 1, &[Watch, Sync], &[Interactive], &[], 0, &[1]),
            (3, 0, 1, &[Watch, Watch], &[Sync], &[], 0, &[]),
            // Then prefetch, then sync, for people only.
            (1, 0, 0, &[Prefetch], &[Interactive], &[], 0, &[1]),
            (1, 0, 0, &[Prefetch], &[Sync], &[], 0, &[1]),
            (1, 0, 0, &[Sync], &[Prefetch], &[], 0, &[]),
            (1, 0, 0, &[Sync], &[Interactive, Interactive], &[], 0, &[1]),
            (1, 0, 0, &[Interactive], &[Interactive], &[], 0, &[]),
            // One who downloads everything leaves a session to others, and gives way to who opens a message.
            (3, 1, 0, &[Bulk, Bulk], &[Bulk], &[], 0, &[]),
            (3, 1, 0, &[Bulk, Bulk], &[Bulk, Interactive], &[102], 0, &[]),
            (1, 0, 0, &[Bulk], &[Interactive], &[], 0, &[1]),
            (1, 0, 0, &[Bulk], &[Sync], &[], 0, &[]),
            (2, 1, 0, &[Sync], &[Sync, Bulk], &[102], 0, &[]),
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

    #[test]
    fn no_plan_exceeds_what_there_is() {
        for seed in 1..=3000u64 {
            let mut state = seed;
            let mut random = move |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let all = [Interactive, Bulk, Sync, Watch, Prefetch];
            let mut some = |from: u64, most: u64| -> Vec<Party> {
                let count = random(most + 1);
                (0..count).map(|id| Party { id: from + id, class: all[random(5) as usize] }).collect()
            };
            let (leased, waiting) = (some(1, 4), some(101, 6));
            let (parked, coming, maximum) = (random(3) as usize, random(3) as usize, 1 + random(5) as usize);
            let got = plan(Holdings { parked, coming, leased: &leased, waiting: &waiting, maximum });
            let open = parked + coming + leased.len();
            assert!(got.grant.len() <= parked, "seed {seed}");
            assert!(got.open == 0 || open + got.open <= maximum, "seed {seed}");
            let class =
                |parties: &[Party], id: &u64| parties.iter().find(|party| party.id == *id).map(|party| party.class);
            // In order, from among those who wait; nobody is passed over by one of his own class.
            let granted: Vec<Class> = got.grant.iter().map(|id| class(&waiting, id).unwrap()).collect();
            assert!(granted.is_sorted(), "seed {seed}");
            for id in &got.grant {
                let same = waiting.iter().filter(|other| Some(other.class) == class(&waiting, id) && other.id < *id);
                assert!(same.map(|other| other.id).all(|earlier| got.grant.contains(&earlier)), "seed {seed}");
            }
            // Nobody is wanted twice, people never, and no more than wait.
            let mut wanted = got.wanted.clone();
            wanted.sort_unstable();
            wanted.dedup();
            assert_eq!(wanted.len(), got.wanted.len(), "seed {seed}");
            assert!(wanted.iter().all(|id| class(&leased, id).unwrap() != Interactive), "seed {seed}");
            assert!(got.grant.len() + wanted.len() <= waiting.len(), "seed {seed}");
            // A person who waits is served, will be, or somebody is asked to give way, if there is anybody.
            let people = waiting.iter().filter(|party| party.class == Interactive).count();
            let helped =
                granted.iter().filter(|class| **class == Interactive).count() + coming + got.open + wanted.len();
            let givers = leased.iter().filter(|party| party.class != Interactive).count();
            assert!(helped >= people.min(parked + coming + givers), "seed {seed}");
        }
    }
}
