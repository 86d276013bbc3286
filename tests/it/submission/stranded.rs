//! The configuration loses the way out of what waits: it is told of, can be dropped, and goes on when the way is back.

use super::Post;
use super::outbox::send;
use crate::harness::relay::Fault;
use crate::harness::wait_for;

const CONFIGURED: &str = "the configuration was read again";

impl Post {
    fn stranded(&self, reason: &str) -> f64 {
        self.daemon.metric("mailweir_outbox_stranded", &[&format!("reason=\"{reason}\"")])
    }

    /// All that waits is told with this reason.
    fn told(&self, words: &str) -> usize {
        let all = self.waiting();
        let all = all.as_array().unwrap();
        assert!(all.iter().all(|one| one["stranded"].as_str().is_some_and(|why| why.contains(words))), "{all:?}");
        assert!(self.daemon.http_get("/").1.contains(words));
        assert!(self.daemon.server().errors().contains(words), "it is in the log");
        all.len()
    }
}

#[test]
fn what_waits_outlives_its_configuration() {
    let mut post = Post::keeping("");
    post.relay.set(Fault::Refuse);
    post.relay.cut();
    for subject in ["one", "two"] {
        send(&post, &["bob@example.net"], subject);
    }
    post.relay.set(Fault::None);
    let mut account = None;
    post.daemon.change(|setup| {
        account = setup.accounts.first().cloned();
        setup.accounts[0].smtp = String::new();
    });
    post.daemon.reload(CONFIGURED);
    wait_for("the metric", || post.stranded("no_server") == 2.0);
    assert_eq!(post.told("no server for sending any more"), 2);
    let status = post.daemon.http_get("/status.json").1;
    assert!(status.contains("2 messages wait") || status.contains("\"messages\": 2"), "{status}");
    assert!(post.outbox(&["retry"]).contains("is not tried"), "a try that nobody makes is not promised");

    post.daemon.change(|setup| setup.accounts.clear());
    post.daemon.reload(CONFIGURED);
    wait_for("the metric", || post.stranded("no_account") == 2.0);
    assert_eq!(post.told("not in the configuration any more"), 2);
    // Also when it begins so.
    post.daemon.stop();
    post.daemon.restart();
    wait_for("the metric", || post.stranded("no_account") == 2.0);
    let status = post.daemon.http_get("/status.json").1;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["strays"][0]["messages"], 2, "{status}");
    let id = post.waiting()[0]["id"].to_string();
    assert!(post.outbox(&["drop", &id]).contains("is dropped"));
    wait_for("the drop to be seen", || post.stranded("no_account") == 1.0);
    assert_eq!(post.exim.taken(), 0);

    // Back, and nothing more is kept: what was accepted is sent all the same.
    post.daemon.change(|setup| {
        setup.accounts.extend(account);
        setup.accounts[0].smtp = setup.accounts[0].smtp.replace("queue = true", "queue = false");
    });
    post.daemon.reload(CONFIGURED);
    post.drain();
    wait_for("Exim to deliver", || post.arrived("two") == 1);
    assert_eq!(post.arrived("one"), 0);
    assert_eq!(post.daemon.metric("mailweir_outbox_stranded", &[]), 0.0);
}
