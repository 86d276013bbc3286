//! The demonstration as mail programs see it.

use super::client::{Answer, Client};
use super::stage::{self, PASSWORD, PROVIDER_PASSWORD, Ports, Stage, USER};
use super::*;

async fn set() -> Stage {
    Stage::set(stage::provider(Ports::default()).unwrap(), Ports::default(), None, Prefetch::None).await.unwrap()
}

async fn logged_in(stage: &Stage) -> Client {
    let mut client = Client::connect(stage.listener("imap").unwrap()).await.unwrap();
    assert!(client.login(USER, PASSWORD).await.unwrap().ok);
    client
}

fn exists(answers: &[Answer]) -> u32 {
    let number = |answer: &Answer| answer.line.strip_prefix("* ")?.strip_suffix(" EXISTS")?.parse().ok();
    answers.iter().rev().find_map(number).expect("an EXISTS")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_mail_reaches_an_idling_program() {
    let stage = set().await;
    let mut client = logged_in(&stage).await;
    let selected = client.command("SELECT INBOX").await.unwrap();
    let before = exists(&selected.untagged);
    let tag = client.send("IDLE").await.unwrap();
    assert!(client.answer().await.unwrap().line.starts_with('+'));
    stage.provider.deliver(1);
    let pushed = client.answer().await.unwrap();
    assert_eq!(exists(&[pushed]), before + 1);
    client.raw("DONE\r\n").await.unwrap();
    loop {
        let answer = client.answer().await.unwrap();
        if let Some(rest) = answer.line.strip_prefix(&tag) {
            assert!(rest.starts_with(" OK"), "{rest}");
            break;
        }
    }
    let fetched = client.command(&format!("FETCH {} (BODY.PEEK[HEADER.FIELDS (SUBJECT)])", before + 1)).await.unwrap();
    let header = String::from_utf8(fetched.untagged[0].literals[0].clone()).unwrap();
    assert!(header.contains("=?UTF-8?B?"), "{header}");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_program_does_the_provider_has() {
    let stage = set().await;
    let mut client = logged_in(&stage).await;
    assert!(client.command("CREATE Work").await.unwrap().ok);
    let selected = client.command("SELECT INBOX").await.unwrap();
    let last = exists(&selected.untagged);
    assert!(client.command(&format!("STORE {last} +FLAGS (\\Flagged)")).await.unwrap().ok);
    assert!(client.command(&format!("COPY {last} Work")).await.unwrap().ok);
    let mut direct = Client::connect(stage.provider.address()).await.unwrap();
    assert!(direct.login(USER, PROVIDER_PASSWORD).await.unwrap().ok);
    direct.command("EXAMINE INBOX").await.unwrap();
    let labels = direct.command(&format!("FETCH {last} (FLAGS X-GM-LABELS)")).await.unwrap();
    let labels = &labels.untagged[0].line;
    assert!(labels.contains("\\Flagged") && labels.contains(r#"("Work" "\\Starred")"#), "{labels}");
    let moved = client.command(&format!("MOVE {last} \"[Gmail]/Trash\"")).await.unwrap();
    assert!(moved.ok && moved.untagged.iter().any(|answer| answer.line == format!("* {last} EXPUNGE")), "{moved:?}");
    let status = direct.command("STATUS Work (MESSAGES)").await.unwrap();
    assert!(status.untagged.iter().any(|answer| answer.line.ends_with("(MESSAGES 0)")), "{status:?}");
    assert!(client.command("SELECT \"[Gmail]/Trash\"").await.unwrap().ok);
    let found = client.command("UID SEARCH FLAGGED").await.unwrap();
    assert!(found.untagged.iter().any(|answer| answer.line.starts_with("* SEARCH ")), "{found:?}");
    stage.strike().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_screen_says_all_that_is_needed() {
    let stage = set().await;
    let text = screen(&stage, 60);
    for needed in [USER, PASSWORD, "SHA-256", "ca.pem", "every 60 seconds"] {
        assert!(text.contains(needed), "{needed} in {text}");
    }
    for key in ["imap", "imaps", "pop3", "pop3s", "http"] {
        assert!(text.contains(&stage.listener(key).unwrap().port().to_string()), "{key}");
    }
    assert!(!text.contains(PROVIDER_PASSWORD) && stage.ca_file.is_file());
    let dir = stage.ca_file.parent().unwrap().parent().unwrap().to_owned();
    stage.strike().await;
    assert!(!dir.exists(), "nothing is left behind");
}
