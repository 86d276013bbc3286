//! The gate by itself, against tables.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn backoff_doubles_between_its_ends() {
    let table = [
        (0, 0.5, 1.0),
        (1, 0.0, 1.0),
        (1, 1.0, 1.25),
        (2, 0.5, 2.0),
        (3, 0.0, 3.0),
        (3, 1.0, 5.0),
        (8, 0.5, 128.0),
        (9, 0.5, 256.0),
        (10, 0.5, 300.0),
        (10, 0.0, 225.0),
        (10, 1.0, 300.0),
        (u32::MAX, 0.5, 300.0),
    ];
    for (failures, jitter, seconds) in table {
        assert_eq!(backoff(failures, jitter), Duration::from_secs_f64(seconds), "{failures} {jitter}");
    }
}

const FOR_EVER: u64 = u64::MAX;

/// How long connecting waits, in seconds, and whether as a refused login.
fn waits(gate: &mut GateState, now: Instant) -> Option<(u64, bool)> {
    match gate.may_connect(now) {
        Ok(()) => None,
        Err(Error::Login(words)) if gate.stopped().is_some() => {
            assert!(words.ends_with(STOPPED), "{words}");
            Some((FOR_EVER, true))
        }
        Err(Error::Login(_)) => {
            let until = gate.connecting.as_ref().unwrap().until;
            Some(((until - now).as_secs(), true))
        }
        Err(Error::Unavailable { retry_after, .. }) => Some((retry_after.as_secs(), false)),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_meaning_has_its_wait() {
    use Meaning::*;
    let now = Instant::now();
    type Case<'a> = (&'a [Meaning], Option<(u64, bool)>);
    let table: [Case<'_>; 16] = [
        (&[Ordinary], Some((1, false))),
        (&[Ordinary, Ordinary, Ordinary], Some((4, false))),
        (&[TooMany], Some((30, false))),
        (&[TooMany; 8], Some((128, false))),
        (&[Throttled(Some(Duration::from_millis(299_961)))], Some((299, false))),
        (&[Throttled(Some(Duration::ZERO))], Some((1, false))),
        (&[Throttled(None)], Some((30, false))),
        (&[Bandwidth(None)], Some((3600, false))),
        (&[Bandwidth(None); 9], Some((8 * 3600, false))),
        (&[Bandwidth(Some(Duration::from_secs(7000)))], Some((7000, false))),
        (&[Credentials], Some((1800, true))),
        (&[Credentials; 2], Some((3600, true))),
        (&[Credentials; 3], Some((FOR_EVER, true))),
        (&[WebLogin], Some((FOR_EVER, true))),
        (&[AppPassword], Some((FOR_EVER, true))),
        (&[Forbidden], Some((FOR_EVER, true))),
    ];
    for (meanings, want) in table {
        let mut gate = GateState::default();
        for meaning in meanings {
            gate.connect_failed(*meaning, "why", 0, now, 0.5);
        }
        assert_eq!(waits(&mut gate, now), want, "{meanings:?}");
        let (seconds, _) = want.unwrap();
        if seconds == FOR_EVER {
            let month = now + Duration::from_secs(30 * 86_400);
            assert_eq!(waits(&mut gate, month), want, "{meanings:?}: no hard stop is tried again");
            gate.kick(month);
            assert_eq!(waits(&mut gate, month), None, "{meanings:?}: until the user acts");
            gate.connect_failed(*meanings.last().unwrap(), "why", 0, month, 0.5);
            assert_eq!(waits(&mut gate, month), want, "{meanings:?}: and it is no better");
        } else {
            assert_eq!(waits(&mut gate, now + Duration::from_secs(seconds + 1)), None, "{meanings:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_with_ours_open_lowers_the_maximum_for_a_while() {
    let now = Instant::now();
    let mut gate = GateState::default();
    gate.connect_failed(Meaning::TooMany, "too many", 2, now, 0.5);
    assert_eq!(waits(&mut gate, now), None);
    assert_eq!((gate.maximum(3, now), gate.lowered()), (2, Some(2)));
    assert_eq!(gate.maximum(1, now), 1);
    assert_eq!((gate.maximum(3, now + LOWERED_FOR), gate.lowered()), (3, None));
    // From far below it grows one by one, however seldom somebody looks.
    gate.lower(1, now);
    let grown = [0, 1, 2, 3, 4].map(|times| gate.clone().maximum(5, now + LOWERED_FOR * times));
    assert_eq!(grown, [1, 2, 3, 4, 5]);
    assert_eq!(gate.maximum(5, now + LOWERED_FOR * 2), 3);
    assert_eq!(gate.lowered(), Some(3));
}

#[tokio::test(start_paused = true)]
async fn drop_by_drop_only_those_who_wait_are_served() {
    let now = Instant::now();
    let mut gate = GateState::default();
    assert!(gate.trickles(now - SECOND, now));
    assert_eq!(waits(&mut gate, now), None);
    assert!(
        matches!(gate.may_work_behind(now), Err(Error::Unavailable { retry_after, .. }) if retry_after == TRICKLE_REST)
    );
    assert_eq!(gate.may_work_behind(now + TRICKLE_REST), Ok(()));
    // Each session there was is given up; one opened since is not, as long as that lasts.
    let mut gate = GateState::default();
    assert!(gate.trickles(now - SECOND, now));
    assert!(gate.trickles(now - 2 * SECOND, now + 20 * SECOND));
    assert!(!gate.trickles(now + SECOND, now + 40 * SECOND));
    assert!(!gate.trickles(now + SECOND, now + TRICKLE_REST));
    assert!(gate.may_work_behind(now + TRICKLE_REST).is_err());
    let later = now + TRICKLE_REST * 3;
    assert!(gate.trickles(now + SECOND, later), "another time");
    gate.kick(later);
    assert_eq!(gate.may_work_behind(later), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn only_young_losses_are_failures() {
    let now = Instant::now();
    let mut gate = GateState::default();
    gate.lost(SECOND, "EOF", now, 0.5);
    assert_eq!(waits(&mut gate, now), None, "the first is chance");
    gate.connected();
    gate.lost(SECOND, "EOF", now, 0.5);
    assert_eq!(waits(&mut gate, now), Some((1, false)));
    gate.connected();
    gate.lost(SECOND, "EOF", now, 0.5);
    assert_eq!(waits(&mut gate, now), Some((2, false)));
    gate.connected();
    gate.lost(YOUNG, "EOF", now, 0.5);
    assert_eq!(waits(&mut gate, now), None);
    assert_eq!(gate.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_kick_ends_our_waits_always_and_the_providers_once_a_minute() {
    let now = Instant::now();
    let mut gate = GateState::default();
    for _ in 0..3 {
        gate.connect_failed(Meaning::Ordinary, "network", 0, now, 0.5);
        gate.kick(now);
        assert_eq!(waits(&mut gate, now), None);
    }
    for _ in 0..3 {
        gate.connect_failed(Meaning::Consent, "login", 0, now, 0.5);
        assert!(waits(&mut gate, now).is_some_and(|(_, refused)| refused));
        gate.kick(now);
        assert_eq!(waits(&mut gate, now), None, "a login mends it as often as it is needed");
    }
    gate.connect_failed(Meaning::Credentials, "password", 0, now, 0.5);
    gate.kick(now);
    assert_eq!(waits(&mut gate, now), None);
    gate.connect_failed(Meaning::Credentials, "password", 0, now, 0.5);
    gate.kick(now + SECOND);
    assert!(waits(&mut gate, now + SECOND).is_some());
    gate.kick(now + KICK_SPACING);
    assert_eq!(waits(&mut gate, now + KICK_SPACING), None);
}

#[tokio::test(start_paused = true)]
async fn a_stop_kicked_too_soon_ends_with_the_minute() {
    let now = Instant::now();
    let mut gate = GateState::default();
    gate.connect_failed(Meaning::WebLogin, "why", 0, now, 0.5);
    gate.kick(now);
    gate.connect_failed(Meaning::WebLogin, "why", 0, now + SECOND, 0.5);
    assert_eq!(waits(&mut gate, now + SECOND), Some((FOR_EVER, true)));
    for second in [2, 30, 59] {
        let then = now + SECOND * second;
        gate.kick(then);
        assert_eq!(gate.may_connect(then), Err(Error::Login("why".into())), "not promised to stay");
        assert_eq!(waits(&mut gate, then), Some((60 - u64::from(second), true)));
    }
    assert_eq!(waits(&mut gate, now + KICK_SPACING), None);
    gate.connect_failed(Meaning::WebLogin, "why", 0, now + KICK_SPACING, 0.5);
    assert_eq!(waits(&mut gate, now + KICK_SPACING), Some((FOR_EVER, true)), "it is a stop again");
}
