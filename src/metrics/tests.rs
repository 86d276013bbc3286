use super::*;

#[test]
fn the_names_are_those_of_the_contract() {
    let metrics = Metrics::new(AccountLabels::Address);
    let account = metrics.account("ann@example.org");
    let (_session, _connection) = (metrics.session(Protocol::Imap), account.connection());
    account.login(Login::Ok);
    account.refused("web_login");
    account.received(7);
    account.sent(8);
    account.set_download(1, Some(2));
    account.set_upload(3, None);
    account.set_sync_lag(Duration::from_millis(1500));
    account.set_needs_login(true);
    metrics.body_read(BodyRead::Joined);
    metrics.set_cache_bytes(99, 100);
    metrics.command(Protocol::Imap, "fetch", "ok", Duration::from_millis(3));
    metrics.command(Protocol::Imap, "fetch", "ok", Duration::from_millis(300));
    metrics.pop3_deleted("ann@example.org", "hide", 12);
    let text = metrics.encode();
    let lines = [
        "mailweir_client_sessions{protocol=\"imap\"} 1",
        "mailweir_client_sessions{protocol=\"pop3\"} 0",
        "mailweir_upstream_connections{account=\"ann@example.org\"} 1",
        "mailweir_upstream_logins_total{account=\"ann@example.org\",outcome=\"ok\"} 1",
        "mailweir_upstream_logins_total{account=\"ann@example.org\",outcome=\"refused\"} 0",
        "mailweir_upstream_refusals_total{account=\"ann@example.org\",meaning=\"web_login\"} 1",
        "mailweir_upstream_received_bytes_total{account=\"ann@example.org\"} 7",
        "mailweir_upstream_sent_bytes_total{account=\"ann@example.org\"} 8",
        "mailweir_budget_used_bytes{account=\"ann@example.org\",direction=\"download\"} 1",
        "mailweir_budget_limit_bytes{account=\"ann@example.org\",direction=\"download\"} 2",
        "mailweir_budget_used_bytes{account=\"ann@example.org\",direction=\"upload\"} 3",
        "mailweir_budget_limit_bytes{account=\"ann@example.org\",direction=\"upload\"} 0",
        "mailweir_body_reads_total{outcome=\"hit\"} 0",
        "mailweir_body_reads_total{outcome=\"filled\"} 0",
        "mailweir_body_reads_total{outcome=\"joined\"} 1",
        "mailweir_body_reads_total{outcome=\"refused\"} 0",
        "mailweir_cache_bytes 99",
        "mailweir_sync_lag_seconds{account=\"ann@example.org\"} 1.5",
        "mailweir_needs_login{account=\"ann@example.org\"} 1",
        "mailweir_commands_total{protocol=\"imap\",command=\"fetch\",outcome=\"ok\"} 2",
        "mailweir_command_seconds_count 2",
        "mailweir_pop3_deletions_total{account=\"ann@example.org\",policy=\"hide\"} 12",
        "mailweir_command_seconds_bucket{le=\"+Inf\"} 2",
    ];
    for line in lines {
        assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn guards_give_back_and_accounts_leave() {
    let metrics = Metrics::new(AccountLabels::Address);
    drop(metrics.session(Protocol::Smtp));
    assert!(metrics.encode().contains("mailweir_client_sessions{protocol=\"smtp\"} 0\n"));
    let account = metrics.account("bob");
    account.login(Login::Failed);
    assert!(metrics.encode().contains("account=\"bob\""));
    metrics.remove_account("bob");
    assert!(!metrics.encode().contains("bob"));
    account.sent(1);
}

#[test]
fn a_label_cannot_break_out() {
    let metrics = Metrics::new(AccountLabels::Address);
    let _account = metrics.account("a\"}\n");
    let text = metrics.encode();
    assert!(text.contains("account=\"a\\\"}\\n\""), "{text}");
}

#[test]
fn an_address_is_no_label() {
    let metrics = Metrics::default();
    metrics.account("Ann@example.org").sent(1);
    metrics.pop3_deleted("ann@example.org", "hide", 1);
    let text = metrics.encode_plain();
    let id = account_id("ANN@example.org");
    assert!(id.len() == 10 && id != account_id("bob@example.org"), "{id}");
    assert!(text.contains(&format!("mailweir_upstream_sent_bytes_total{{account=\"{id}\"}} 1\n")), "{text}");
    assert!(!text.contains("example"), "{text}");
    metrics.remove_account("ann@example.org");
    assert!(!metrics.encode().contains(&id));
}
