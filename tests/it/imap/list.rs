//! LIST in its forms, LSUB, XLIST: names, hierarchy, roles and subscriptions are the upstream's (RFC 3501 §6.3.8,
//! RFC 5258, RFC 5819, RFC 6154).

use std::collections::BTreeMap;

use crate::everywhere;
use crate::harness::answer::{Answer, Status, listed};
use crate::harness::client::Client;
use crate::harness::world::{Kind, World};

everywhere!(patterns_name_what_upstream_has, roles, subscriptions, list_status, folders_made_later_are_seen);

const FOLDERS: &[&str] = &["Work", "Work/2024", "Work/2024/May", "Work/2025", "Workshop", "&BB8EQAQ4BDIENQRC-", "a&-b"];

fn fill(c: &mut Client) {
    for name in FOLDERS {
        c.cmd_ok(&format!("CREATE \"{name}\""));
    }
    for name in ["INBOX", "Work", "Work/2024", "&BB8EQAQ4BDIENQRC-"] {
        c.cmd_ok(&format!("SUBSCRIBE \"{name}\""));
    }
}

/// Selectable names; a `\NonExistent` parent may be told or not.
fn names(answer: &Answer, word: &str) -> Vec<String> {
    let all = answer.untagged.iter().filter_map(|l| listed(l, word));
    let mut names: Vec<_> =
        all.filter(|(a, _, _)| !a.iter().any(|a| a == "\\nonexistent" || a == "\\noselect")).map(|l| l.2).collect();
    names.sort();
    names
}

fn patterns_name_what_upstream_has(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    let root = c.cmd_ok("LIST \"\" \"\"");
    let (attributes, delimiter, _) = listed(&root.untagged[0], "LIST").expect("LIST");
    assert!(attributes.iter().any(|a| a == "\\noselect"), "{attributes:?}");
    assert_eq!(delimiter.as_deref(), Some("/"));
    for pattern in [
        "*",
        "%",
        "Work/*",
        "Work/%",
        "Work*",
        "W%",
        "Work",
        "Nowhere",
        "work",
        "*2024*",
        "%/%",
        "a&-b",
        "&BB8EQAQ4BDIENQRC-",
    ] {
        let command = format!("LIST \"\" \"{pattern}\"");
        assert_eq!(names(&c.cmd_ok(&command), "LIST"), names(&up.cmd_ok(&command), "LIST"), "{command}");
    }
    if !world.is_straight() {
        // In any letters (RFC 3501 §5.1); Cyrus finds it in capitals only.
        assert_eq!(names(&c.cmd_ok("LIST \"\" inbox"), "LIST"), ["INBOX"]);
    }
    let command = "LIST \"Work/\" \"%\"";
    assert_eq!(names(&c.cmd_ok(command), "LIST"), ["Work/2024", "Work/2025"]);
    let children = |answer: Answer| -> BTreeMap<String, bool> {
        let all = answer.untagged.iter().filter_map(|l| listed(l, "LIST"));
        all.map(|(a, _, name)| (name, a.iter().any(|a| a == "\\haschildren"))).collect()
    };
    let told = children(c.cmd_ok("LIST \"\" *"));
    assert!(told["Work"] && told["Work/2024"] && !told["Work/2025"] && !told["Workshop"], "{told:?}");
    assert_eq!(c.cmd("LIST").status, Status::Bad);
    assert_eq!(c.cmd("LIST \"\"").status, Status::Bad);
}

fn roles(kind: Kind) {
    let world = World::new(kind, fill);
    let mut c = world.client();
    let told = |answer: &Answer, word: &str| -> BTreeMap<String, Vec<String>> {
        answer.untagged.iter().filter_map(|l| listed(l, word)).map(|(a, _, n)| (n, a)).collect()
    };
    // A bare server cannot tell roles: names in plain English are then taken for them. Cyrus could and tells none.
    if world.is_straight() || kind == Kind::Cyrus {
        assert!(names(&c.cmd_ok("LIST \"\" *"), "LIST").contains(&"Sent".to_owned()));
    } else {
        let all = told(&c.cmd_ok("XLIST \"\" *"), "XLIST");
        assert!(all["Sent"].contains(&"\\sent".to_owned()) && all["Trash"].contains(&"\\trash".to_owned()), "{all:?}");
        let all = told(&c.cmd_ok("LIST \"\" * RETURN (SPECIAL-USE CHILDREN)"), "LIST");
        assert!(all["Drafts"].contains(&"\\drafts".to_owned()), "{all:?}");
        let chosen = told(&c.cmd_ok("LIST (SPECIAL-USE) \"\" *"), "LIST");
        assert!(chosen.contains_key("Sent") && !chosen.contains_key("Work"), "{chosen:?}");
    }
}

fn subscriptions(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    for pattern in ["*", "%", "Work*", "Work/%"] {
        let command = format!("LSUB \"\" \"{pattern}\"");
        assert_eq!(names(&c.cmd_ok(&command), "LSUB"), names(&up.cmd_ok(&command), "LSUB"), "{command}");
    }
    let subscribed = names(&c.cmd_ok("LIST (SUBSCRIBED) \"\" *"), "LIST");
    assert!(
        subscribed.contains(&"Work/2024".to_owned()) && !subscribed.contains(&"Workshop".to_owned()),
        "{subscribed:?}"
    );
    let all = c.cmd_ok("LIST \"\" (INBOX Work%) RETURN (SUBSCRIBED)");
    let marked: BTreeMap<_, _> =
        all.untagged.iter().filter_map(|l| listed(l, "LIST")).map(|(a, _, n)| (n, a)).collect();
    assert!(marked["Work"].contains(&"\\subscribed".to_owned()), "{marked:?}");
    assert!(!marked["Workshop"].contains(&"\\subscribed".to_owned()), "{marked:?}");
}

fn list_status(kind: Kind) {
    let world = World::new(kind, |c| {
        fill(c);
        c.append("Work", "", b"Subject: a\r\n\r\na\r\n");
    });
    let mut c = world.client();
    let answer = c.cmd_ok("LIST \"\" Work* RETURN (STATUS (MESSAGES UNSEEN))");
    let status: Vec<_> = answer.lines().into_iter().filter(|l| l.starts_with("* STATUS")).collect();
    assert_eq!(status.len(), 5, "{status:?}");
    assert!(
        status.iter().any(|l| (l.contains(" Work ") || l.contains(" \"Work\" "))
            && l.contains("MESSAGES 1")
            && l.contains("UNSEEN 1")),
        "{status:?}"
    );
}

fn folders_made_later_are_seen(kind: Kind) {
    let world = World::new(kind, fill);
    let (mut c, mut up) = (world.client(), world.straight());
    c.cmd_ok("SELECT INBOX");
    up.cmd_ok("CREATE Later");
    crate::harness::wait_for("the new folder", || names(&c.cmd_ok("LIST \"\" Later"), "LIST") == ["Later"]);
    up.cmd_ok("RENAME Later Latest");
    crate::harness::wait_for("the new name", || names(&c.cmd_ok("LIST \"\" Late*"), "LIST") == ["Latest"]);
    c.cmd_ok("STATUS Latest (MESSAGES)");
    up.cmd_ok("DELETE Latest");
    crate::harness::wait_for("the end of it", || names(&c.cmd_ok("LIST \"\" Late*"), "LIST").is_empty());
}
