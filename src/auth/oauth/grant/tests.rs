use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use super::super::testing::{Memory, TokenServer, settings};
use super::super::{Seal, store};
use super::*;
use crate::secret::SecretRef;

const ANN: &str = "ann@example.org";

struct World {
    server: TokenServer,
    memory: Arc<Memory>,
    grant: Grant,
}

fn tokens(access: &str, seconds_left: u64, refresh: Option<&str>) -> Tokens {
    Tokens {
        access: Secret::new(access.as_bytes()),
        expires: SystemTime::now() + Duration::from_secs(seconds_left),
        lifetime: Duration::from_secs(3600),
        refresh: refresh.map(|refresh| Secret::new(refresh.as_bytes())),
    }
}

async fn seal() -> Seal {
    Seal::open(&SecretRef::Plain(Secret::new("key"))).await.unwrap()
}

impl World {
    async fn new(stored: Option<Tokens>) -> Self {
        let (server, memory) = (TokenServer::start().await, Arc::<Memory>::default());
        if let Some(stored) = stored {
            store(&*memory, &seal().await, ANN, &stored).await.unwrap();
        }
        let keep = Arc::clone(&memory) as Arc<dyn Keep>;
        let grant = Grant::new(ANN, Server::of(&settings(&server.base)), keep, seal().await);
        Self { server, memory, grant }
    }

    async fn token(&self) -> Result<String, Fault> {
        self.token_after(None).await
    }

    async fn token_after(&self, refused: Option<&str>) -> Result<String, Fault> {
        let refused = refused.map(|refused| Secret::new(refused.as_bytes()));
        let token = self.grant.token(refused).await?;
        Ok(String::from_utf8(token.expose().to_vec()).unwrap())
    }

    /// What another process would find.
    async fn stored(&self) -> Tokens {
        let sealed = self.memory.sealed.lock().unwrap().clone().unwrap();
        Tokens::from_bytes(&seal().await.unseal(ANN, &sealed).unwrap()).unwrap().0
    }

    /// Whether that says a renewal was begun.
    async fn renewing(&self) -> bool {
        let sealed = self.memory.sealed.lock().unwrap().clone().unwrap();
        Tokens::from_bytes(&seal().await.unseal(ANN, &sealed).unwrap()).unwrap().1
    }

    fn standing(&self) -> Standing {
        self.grant.standing().borrow().clone()
    }
}

#[tokio::test]
async fn what_is_stored_serves_until_it_is_due() {
    let world = World::new(Some(tokens("a1", 3000, Some("r1")))).await;
    assert_eq!(world.token().await.unwrap(), "a1");
    assert_eq!((world.server.times_asked(), world.standing()), (0, Standing::Good));

    let world = World::new(Some(tokens("a1", 200, Some("r1")))).await;
    world.server.will_give("a2", 3600, Some("r2"));
    assert_eq!(world.token().await.unwrap(), "a2", "five minutes before its end it is replaced");
    assert!(world.server.asked.lock().unwrap()[0].contains("refresh_token=r1"));
    assert_eq!(world.stored().await.refresh.unwrap().expose(), b"r2");
    assert_eq!(world.token().await.unwrap(), "a2");
    assert_eq!(world.server.times_asked(), 1);
}

#[tokio::test]
async fn a_refresh_token_that_does_not_rotate_is_kept() {
    let world = World::new(Some(tokens("a1", 0, Some("r1")))).await;
    world.server.will_give("a2", 3600, None);
    assert_eq!(world.token().await.unwrap(), "a2");
    assert_eq!(world.stored().await.refresh.unwrap().expose(), b"r1");
}

#[tokio::test]
async fn many_who_ask_cost_one_refresh() {
    let world = World::new(Some(tokens("a1", 0, Some("r1")))).await;
    world.server.will_give("a2", 3600, Some("r2"));
    let all = futures_util::future::join_all((0..50).map(|_| world.token())).await;
    assert!(all.iter().all(|token| token.as_deref() == Ok("a2")));
    assert_eq!(world.server.times_asked(), 1);
    // Fifty sessions whose token was refused at once cost one more.
    world.server.will_give("a3", 3600, Some("r3"));
    let all = futures_util::future::join_all((0..50).map(|_| world.token_after(Some("a2")))).await;
    assert!(all.iter().all(|token| token.as_deref() == Ok("a3")), "{all:?}");
    assert_eq!(world.server.times_asked(), 2);
}

#[tokio::test]
async fn one_who_gives_up_loses_nothing() {
    let world = World::new(Some(tokens("a1", 0, Some("r1")))).await;
    world.server.will_give("a2", 3600, Some("r2"));
    {
        let mut asking = std::pin::pin!(world.grant.token(None));
        // Asked for, and dropped before the answer.
        assert!(futures_util::poll!(&mut asking).is_pending());
    }
    assert_eq!(world.token().await.unwrap(), "a2");
    assert_eq!((world.server.times_asked(), world.stored().await.refresh.unwrap().expose()), (1, &b"r2"[..]));
}

#[tokio::test]
async fn a_server_away_costs_no_consent() {
    // Due, but holding a minute yet: it is used to its end.
    let world = World::new(Some(tokens("a1", 60, Some("r1")))).await;
    let troubles = [
        (500, "{\"error\":\"invalid_grant\"}"),
        (429, "{\"error\":\"slow_down\"}"),
        (200, "<html>Welcome to our hotel</html>"),
        (403, "<html>Blocked</html>"),
        (302, ""),
        (400, "{\"error\":\"temporarily_unavailable\"}"),
        (400, "{\"error\":\"server_error\"}"),
    ];
    for (status, body) in troubles {
        world.server.will(status, body);
        assert_eq!(world.token().await.unwrap(), "a1", "{status} {body}");
        assert!(matches!(world.standing(), Standing::Away(_)), "{status} {body}: {:?}", world.standing());
        let asked = world.server.times_asked();
        assert_eq!(world.token().await.unwrap(), "a1");
        assert_eq!(world.server.times_asked(), asked, "the server has a rest");
        world.grant.inner.held.lock().await.away = None;
        // Refused by the mail server meanwhile: then there is none, and still no consent is lost.
        let fault = world.token_after(Some("a1")).await.unwrap_err();
        assert!(matches!(fault, Fault::Away(_)), "{fault}");
        world.grant.inner.held.lock().await.away = None;
    }
    world.server.will_give("a2", 3600, Some("r2"));
    assert_eq!(world.token().await.unwrap(), "a2");
    assert_eq!(world.standing(), Standing::Good);
}

#[tokio::test]
async fn the_rests_grow_to_their_end() {
    let mut held = Held::default();
    let fault = Fault::Away("away".into());
    let waits: Vec<u64> = (0..12)
        .map(|_| {
            held.note(&fault);
            held.away.as_ref().unwrap().0.saturating_duration_since(Instant::now()).as_secs_f64().round() as u64
        })
        .collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
}

#[tokio::test]
async fn a_lost_consent_is_said_and_a_login_by_another_process_mends_it() {
    let world = World::new(Some(tokens("a1", 0, Some("r1-secret")))).await;
    world.server.will(400, "{\"error\":\"invalid_grant\",\"error_description\":\"token r1-secret was revoked\"}");
    let fault = world.token().await.unwrap_err();
    assert!(
        matches!(&fault, Fault::Consent(words) if words.contains("was revoked") && !words.contains("r1-secret")),
        "{fault}"
    );
    assert!(matches!(world.standing(), Standing::NeedsLogin(_)));
    assert_eq!(world.token().await.unwrap_err(), fault);
    assert_eq!(world.server.times_asked(), 1, "a dead token is not asked about again and again");

    store(&*world.memory, &seal().await, "ANN@example.org".to_lowercase().as_str(), &tokens("b1", 3000, Some("s1")))
        .await
        .unwrap();
    assert_eq!(world.token().await.unwrap(), "b1");
    assert_eq!(world.standing(), Standing::Good);

    // An access token that could last, but was refused with the consent, is not taken for good again.
    let world = World::new(Some(tokens("a1", 3000, Some("r1")))).await;
    assert_eq!(world.token().await.unwrap(), "a1");
    world.server.will(400, "{\"error\":\"invalid_grant\"}");
    assert!(world.token_after(Some("a1")).await.is_err());
    assert!(world.token().await.is_err());
    assert!(matches!(world.standing(), Standing::NeedsLogin(_)));
    assert_eq!(world.server.times_asked(), 1);

    // The word is put to the test again after an hour.
    let world = World::new(Some(tokens("a1", 0, Some("r1")))).await;
    world.server.will(400, "{\"error\":\"invalid_grant\"}");
    assert!(world.token().await.is_err());
    world.grant.inner.held.lock().await.dead.as_mut().unwrap().2 = UNIX_EPOCH;
    world.server.will_give("a2", 3600, None);
    assert_eq!(world.token().await.unwrap(), "a2");
}

#[tokio::test]
async fn nobody_is_given_what_is_not_on_the_disk() {
    let world = World::new(Some(tokens("a1", 0, Some("r1")))).await;
    world.memory.full.store(true, Ordering::Relaxed);
    world.server.will_give("a2", 3600, Some("r2"));
    let fault = world.token().await.unwrap_err();
    assert!(matches!(&fault, Fault::Away(words) if words.contains("the disk is full")), "{fault}");
    // A token that rotates is not used up for an answer that could not be kept.
    assert_eq!(world.server.times_asked(), 0);
    // Full from the answer on.
    world.memory.full.store(false, Ordering::Relaxed);
    world.memory.room.store(1, Ordering::Relaxed);
    let fault = world.token().await.unwrap_err();
    assert!(matches!(&fault, Fault::Away(words) if words.contains("the disk is full")), "{fault}");
    assert!(world.renewing().await && world.token().await.is_err());
    world.memory.full.store(false, Ordering::Relaxed);
    assert_eq!(world.token().await.unwrap(), "a2");
    assert_eq!((world.server.times_asked(), world.stored().await.refresh.unwrap().expose()), (1, &b"r2"[..]));
}

/// Killed between the server's answer and our commit: the next process finds the old token, marked.
#[tokio::test]
async fn a_renewal_that_was_broken_off_is_told_of_when_it_cost_the_consent() {
    for bears_it in [true, false] {
        let world = World::new(Some(tokens("a1", 0, Some("r1")))).await;
        world.memory.room.store(1, Ordering::Relaxed);
        world.server.will_give("a2", 3600, Some("r2"));
        assert!(world.token().await.is_err(), "the answer is not kept");
        world.memory.full.store(false, Ordering::Relaxed);
        let keep = Arc::clone(&world.memory) as Arc<dyn Keep>;
        let next = Grant::new(ANN, Server::of(&settings(&world.server.base)), keep, seal().await);
        if bears_it {
            world.server.will_give("a3", 3600, Some("r3"));
            assert_eq!(next.token(None).await.unwrap().expose(), b"a3");
            assert!(!world.renewing().await && world.stored().await.refresh.unwrap().expose() == b"r3");
        } else {
            world.server.will(400, "{\"error\":\"invalid_grant\"}");
            let fault = next.token(None).await.unwrap_err();
            assert!(matches!(&fault, Fault::Consent(words) if words.contains("broken off")), "{fault}");
        }
        assert!(world.server.asked.lock().unwrap()[1].contains("refresh_token=r1"));
    }
}

#[tokio::test]
async fn nobody_has_logged_in_yet_or_the_key_is_another() {
    let world = World::new(None).await;
    assert!(matches!(world.token().await, Err(Fault::Consent(words)) if words.contains("nobody has logged in")));
    let world = World::new(Some(tokens("a1", 3000, None))).await;
    *world.memory.sealed.lock().unwrap() = Some(vec![1; 80]);
    assert!(matches!(world.token().await, Err(Fault::Consent(words)) if words.contains("token_key")));
    assert_eq!(world.server.times_asked(), 0);
    let world = World::new(Some(tokens("a1", 0, None))).await;
    assert!(matches!(world.token().await, Err(Fault::Consent(words)) if words.contains("no refresh token")));
}

#[tokio::test]
async fn an_application_that_acts_by_itself_stores_nothing() {
    let (server, memory) = (TokenServer::start().await, Arc::<Memory>::default());
    let mut settings = settings(&server.base);
    settings.grant = crate::config::OAuthGrant::Client;
    settings.client_secret = Some(SecretRef::Plain(Secret::new("proof")));
    let grant = Grant::new(ANN, Server::of(&settings), Arc::clone(&memory) as Arc<dyn Keep>, seal().await);
    server.will(401, "{\"error\":\"invalid_client\"}");
    assert!(matches!(grant.token(None).await, Err(Fault::Client(_))));
    server.will_give("a1", 3600, None);
    for _ in 0..3 {
        assert!(matches!(grant.token(None).await, Err(Fault::Client(_))));
    }
    assert_eq!(server.times_asked(), 1, "a wrong secret is not shown again and again");
    grant.kick();
    assert_eq!(grant.token(None).await.unwrap().expose(), b"a1");
    let asked = server.asked.lock().unwrap().last().unwrap().clone();
    assert!(asked.contains("grant_type=client_credentials") && asked.contains("client_secret=proof"), "{asked}");
    assert!(memory.sealed.lock().unwrap().is_none());
}

#[tokio::test]
async fn short_lived_tokens_are_renewed_in_time_by_themselves() {
    let world = World::new(Some(tokens("a1", 0, Some("r1")))).await;
    world.server.will_give("a2", 7, Some("r2"));
    world.server.will_give("a3", 3600, Some("r3"));
    let kept = world.grant.clone();
    let keeper = tokio::spawn(async move { kept.keep_fresh().await });
    let deadline = Instant::now() + Duration::from_secs(20);
    while world.server.times_asked() < 2 {
        assert!(Instant::now() < deadline, "the token was not renewed ahead of its end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.token().await.unwrap(), "a3");
    keeper.abort();
}

#[tokio::test]
async fn a_server_that_tells_of_no_life_is_not_asked_all_the_time() {
    for seconds in [1, 5] {
        let world = World::new(Some(tokens("a1", 0, Some("r1")))).await;
        world.server.will_give("a2", seconds, Some("r2"));
        world.server.will_give("a3", seconds, Some("r3"));
        for _ in 0..5 {
            assert_eq!(world.token().await.unwrap(), "a2");
        }
        assert_eq!((world.server.times_asked(), world.standing()), (1, Standing::Good));
        assert_eq!(world.token_after(Some("a2")).await.unwrap(), "a3", "a login that was refused is not kept waiting");
        world.server.will_give("a4", seconds, Some("r4"));
        world.grant.inner.held.lock().await.renewed = Some(SystemTime::now() - SPACING);
        assert_eq!(world.token().await.unwrap(), "a4");
        assert_eq!(world.server.times_asked(), 3);
    }
    let world = World::new(Some(tokens("a1", 0, Some("r1")))).await;
    world.server.will_give("a2", 0, Some("r2"));
    assert_eq!(world.token().await.unwrap(), "a2");
    assert!(world.stored().await.lifetime > Duration::from_secs(60), "not told");
}

#[test]
fn tokens_of_seconds_are_not_kept_from_being_renewed() {
    let table = [(1, 30), (5, 30), (6, 5), (7, 5), (12, 6), (40, 20), (60, 30), (3600, 30)];
    for (life, want) in table {
        let tokens = Tokens { lifetime: Duration::from_secs(life), ..tokens("a", life, None) };
        assert_eq!(spacing(&tokens), Duration::from_secs(want), "{life}");
        assert!(life <= 5 || want < life, "{life}");
    }
}

#[tokio::test]
async fn a_secret_of_ours_that_is_not_to_be_had_ends_no_consent() {
    let (server, memory) = (TokenServer::start().await, Arc::<Memory>::default());
    store(&*memory, &seal().await, ANN, &tokens("a1", 0, Some("r1"))).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secret");
    let mut settings = settings(&server.base);
    settings.client_secret = Some(SecretRef::File(path.clone()));
    let grant = Grant::new(ANN, Server::of(&settings), Arc::clone(&memory) as Arc<dyn Keep>, seal().await);
    for _ in 0..2 {
        assert!(matches!(grant.token(None).await, Err(Fault::Client(words)) if words.contains("secret")));
    }
    let held = grant.inner.held.lock().await;
    assert!(held.dead.is_none() && held.away.as_ref().unwrap().0 <= Instant::now() + SPACING);
    drop(held);
    assert_eq!(server.times_asked(), 0);
    std::fs::write(&path, "proof\n").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    server.will_give("a2", 3600, Some("r2"));
    grant.kick();
    assert_eq!(grant.token(None).await.unwrap().expose(), b"a2");
}
