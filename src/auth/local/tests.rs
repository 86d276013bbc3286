use std::path::Path;

use super::*;
use crate::config::Config;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// Cheap parameters: the tests are about what is computed, not how long it takes.
fn hash_of(password: &str) -> String {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
    argon2
        .hash_password(password.as_bytes(), &SaltString::encode_b64(b"salt of the test").unwrap())
        .unwrap()
        .to_string()
}

fn accounts(list: &[(&str, &str)]) -> Vec<Account> {
    let mut text = String::from("[listen]\nimap = [\"localhost:0\"]\n");
    for (address, password) in list {
        text += &format!(
            "[[account]]\naddress = \"{address}\"\npassword = {password}\n[account.imap]\nhost = \"h\"\npassword = {{ plain = \"u\" }}\n"
        );
    }
    Config::parse(Path::new("/etc/mailweir.toml"), &text).unwrap_or_else(|f| panic!("{f:?}")).accounts
}

async fn logins() -> LocalLogins {
    let hashed = format!("{{ argon2id = \"{}\" }}", hash_of("bob's"));
    LocalLogins::new(&accounts(&[("Ann@example.org", "{ plain = \"ann's\" }"), ("bob@example.org", &hashed)]))
        .await
        .unwrap()
}

async fn try_login(logins: &LocalLogins, user: &str, password: &str) -> Result<String, LoginError> {
    logins.verify(PEER, user.as_bytes(), &Secret::new(password)).await.map(|login| login.address)
}

#[tokio::test(start_paused = true)]
async fn user_names_are_taken_apart() {
    let list = ["Ann@example.org", "ann+lists@example.org", "cy@example.net"].map(|a| (a, "{ plain = \"pw\" }"));
    let mut accounts = accounts(&list);
    accounts[2].pop3.device_separator = "/#".into();
    let logins = LocalLogins::new(&accounts).await.unwrap();
    let login = |address: &str, device: Option<&str>, recent| {
        Ok(Login { address: address.to_owned(), device: device.map(str::to_owned), recent })
    };
    let table: [(&[u8], _); 14] = [
        (b"ann@example.org", login("Ann@example.org", None, false)),
        (b"ann@example.org+Laptop", login("Ann@example.org", Some("laptop"), false)),
        (b"ann+lists@example.org", login("ann+lists@example.org", None, false)),
        (b"ann+lists@example.org+a", login("ann+lists@example.org", Some("a"), false)),
        (b"Recent:ann@example.org+pc+1", login("Ann@example.org", Some("pc+1"), true)),
        (b"recent:ann@example.org", login("Ann@example.org", None, true)),
        (b"ann@example.org+", login("Ann@example.org", None, false)),
        (b"ann@example.org+a@b", login("Ann@example.org", Some("a@b"), false)),
        (b"cy@example.net/#a+b", login("cy@example.net", Some("a+b"), false)),
        (b"cy@example.net+a", Err(LoginError::Wrong)),
        (b"cy@example.net/a", Err(LoginError::Wrong)),
        (b"ann", Err(LoginError::Wrong)),
        (b"\xff@example.org", Err(LoginError::Wrong)),
        (&[b'@'; MAX_USER + 1], Err(LoginError::Wrong)),
    ];
    for (user, want) in table {
        let found = logins.verify(PEER, user, &Secret::new("pw")).await;
        assert_eq!(found, want, "{}", String::from_utf8_lossy(user));
    }
}

#[tokio::test(start_paused = true)]
async fn passwords_are_checked_whatever_form_they_are_kept_in() {
    let logins = logins().await;
    let table = [
        ("ann@EXAMPLE.org", "ann's", Ok("Ann@example.org")),
        ("ann@example.org+laptop", "ann's", Ok("Ann@example.org")),
        ("bob@example.org", "bob's", Ok("bob@example.org")),
        ("bob@example.org", "bob's", Ok("bob@example.org")),
        ("bob@example.org", "ann's", Err(LoginError::Wrong)),
        ("ann@example.org", "bob's", Err(LoginError::Wrong)),
        ("ann@example.org", "", Err(LoginError::Wrong)),
        ("ann@example.org", "ann's\n", Err(LoginError::Wrong)),
        ("eve@example.org", "ann's", Err(LoginError::Wrong)),
        ("", "", Err(LoginError::Wrong)),
    ];
    for (user, password, want) in table {
        assert_eq!(try_login(&logins, user, password).await, want.map(str::to_owned), "{user} {password}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_right_password_is_remembered_until_a_reload() {
    let logins = logins().await;
    let remembered =
        |logins: &LocalLogins, user| logins.users.read().unwrap().find(user).unwrap().right.get().is_some();
    assert!(remembered(&logins, "ann@example.org"), "one known in the clear is remembered from the start");
    assert!(!remembered(&logins, "bob@example.org"));
    assert_eq!(try_login(&logins, "bob@example.org", "wrong").await, Err(LoginError::Wrong));
    assert!(!remembered(&logins, "bob@example.org"));
    try_login(&logins, "bob@example.org", "bob's").await.unwrap();
    assert!(remembered(&logins, "bob@example.org"));
    // With every worker taken only the memory can answer.
    let all = logins.workers.acquire_many(WORKERS as u32).await.unwrap();
    try_login(&logins, "bob@example.org", "bob's").await.unwrap();
    assert_eq!(try_login(&logins, "bob@example.org", "wrong").await, Err(LoginError::Slowed));
    drop(all);
    let changed = accounts(&[("bob@example.org", &format!("{{ argon2id = \"{}\" }}", hash_of("new")))]);
    logins.reload(&changed).await.unwrap();
    assert_eq!(try_login(&logins, "bob@example.org", "bob's").await, Err(LoginError::Wrong));
    assert_eq!(try_login(&logins, "ann@example.org", "ann's").await, Err(LoginError::Wrong));
    try_login(&logins, "bob@example.org", "new").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failures_are_answered_later_and_later_and_the_right_password_at_once() {
    let logins = logins().await;
    let mut waits = Vec::new();
    for user in ["ann@example.org", "bob@example.org", "nobody@example.org", "ann@example.org"] {
        let start = Instant::now();
        assert_eq!(try_login(&logins, user, "wrong").await, Err(LoginError::Wrong));
        waits.push(start.elapsed().as_millis());
    }
    assert!(waits.iter().zip([250, 500, 1000, 2000]).all(|(w, want)| w.abs_diff(want) <= 2), "{waits:?}");
    let start = Instant::now();
    try_login(&logins, "bob@example.org", "bob's").await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_connections_do_not_give_a_hundred_guesses() {
    let logins = Arc::new(logins().await);
    assert_eq!(try_login(&logins, "ann@example.org", "wrong").await, Err(LoginError::Wrong));
    let start = Instant::now();
    let guesses: Vec<_> = (0..100)
        .map(|i| {
            let logins = Arc::clone(&logins);
            tokio::spawn(async move { try_login(&logins, "ann@example.org", &format!("guess {i}")).await })
        })
        .collect();
    tokio::task::yield_now().await;
    // Somebody elsewhere is not touched.
    let elsewhere = IpAddr::from([198, 51, 100, 1]);
    logins.verify(elsewhere, b"ann@example.org", &Secret::new("ann's")).await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(10));
    let mut refused = 0;
    for guess in guesses {
        refused += usize::from(guess.await.unwrap() == Err(LoginError::Slowed));
    }
    assert!((45..=55).contains(&refused), "{refused} of 100 were not looked at");
    assert!(start.elapsed() >= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn hanging_up_before_the_answer_counts_as_a_failure() {
    let logins = logins().await;
    let all = logins.workers.acquire_many(WORKERS as u32).await.unwrap();
    let cut = tokio::time::timeout(Duration::from_millis(1), try_login(&logins, "bob@example.org", "guess")).await;
    assert!(cut.is_err());
    drop(all);
    assert_eq!(logins.delays().answer_delay(PEER, Instant::now()), Duration::from_millis(250));
}

#[tokio::test(start_paused = true)]
async fn unknown_users_take_the_same_computation() {
    let logins = logins().await;
    let users = Arc::clone(&logins.users.read().unwrap());
    let decoy = PasswordHash::new(&users.decoy).unwrap();
    let params = Params::try_from(&decoy).unwrap();
    assert_eq!((params.m_cost(), params.t_cost()), (Params::DEFAULT_M_COST, Params::DEFAULT_T_COST));
    // All workers taken: a wrong password, an unknown user and a name that is none wait for one alike.
    let _all = logins.workers.acquire_many(WORKERS as u32).await.unwrap();
    for user in ["bob@example.org", "ann@example.org", "nobody@example.org", "none"] {
        assert_eq!(try_login(&logins, user, "wrong").await, Err(LoginError::Slowed), "{user}");
    }
}

#[tokio::test]
async fn every_password_that_cannot_be_had_is_told() {
    let list = accounts(&[
        ("a@example.org", "{ file = \"/nonexistent/a.pw\" }"),
        ("b@example.org", "{ plain = \"fine\" }"),
        ("c@example.org", "{ env = \"MAILWEIR_TEST_UNSET\" }"),
    ]);
    let errors = LocalLogins::new(&list).await.unwrap_err();
    assert_eq!(errors.iter().map(|e| e.address.as_str()).collect::<Vec<_>>(), ["a@example.org", "c@example.org"]);
    assert!(errors[0].to_string().contains("/nonexistent/a.pw"));
    let logins = logins().await;
    assert!(logins.reload(&list).await.is_err());
    assert_eq!(try_login(&logins, "ann@example.org", "ann's").await.as_deref(), Ok("Ann@example.org"));
}
